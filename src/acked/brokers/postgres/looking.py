"""Where a process begins to look for ready tasks: at their beginning, as long as that is quick.

Tasks are claimed in the order of an index. What was claimed leaves a dead entry at its beginning,
which VACUUM removes soon. It cannot as long as any transaction of that PostgreSQL instance is older
than the claim: a report or a dump that takes an hour keeps an hour of dead entries, and each claim
would walk over all of them first: 18 ms for 200,000 of them, where a claim takes 0.6 ms.

So each process remembers how far it has claimed in each priority of a queue, its *marks*. Once a
look from the beginning was slow, looks begin at the marks, and those from the beginning are so rare
that they take a twentieth of the time, but come once a second. What comes to lie before a mark is a
task that waits again or was stored late; it waits up to that second longer. What this process put
back itself lets it look from the beginning at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from acked.brokers.postgres.values import float8s, int2s, int8s, texts

MANY = 5_000
"""Entries walked over for nothing from which on a look is a slow one: half a millisecond."""

PAUSE_PER_ENTRY = 2e-6
"""Seconds without a look from the beginning for each of them: about twenty times what it takes."""

LONGEST = 1.0
"""Seconds after which there is one in any case."""

Position = tuple[float, int]
"""`due` and `seq` of a task; those of its priority are claimed in this order."""

LAST_SEQ = 2**63 - 1


class Looks:
    """The marks of one process. Threads may use it at once: at worst one looks too early."""

    def __init__(self) -> None:
        self._marks: dict[str, dict[int, Position]] = {}
        self._full_from: dict[str, float] = {}

    def parameters(self, queues: Sequence[str]) -> list[bytes]:
        """What ``take`` and ``next_work`` are told: the marks of those of *queues* that are not to
        be looked at from the beginning now."""
        now = time.monotonic()
        marks = [
            (queue, priority, *position)
            for queue in queues
            if self._full_from.get(queue, 0.0) > now
            for priority, position in list(self._marks.get(queue, {}).items())
        ]
        return [
            texts([mark[0] for mark in marks]),
            int2s([mark[1] for mark in marks]),
            float8s([mark[2] for mark in marks]),
            int8s([mark[3] for mark in marks]),
        ]

    def claimed(self, queue: str, priority: int, position: Position) -> None:
        """A task there was claimed; those before it were as well, or are not there yet."""
        self._marks.setdefault(queue, {})[priority] = position

    def looked(self, queue: str, walked: int, found: bool, now: float) -> None:
        """A look at *queue* walked over *walked* entries for nothing.

        Args:
            found: Whether there was a task.
            now: What time it was, by the clock of `due`.
        """
        if walked < MANY:
            return
        if not found:
            # Nothing waits. What is sent from now on is due later than this.
            marks = self._marks.setdefault(queue, {})
            for priority in {0, *marks}:
                marks[priority] = max(marks.get(priority, (0.0, 0)), (now - LONGEST, LAST_SEQ))
        self._full_from[queue] = time.monotonic() + min(walked * PAUSE_PER_ENTRY, LONGEST)

    def begin_anew(self, queues: Iterable[str]) -> None:
        """Something waits again in *queues*."""
        for queue in queues:
            self._full_from.pop(queue, None)


def note(looks: Looks, rows: Sequence[tuple[Any, ...]]) -> None:
    """Tell *looks* what ``take`` gave: tasks in their order, and a row without `seq` after those of
    each queue."""
    last: tuple[Any, ...] | None = None
    for row in rows:
        seq, queue = row[0], row[8]
        if seq is None:
            looks.looked(queue, row[3], last is not None and last[8] == queue, row[10])
        if last is not None and (seq is None or row[11] != last[11]):
            looks.claimed(last[8], last[11], (last[12], last[0]))
        last = None if seq is None else row
