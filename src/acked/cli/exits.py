"""Exit codes, and errors as one line: ``acked: <what>: <remedy>``."""

from __future__ import annotations

from enum import IntEnum

from acked.errors import (
    AckedError,
    BrokerError,
    ConfigurationError,
    TaskNotFound,
)
from acked.escaping import one_line
from acked.redaction import redact_text


class Exit(IntEnum):
    """What the exit code of `acked` says."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    NOT_FOUND = 4
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.FINE: "done",
    Exit.FAILED: "not done: a check failed, or no task was in a state that allows it",
    Exit.USAGE: "wrong or ambiguous call; nothing was done",
    Exit.UNAVAILABLE: "the broker is away or failed",
    Exit.NOT_FOUND: "no such task or queue",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}


class Stop(Exception):
    """Ends the command.

    Args:
        text: One line: what is wrong, and the remedy.
        code: The exit code.
        details: Further lines, below it.
    """

    def __init__(self, text: str, code: Exit, details: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.code = code
        self.details = details


def code_of(error: AckedError) -> Exit:
    """The exit code that *error* leads to."""
    if isinstance(error, BrokerError):
        return Exit.UNAVAILABLE
    if isinstance(error, ConfigurationError):
        return Exit.USAGE
    if isinstance(error, TaskNotFound):
        return Exit.NOT_FOUND
    return Exit.FAILED


def line_for(text: str) -> str:
    """*text* as an error line, with nothing in it that is secret or steers a terminal."""
    return f"acked: {one_line(redact_text(text))}"


def table() -> str:
    """The exit codes for a help text."""
    rows = [f"  {code:<4} {meaning}" for code, meaning in MEANINGS.items()]
    return "\b\nExit codes:\n" + "\n".join(rows)
