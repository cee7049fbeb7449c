"""What costs too much to read for each page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

SHARE = 0.05
"""Share of one core that such reading may take, however many pages are open. The quicker of the
last two readings counts: a broker that hung once has not become expensive to read."""


class Cached(Generic[T]):
    """Something that is read again after a while, the later the longer it takes.

    Args:
        read: Reads it.
        every: Seconds between two readings, at least.
    """

    def __init__(self, read: Callable[[], T], *, every: float) -> None:
        self._read = read
        self._every = every
        self._value: tuple[T] | None = None
        self._took = 0.0
        self._until = float("-inf")

    def get(self) -> T:
        """What was read a moment ago, or now."""
        began = time.monotonic()
        if self._value is None or began >= self._until:
            self._value = (self._read(),)
            ended = time.monotonic()
            before, self._took = self._took, ended - began
            self._until = ended + max(self._every, min(self._took, before) / SHARE)
        return self._value[0]

    def forget(self) -> None:
        """Something was changed: read again."""
        self._until = float("-inf")
