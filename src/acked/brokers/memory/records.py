"""Reading and operating: the methods of `Records` in memory."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec

from acked import record as change
from acked.broker import Filter, QueueCounts, WorkerRecord
from acked.brokers.memory.store import Store
from acked.delivery import State
from acked.record import Attempt, Progress, Record, seen_of
from acked.tally import KEPT_MINUTES, Count


class TaskRecords(Store):
    """The methods of `acked.broker.Records`."""

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
        if not counts:
            return
        with self._lock:
            for each in counts:
                self._counters[each.minute, each.queue, each.task, each.what] += each.number
            # Not before the newest there is: one of a clock that was ahead would end them all.
            oldest = max(each.minute for each in counts) - KEPT_MINUTES
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


def _ended_before(record: Record, succeeded: float | None, failed: float | None) -> bool:
    limit = failed if record.state is State.FAILURE else succeeded
    return record.finished is not None and limit is not None and record.finished < limit
