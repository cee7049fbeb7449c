"""What the broker in memory keeps, and how it moves there.

``_records``   task id -> `Record`, in the order of their tags
``_attempts``  task id -> list of `Attempt`
``_saved``     task id -> checkpoint
``_lines``     queue -> `Line`: heaps of what waits, and whether the queue is paused
``_running``   ids of what is RUNNING
``_agreed``    name -> what `Broker.exchange` was given last
``_counters``  (minute, queue, task, what) -> how many
``_leases``    worker -> steady-clock time at which its lease runs out
``_beats``     worker -> its latest `Beat`

A heap entry is dropped when it comes up and no longer says where its task stands; nothing is
ever searched for in a heap.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from acked import record as change
from acked.bells import Bells
from acked.broker import DEFAULT_LEASE, Beat, worker_of
from acked.clock import Clock
from acked.delivery import Delivery, State
from acked.record import Attempt, Record


class Line:
    """One queue: `ready` by priority, then age; `later` by due time; each entry ends in an id."""

    def __init__(self) -> None:
        self.ready: list[tuple[int, float, int, str]] = []
        self.later: list[tuple[float, int, str]] = []
        self.paused = False


class Store:
    """The records, under one lock, which whoever calls a method here holds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._records: dict[str, Record] = {}
        self._attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
        self._saved: dict[str, bytes] = {}
        self._lines: defaultdict[str, Line] = defaultdict(Line)
        self._running: set[str] = set()
        self._agreed: dict[str, bytes] = {}
        self._counters: Counter[tuple[int, str, str, str]] = Counter()
        self._leases: dict[str, float] = {}
        self._beats: dict[str, Beat] = {}
        self._tokens = itertools.count(1)
        self._tags = itertools.count(1)
        self._bells = Bells()

    def _store(self, record: Record) -> None:
        self._records[record.id] = record
        line = self._lines[record.queue]
        if record.state is State.QUEUED:
            heapq.heappush(line.ready, _place(record))
        elif record.state is State.SCHEDULED:
            heapq.heappush(line.later, (record.due, record.tag, record.id))
        if record.state is State.RUNNING:
            self._running.add(record.id)
        else:
            self._running.discard(record.id)

    def _hand_out(self, waiting: Record, consumer: str, now: float) -> Delivery:
        held = change.claim(waiting, token=next(self._tokens), consumer=consumer, now=now)
        self._store(held)
        return change.as_delivery(held)

    def _delete(self, doomed: Iterable[Record]) -> int:
        ids = [record.id for record in doomed]
        for task_id in ids:
            del self._records[task_id]
            self._attempts.pop(task_id, None)
            self._saved.pop(task_id, None)
        self._bells.ring()
        return len(ids)

    def _open_lines(self, queues: Sequence[str]) -> Iterable[Line]:
        """Those of *queues* that are not paused, what is due in them made ready."""
        now = self._clock.now()
        for name in queues:
            line = self._lines[name]
            if not line.paused:
                self._make_due_ready(line, now)
                yield line

    def _make_due_ready(self, line: Line, now: float) -> None:
        while line.later and line.later[0][0] <= now:
            due, _, task_id = heapq.heappop(line.later)
            record = self._records.get(task_id)
            if record is not None and record.state is State.SCHEDULED and record.due == due:
                self._store(change.due(record))

    def _first(self, line: Line) -> Record | None:
        """The task to run next; what no longer waits there is dropped on the way."""
        while line.ready:
            record = self._records.get(line.ready[0][-1])
            if (
                record is not None
                and record.state is State.QUEUED
                and _place(record) == line.ready[0]
            ):
                return record
            heapq.heappop(line.ready)
        return None

    def _held(self) -> list[Record]:
        held = [self._records[task_id] for task_id in self._running]
        return sorted(held, key=lambda record: record.tag)

    def _held_by(self, holder: str) -> list[Record]:
        """What *holder*, a worker or one consumer, holds."""
        return [
            held for held in self._held() if holder in (held.consumer, worker_of(held.consumer))
        ]

    def _held_with(self, task_id: str, token: int) -> Record | None:
        record = self._records.get(task_id)
        if record is None or record.state is not State.RUNNING or record.token != token:
            return None
        return record

    def _known(self, task_ids: Sequence[str]) -> list[Record]:
        return [self._records[each] for each in dict.fromkeys(task_ids) if each in self._records]

    def _seize(self, held: list[Record], by: str) -> list[Delivery]:
        deliveries = []
        for before in held:
            after = change.seize(before, token=next(self._tokens), consumer=by)
            self._store(after)
            deliveries.append(change.as_delivery(after, seized_from=before))
        if deliveries:
            self._expect_beats(by)
        return deliveries

    def _expect_beats(self, consumer: str) -> None:
        """A worker that takes tasks before its first beat has a lease all the same."""
        self._leases.setdefault(worker_of(consumer), self._clock.steady() + DEFAULT_LEASE)


def _place(record: Record) -> tuple[int, float, int, str]:
    return -record.priority, record.due, record.tag, record.id
