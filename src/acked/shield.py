"""Sections that a soft time limit must not cut in two.

A soft limit is an exception that may arise between any two bytecodes of a task. Inside acked's own
writes (sending a message, saving a checkpoint) it would leave the caller not knowing whether the
write happened. There it is put off to the end of the section.
"""

from __future__ import annotations

import threading
from types import TracebackType

from acked.errors import SoftTimeLimitExceeded

_depth: dict[int, int] = {}
_put_off: set[int] = set()


class shielded:  # noqa: N801 - reads as a statement: `with shielded():`
    """``with shielded():`` puts a soft limit of this thread off to the end of the block."""

    __slots__ = ("_thread",)

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        _depth[self._thread] = _depth.get(self._thread, 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        thread = self._thread
        left = _depth[thread] - 1
        if left:
            _depth[thread] = left
            return
        del _depth[thread]
        if thread in _put_off:
            _put_off.discard(thread)
            raise SoftTimeLimitExceeded


def put_off(thread: int) -> bool:
    """Whether *thread* is in a shielded section; if so its soft limit strikes at the end of it."""
    if _depth.get(thread):
        _put_off.add(thread)
        return True
    return False


def forget(thread: int) -> None:
    """The task of *thread* has ended; a limit that was put off is not the next one's."""
    _put_off.discard(thread)
