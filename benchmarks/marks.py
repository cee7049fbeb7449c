"""When each task ran: 16 bytes of shared memory per execution, the same for every queue measured.

A process that runs tasks keeps one file, mapped into memory. Its first word counts the executions;
then two words follow for each: the task's number and the moment its first line ran, as
`time.monotonic_ns` gives it (one clock for all processes of a host). A mark costs well under a
microsecond and no system call, so it hides nothing of what is measured.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

CAPACITY = 1_000_000
"""Executions one process can mark. The file is sparse: what is not used takes no disk."""

_WORD = 8
_words: memoryview | None = None


def mark(number: int) -> None:
    """The first line of each measured task."""
    global _words  # noqa: PLW0603 - a lookup in a container would cost more than the mark
    if _words is None:
        _words = _open_own()
    count = _words[0]
    _words[2 * count + 1] = number
    _words[2 * count + 2] = time.monotonic_ns()
    _words[0] = count + 1


def _open_own() -> memoryview:
    path = Path(os.environ["BENCH_MARKS"]) / str(os.getpid())
    size = (1 + 2 * CAPACITY) * _WORD
    with path.open("x+b") as file:
        file.truncate(size)
        return memoryview(mmap.mmap(file.fileno(), size)).cast("Q")


class Marks:
    """What all processes of a run have marked, read from outside."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def count(self) -> int:
        """How many executions there were so far."""
        return sum(_count(path) for path in self._directory.iterdir())

    def read(self) -> list[tuple[int, int]]:
        """Number and start (monotonic nanoseconds) of each execution, in order of the starts."""
        found: list[tuple[int, int]] = []
        for path in self._directory.iterdir():
            with path.open("rb") as file:
                (count,) = struct.unpack("Q", file.read(_WORD))
                words = memoryview(file.read(2 * count * _WORD)).cast("Q")
            found.extend(zip(words[::2], words[1::2], strict=True))
        return sorted(found, key=lambda execution: execution[1])


def _count(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(_WORD)
    return int(struct.unpack("Q", head)[0]) if len(head) == _WORD else 0
