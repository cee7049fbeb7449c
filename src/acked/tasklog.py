"""What one attempt logs, as far as it is kept: its beginning and its end."""

from __future__ import annotations

from collections import deque

HALF = 16 * 1024
"""Characters kept of the beginning, and as many of the end."""

LINE_LIMIT = 4 * 1024
"""Characters kept of one entry."""


class LogLines:
    """The lines of one attempt, in bounded memory."""

    __slots__ = ("_first", "_last", "_left_out", "_size_first", "_size_last")

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque()
        self._size_first = 0
        self._size_last = 0
        self._left_out = 0

    def add(self, line: str) -> None:
        """Keep *line*. Once there is too much, what stands in the middle goes."""
        size = len(line) + 1
        if not self._last and self._size_first + size <= HALF:
            self._first.append(line)
            self._size_first += size
            return
        self._last.append(line)
        self._size_last += size
        while self._size_last > HALF:
            self._size_last -= len(self._last.popleft()) + 1
            self._left_out += 1

    def text(self) -> str:
        """All that is kept."""
        gap = [f"… {self._left_out} lines left out …"] if self._left_out else []
        return "\n".join([*self._first, *gap, *self._last])


def cut(line: str) -> str:
    """*line*, not longer than one may be."""
    if len(line) <= LINE_LIMIT:
        return line
    return f"{line[:LINE_LIMIT]}… ({len(line) - LINE_LIMIT} characters left out)"
