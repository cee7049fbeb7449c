"""The broker that lives in this process: for tests and for running tasks inline.

It is `acked.record` under one lock, and the shortest answer to what a broker does. Nothing
outlives the process, and no other process sees it.

What it keeps
    ``_records``   task id -> `Record`, in the order of their tags
    ``_attempts``  task id -> list of `Attempt`
    ``_saved``     task id -> checkpoint
    ``_lines``     queue -> `_Line`: heaps of what waits, and whether the queue is paused
    ``_running``   ids of what is RUNNING
    ``_counters``  (minute, queue, task, what) -> how many
    ``_leases``    worker -> steady-clock time at which its lease runs out
    ``_beats``     worker -> its latest `Beat`

A heap entry is dropped when it comes up and no longer says where its task stands; nothing is
ever searched for in a heap.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from acked import record as change
from acked.bells import Bells
from acked.broker import (
    DEFAULT_LEASE,
    Admission,
    Beat,
    Capabilities,
    Claim,
    Condition,
    Filter,
    Order,
    QueueCounts,
    WorkerRecord,
    worker_of,
)
from acked.clock import Clock, SystemClock
from acked.delivery import Delivery, Settlement, State
from acked.message import Message, encode
from acked.record import REVOKE_TERMINATE, Attempt, Progress, Record, seen_of
from acked.tally import KEPT_MINUTES, Count


class _Line:
    """One queue: `ready` by priority, then age; `later` by due time; each entry ends in an id."""

    def __init__(self) -> None:
        self.ready: list[tuple[int, float, int, str]] = []
        self.later: list[tuple[float, int, str]] = []
        self.paused = False


class MemoryBroker:
    """`Broker` and `Records` in this process's memory.

    Args:
        clock: Where it reads the time; the host's clocks unless a test gives its own.
    """

    url = "memory://"
    address = url
    capabilities = Capabilities(shared=False, durable=False, host_local=True)
    presence_dir: Path | None = None

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._lock = threading.RLock()
        self._records: dict[str, Record] = {}
        self._attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
        self._saved: dict[str, bytes] = {}
        self._lines: defaultdict[str, _Line] = defaultdict(_Line)
        self._running: set[str] = set()
        self._agreed: dict[str, bytes] = {}
        self._counters: Counter[tuple[int, str, str, str]] = Counter()
        self._leases: dict[str, float] = {}
        self._beats: dict[str, Beat] = {}
        self._tokens = itertools.count(1)
        self._tags = itertools.count(1)
        self._bells = Bells()

    @property
    def clock(self) -> Clock:
        return self._clock

    def setup(self) -> None:
        """Nothing to make."""

    def conditions(self) -> list[Condition]:
        """Nothing is set up."""
        return []

    def connection_conditions(self) -> list[Condition]:
        """There is no way to it."""
        return []

    def close(self) -> None:
        """Nothing to let go of; the tasks stay."""

    # Moving tasks

    def send(self, messages: Sequence[Message]) -> None:
        encoded = [(message, encode(message)) for message in messages]
        with self._lock:
            now = self._clock.now()
            for message, body in encoded:
                if message.id not in self._records:
                    tag = next(self._tags)
                    self._store(change.send(message, body=body, now=now, tag=tag))
        self._bells.ring()

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Claim:
        deliveries: list[Delivery] = []
        with self._lock:
            refused = self.settle(settlements)
            now = self._clock.now()
            for line in self._open_lines(queues):
                while len(deliveries) < limit and (waiting := self._first(line)) is not None:
                    deliveries.append(self._hand_out(waiting, consumer, now))
            if deliveries:
                self._expect_beats(consumer)
                self._bells.ring()
        return Claim(deliveries, refused)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        refused: list[Settlement] = []
        with self._lock:
            for settlement in settlements:
                held = self._records.get(settlement.id)
                if held is None or not change.owns(held, settlement):
                    refused.append(settlement)
                    continue
                if held.state is not State.RUNNING:
                    continue
                entry = change.history(held, settlement)
                self._store(change.settle(held, settlement))
                if entry is not None:
                    self._attempts[held.id].append(entry)
        if settlements:
            self._bells.ring()
        return refused

    def renew(self, beat: Beat) -> list[Order]:
        with self._lock:
            self._leases[beat.worker] = self._clock.steady() + beat.lease
            self._beats[beat.worker] = beat
            return [
                Order(held.id, held.token)
                for held in self._held_by(beat.worker)
                if held.revoke == REVOKE_TERMINATE
            ]

    def leave(self, worker: str) -> None:
        with self._lock:
            self._leases.pop(worker, None)
            self._beats.pop(worker, None)

    def seize(self, holder: str, *, by: str, keep: Collection[int] = ()) -> list[Delivery]:
        with self._lock:
            return self._seize([h for h in self._held_by(holder) if h.token not in keep], by)

    def reap(self, *, by: str) -> list[Delivery]:
        with self._lock:
            now, steady = self._clock.now(), self._clock.steady()
            for line in self._lines.values():
                self._make_due_ready(line, now)
            for worker in [name for name, ends in self._leases.items() if ends <= steady]:
                self.leave(worker)
            orphans = [
                held for held in self._held() if worker_of(held.consumer) not in self._leases
            ]
            seized = self._seize(orphans, by)
        self._bells.ring()
        return seized

    def exchange(self, name: str, old: bytes | None, new: bytes) -> bytes | None:
        with self._lock:
            found = self._agreed.get(name)
            if found == old:
                self._agreed[name] = new
            return found

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        def patience() -> float:
            left = math.inf
            with self._lock:
                now = self._clock.now()
                for line in self._open_lines(queues):
                    if self._first(line) is not None:
                        return 0.0
                    if line.later:
                        left = min(left, line.later[0][0] - now)
            return left

        self._bells.wait(patience, timeout)

    def interrupt(self) -> None:
        self._bells.interrupt()

    # Keeping the records of another broker

    def admit(
        self,
        consumer: str,
        queues: Sequence[str],
        task_ids: Sequence[str],
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Admission:
        with self._lock:
            admission = Admission([], {}, [], [], self.settle(settlements))
            now = self._clock.now()
            for task_id in dict.fromkeys(task_ids):
                record = self._records.get(task_id)
                if record is None:
                    admission.unknown.append(task_id)
                elif not record.is_waiting or record.queue not in queues:
                    pass
                elif record.state is State.SCHEDULED and record.due > now:
                    admission.early[task_id] = record.due
                elif self._lines[record.queue].paused:
                    admission.paused.append(task_id)
                else:
                    ready = change.due(record) if record.state is State.SCHEDULED else record
                    admission.deliveries.append(self._hand_out(ready, consumer, now))
            if admission.deliveries:
                self._expect_beats(consumer)
        return admission

    def overdue(self, before: float, limit: int) -> list[Record]:
        with self._lock:
            late = [
                record
                for record in self._records.values()
                if record.is_waiting
                and record.due < before
                and not self._lines[record.queue].paused
            ]
        return heapq.nsmallest(limit, late, key=lambda record: (record.due, record.tag))

    # Reading and operating

    def get(self, task_id: str) -> Record | None:
        return self._records.get(task_id)

    def attempts(self, task_id: str) -> list[Attempt]:
        with self._lock:
            return list(self._attempts.get(task_id, ()))

    def search(
        self,
        wanted: Filter,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Record]:
        with self._lock:
            found = (
                record
                for record in reversed(self._records.values())
                if (before is None or record.tag < before)
                and (after is None or record.tag > after)
                and wanted.accepts(record)
            )
            return list(itertools.islice(found, limit))

    def upcoming(self, *, limit: int = 50, after: tuple[float, int] | None = None) -> list[Record]:
        def place(record: Record) -> tuple[float, int]:
            return record.due, record.tag

        with self._lock:
            later = [
                record
                for record in self._records.values()
                if record.state is State.SCHEDULED and (after is None or place(record) > after)
            ]
        return heapq.nsmallest(limit, later, key=place)

    def counts(self) -> list[QueueCounts]:
        with self._lock:
            states: defaultdict[str, Counter[str]] = defaultdict(Counter)
            waiting_since: defaultdict[str, list[float]] = defaultdict(list)
            for record in self._records.values():
                states[record.queue][record.state.value.lower()] += 1
                if record.state is State.QUEUED:
                    waiting_since[record.queue].append(record.due)
            return [
                QueueCounts(
                    queue=name, **states[name], oldest=min(waiting_since[name], default=None),
                    paused=line.paused,
                )
                for name, line in sorted(self._lines.items())
                if line.paused or name in states
            ]  # fmt: skip

    def workers(self) -> list[WorkerRecord]:
        with self._lock:
            steady = self._clock.steady()
            return [
                WorkerRecord(
                    worker=beat.worker, host=beat.host, pid=beat.pid, started=beat.started,
                    queues=beat.queues, processes=beat.processes, memory=beat.memory,
                    lease_left=self._leases[beat.worker] - steady,
                    running=len(self._held_by(beat.worker)),
                )
                for beat in self._beats.values()
            ]  # fmt: skip

    def wait_for_change(self, task_id: str, since: Record | None, timeout: float) -> Record | None:
        def patience() -> float:
            changed = seen_of(self._records.get(task_id)) != seen_of(since)
            return 0.0 if changed else math.inf

        self._bells.wait(patience, timeout, interruptible=False)
        return self._records.get(task_id)

    def report(self, task_id: str, token: int, progress: Progress) -> bool:
        with self._lock:
            held = self._held_with(task_id, token)
            if held is None:
                return False
            self._records[task_id] = msgspec.structs.replace(held, progress=progress)
        self._bells.ring()
        return True

    def save(self, task_id: str, token: int, checkpoint: bytes) -> bool:
        with self._lock:
            if self._held_with(task_id, token) is None:
                return False
            self._saved[task_id] = checkpoint
            return True

    def saved(self, task_id: str) -> bytes | None:
        return self._saved.get(task_id)

    def revoke(self, task_ids: Sequence[str], *, terminate: bool = False) -> int:
        with self._lock:
            now = self._clock.now()
            unfinished = [each for each in self._known(task_ids) if not each.is_final]
            for each in unfinished:
                self._store(change.revoke(each, terminate=terminate, now=now))
        self._bells.ring()
        return len(unfinished)

    def requeue(self, task_ids: Sequence[str]) -> int:
        with self._lock:
            now = self._clock.now()
            ended = [
                each
                for each in self._known(task_ids)
                if each.state in (State.FAILURE, State.REVOKED)
            ]
            for each in ended:
                self._store(change.requeue(each, now=now))
        self._bells.ring()
        return len(ended)

    def discard(self, task_ids: Sequence[str]) -> int:
        with self._lock:
            return self._delete(
                each for each in self._known(task_ids) if each.state is not State.RUNNING
            )

    def purge(self, queue: str) -> int:
        with self._lock:
            return self._delete(
                each for each in self._records.values() if each.queue == queue and each.is_waiting
            )

    def prune(
        self, *, succeeded_before: float | None, failed_before: float | None, limit: int
    ) -> int:
        with self._lock:
            return self._delete(
                itertools.islice(
                    (
                        each
                        for each in self._records.values()
                        if _ended_before(each, succeeded_before, failed_before)
                    ),
                    limit,
                )
            )

    def count(self, counts: Sequence[Count]) -> None:
        with self._lock:
            for each in counts:
                self._counters[each.minute, each.queue, each.task, each.what] += each.number
            oldest = max((minute for minute, *_ in self._counters), default=0) - KEPT_MINUTES
            for key in [key for key in self._counters if key[0] < oldest]:
                del self._counters[key]

    def counted(self, first: int, last: int) -> list[Count]:
        with self._lock:
            return [
                Count(*key, number)
                for key, number in self._counters.items()
                if first <= key[0] <= last
            ]

    def pause(self, queue: str) -> None:
        with self._lock:
            self._lines[queue].paused = True

    def resume(self, queue: str) -> None:
        with self._lock:
            self._lines[queue].paused = False
        self._bells.ring()

    # Below, the caller holds the lock.

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

    def _open_lines(self, queues: Sequence[str]) -> Iterable[_Line]:
        """Those of *queues* that are not paused, what is due in them made ready."""
        now = self._clock.now()
        for name in queues:
            line = self._lines[name]
            if not line.paused:
                self._make_due_ready(line, now)
                yield line

    def _make_due_ready(self, line: _Line, now: float) -> None:
        while line.later and line.later[0][0] <= now:
            due, _, task_id = heapq.heappop(line.later)
            record = self._records.get(task_id)
            if record is not None and record.state is State.SCHEDULED and record.due == due:
                self._store(change.due(record))

    def _first(self, line: _Line) -> Record | None:
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


def _ended_before(record: Record, succeeded: float | None, failed: float | None) -> bool:
    limit = failed if record.state is State.FAILURE else succeeded
    return record.finished is not None and limit is not None and record.finished < limit
