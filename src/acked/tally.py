"""What is counted of attempts, minute by minute: how many ended how, how long they waited and ran.

Each worker counts what it settles and adds it to the broker's counters every few seconds, so that
a dashboard reads a day without reading a million records. A count that was not yet written is lost
with its process: counters are for looking at, and the records alone say what became of a task.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from acked.delivery import Event, Settlement

KEPT_MINUTES = 7 * 24 * 60
"""Minutes after which a counter is forgotten."""

STEPS = 4
"""Buckets for each doubling of a time: a percentile read from them is at most 19 % too long."""

SHORTEST = 0.001
"""Seconds that fall into the first bucket, as does everything shorter."""


class Count(msgspec.Struct, frozen=True):
    """*number* attempts of one kind within one minute.

    Args:
        minute: Minutes since the epoch.
        queue, task: Whose attempts.
        what: ``success``, ``failure``, ``retry``, ``revoked``, ``loss``, ``interrupted``; or
            ``wait:B`` and ``run:B``, the times in bucket B.
    """

    minute: int
    queue: str
    task: str
    what: str
    number: int


def bucket_of(seconds: float) -> int:
    """The bucket of a time."""
    if seconds <= SHORTEST:
        return 0
    return math.ceil(math.log2(seconds / SHORTEST) * STEPS)


def longest_in(bucket: int) -> float:
    """The longest time in *bucket*, seconds."""
    return float(SHORTEST * 2.0 ** (bucket / STEPS))


def percentile(times: Iterable[tuple[int, int]], share: float) -> float | None:
    """A time that *share* of all did not exceed, or None where there are none.

    Args:
        times: Buckets, and how many fell into each.
        share: 0.5 for the median, 0.95, ...
    """
    ordered = sorted(times)
    rank = share * sum(number for _, number in ordered)
    seen = 0
    for bucket, number in ordered:
        seen += number
        if seen >= rank and number:
            return longest_in(bucket)
    return None


def kind_of(settlement: Settlement) -> str | None:
    """What an attempt that ended so is counted as; None for what never started."""
    if settlement.started is None and settlement.event is not Event.FAIL:
        return None
    if settlement.loss:
        return "loss"
    match settlement.event:
        case Event.SUCCEED:
            return "success"
        case Event.FAIL:
            return "failure"
        case Event.REVOKE:
            return "revoked"
        case Event.RETRY:
            return "retry"
        case _:
            return "retry" if settlement.counts else "interrupted"


class _Counted:
    """What is counted of one task's attempts in one minute and queue."""

    __slots__ = ("ends", "ran", "waited")

    def __init__(self) -> None:
        self.ends: defaultdict[str, int] = defaultdict(int)
        self.ran: defaultdict[int, int] = defaultdict(int)
        self.waited: defaultdict[int, int] = defaultdict(int)

    def named(self) -> Iterator[tuple[str, int]]:
        """Each number, by what `Count` calls it."""
        yield from self.ends.items()
        yield from ((f"run:{bucket}", number) for bucket, number in self.ran.items())
        yield from ((f"wait:{bucket}", number) for bucket, number in self.waited.items())


class Tally:
    """Counts of one process, gathered until they are written. Safe from any thread."""

    def __init__(self) -> None:
        self._counted: defaultdict[tuple[int, str, str], _Counted] = defaultdict(_Counted)
        self._lock = threading.Lock()

    def note(
        self, settlement: Settlement, *, queue: str, task: str, waited: float | None = None
    ) -> None:
        """An attempt ended.

        Args:
            queue, task: Whose.
            waited: Seconds between the moment it was due and its start, for a first attempt.
        """
        what = kind_of(settlement)
        if what is None:
            return
        minute = int(settlement.at // 60)
        with self._lock:
            counted = self._counted[minute, queue, task]
            counted.ends[what] += 1
            if what == "loss" and settlement.event is Event.FAIL:
                counted.ends["failure"] += 1
            # When a lost attempt ended nobody knows: it may have been noticed much later.
            if settlement.started is not None and not settlement.loss:
                counted.ran[bucket_of(settlement.at - settlement.started)] += 1
            if waited is not None:
                counted.waited[bucket_of(waited)] += 1

    def take(self) -> list[Count]:
        """What was counted since the last time."""
        with self._lock:
            everything, self._counted = self._counted, defaultdict(_Counted)
        return [
            Count(*where, what, number)
            for where, counted in everything.items()
            for what, number in counted.named()
        ]
