"""When each task ran: 16 bytes of shared memory per execution, the same for every queue measured.

A thread that runs tasks keeps one file, mapped into memory. Its first word counts the executions;
then two words follow for each: the task's number and the moment its first line ran, as
`time.monotonic_ns` gives it (one clock for all processes of a host). A mark costs well under a
microsecond and no system call, so it hides nothing of what is measured.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import threading
import time
from pathlib import Path

CAPACITY = 1_000_000
"""Executions one thread can mark. The file is sparse: what is not used takes no disk."""

_WORD = 8


class _Own(threading.local):
    words: memoryview | None = None


_own = _Own()
_numbers = itertools.count()


def mark(number: int) -> None:
    """The first line of each measured task."""
    words = _own.words
    if words is None:
        words = _own.words = _open_own()
    count = words[0]
    words[2 * count + 1] = number
    words[2 * count + 2] = time.monotonic_ns()
    words[0] = count + 1


def _open_own() -> memoryview:
    # Threads' own numbers are used again once a thread has ended.
    path = Path(os.environ["BENCH_MARKS"]) / f"{os.getpid()}-{next(_numbers)}"
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
