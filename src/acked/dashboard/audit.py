"""Who did what: one line of JSON at the logger ``acked.audit`` for each action, and the last ones
in memory for the page that shows them."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque

import msgspec

from acked.escaping import one_line
from acked.redaction import redact_text

logger = logging.getLogger("acked.audit")

KEPT = 500
"""Entries for the page. The log has them all."""

TARGET_LIMIT = 2_000
"""Characters of what it was done to."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that somebody did, or tried.

    Args:
        number: From 1, in this process.
        at: Wall-clock seconds.
        who: The user.
        action: ``retry``, ``login``, ...
        target: What it was done to: an id, a queue, a filter.
        count: How many tasks it touched; None where it is not about a number of tasks.
        source: The address it came from.
        outcome: ``done``, or why not.
    """

    number: int
    at: float
    who: str
    action: str
    target: str
    count: int | None
    source: str
    outcome: str


class Audit:
    """The record of actions. Safe from any thread."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def note(
        self, *, who: str, action: str, source: str, target: str = "", count: int | None = None,
        outcome: str = "done",
    ) -> Entry:  # fmt: skip
        """Write an entry down."""
        with self._lock:
            entry = Entry(
                number=next(self._numbers), at=time.time(), who=one_line(who[:200]), action=action,
                target=_shown(target), count=count, source=source, outcome=_shown(outcome),
            )  # fmt: skip
            self._entries.append(entry)
        # JSON escapes line breaks, so that no name or filter can forge a line.
        logger.info(
            "%s", msgspec.json.encode(entry).decode(), extra={"audit": msgspec.to_builtins(entry)}
        )
        return entry

    def latest(self) -> list[Entry]:
        """The newest first."""
        with self._lock:
            return list(reversed(self._entries))

    def entry(self, number: int) -> Entry | None:
        """One of those in memory."""
        with self._lock:
            return next((each for each in self._entries if each.number == number), None)


def _shown(text: str) -> str:
    return one_line(redact_text(text[:TARGET_LIMIT]))
