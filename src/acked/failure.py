"""Exceptions as text and back: `failure_of` in the worker, `rebuild` where a result is read.

Only classes of the allow-list below come back as themselves. Importing a class that stored data
names runs code (CVE-2021-23727), so every other one comes back as `RemoteError`, which is text.
"""

from __future__ import annotations

import ast
import builtins
import traceback
from pathlib import Path
from types import TracebackType

from acked import errors
from acked.delivery import Failure
from acked.errors import RemoteError

TEXT_LIMIT = 8 * 1024
"""Characters of an exception's text that are kept."""

TRACEBACK_LIMIT = 64 * 1024
"""Characters of a formatted traceback that are kept, from both ends."""

_FRAMES = 50
_PACKAGE = str(Path(errors.__file__).parent)


def name_of(kind: type[BaseException]) -> str:
    """``ValueError``, ``WorkerLostError``, ``shop.errors.Declined``."""
    name = kind.__qualname__
    if kind.__module__ == "builtins":
        return name
    if kind.__module__ == errors.__name__ and not hasattr(builtins, name):
        return name
    return f"{kind.__module__}.{name}"


def _rebuildable() -> dict[str, type[Exception]]:
    known: dict[str, type[Exception]] = {}
    for value in (*vars(builtins).values(), *vars(errors).values()):
        if isinstance(value, type) and issubclass(value, Exception):
            known[name_of(value)] = value
    # Raised out of a coroutine or generator the first two turn into something else; the third
    # stands for another exception.
    for name in ("StopIteration", "StopAsyncIteration", "RemoteError"):
        del known[name]
    return known


REBUILT = _rebuildable()
"""Exceptions that come back as themselves, by the name `name_of` gives them."""


def failure_of(error: BaseException) -> Failure:
    """*error* as text, whatever its own methods do, cut to the limits of this module."""
    frames = _task_frames(error.__traceback__)
    try:
        shown = traceback.TracebackException(
            type(error), error, frames, limit=-_FRAMES, compact=True
        )
        trace = "".join(line[:TRACEBACK_LIMIT] for line in shown.format())
    except BaseException:  # made with __str__, __notes__ and attributes of the error and its causes
        trace = "".join(traceback.format_tb(frames, limit=-_FRAMES))
    return Failure(
        _storable(name_of(type(error)), TEXT_LIMIT),
        text_of(error),
        _storable(trace, TRACEBACK_LIMIT),
    )


class ExceptionInfo:
    """What hooks and signals get as `einfo`: `exception`, `type`, `traceback` (text) and `tb`, as
    in Celery."""

    def __init__(self, error: BaseException | None) -> None:
        self.exception = error
        self.type = type(error)
        self.tb: TracebackType | None = error.__traceback__ if error else None

    @property
    def traceback(self) -> str:
        return failure_of(self.exception).traceback if self.exception else ""

    def __str__(self) -> str:
        return self.traceback


def _task_frames(frames: TracebackType | None) -> TracebackType | None:
    """*frames* from the task's own on, without those of the worker that called it."""
    own = frames
    while own is not None and own.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        own = own.tb_next
    return own or frames


def text_of(value: object) -> str:
    """``str(value)``, whatever its methods do, as text that can be stored."""
    try:
        text = str(value)
    except BaseException as error:
        text = f"<its text could not be made: {type(error).__name__} in __str__>"
    return _storable(text, TEXT_LIMIT)


def _storable(text: str, limit: int) -> str:
    if len(text) > limit:
        half = limit // 2
        left_out = len(text) - 2 * half
        text = f"{text[:half]}\n… {left_out} characters left out …\n{text[-half:]}"
    # Lone surrogates cannot be encoded, so they could not be stored either.
    return text.encode("utf-8", "replace").decode("utf-8")


class RemoteTraceback(Exception):
    """The traceback in the worker, as text: the `__cause__` of what `AsyncResult.get` raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def rebuild(failure: Failure) -> Exception:
    """The exception to raise for *failure*, with the worker's traceback as its cause."""
    error = _rebuilt(failure) or RemoteError(failure.type, failure.message, failure.traceback)
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _rebuilt(failure: Failure) -> Exception | None:
    kind = REBUILT.get(failure.type)
    if kind is None:
        return None
    argument: object = failure.message
    if issubclass(kind, KeyError):
        # str(KeyError("x")) is the key's repr; rebuilt from that it would be quoted twice.
        try:
            argument = ast.literal_eval(failure.message)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            argument = failure.message
    try:
        return kind(argument) if failure.message else kind()
    except TypeError:  # UnicodeDecodeError, ExceptionGroup: more arguments than a text
        return None
