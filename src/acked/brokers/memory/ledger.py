"""Keeping the records of a broker that only moves messages: the methods of `Ledger` in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

from acked import record as change
from acked.broker import Admission
from acked.brokers.memory.queue import TaskQueue
from acked.delivery import Settlement, State
from acked.record import Record


class TaskLedger(TaskQueue):
    """The methods of `acked.broker.Ledger` that `Engine` has not."""

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
        late.sort(key=_longest_first)
        turns: Counter[tuple[str, int | None]] = Counter()
        ranked: list[tuple[int, Record]] = []
        for record in late:
            lane = record.queue, record.priority if record.state is State.QUEUED else None
            turns[lane] += 1
            ranked.append((turns[lane], record))
        # Those of one turn stay as they are sorted.
        ranked.sort(key=itemgetter(0))
        return sorted((record for _, record in ranked[:limit]), key=_longest_first)


def _longest_first(record: Record) -> tuple[float, int]:
    return record.due, record.tag
