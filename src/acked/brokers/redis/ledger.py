"""Keeping the records of another broker: the methods of `Ledger` over Redis."""

from __future__ import annotations

from collections.abc import Sequence

from acked.broker import Admission
from acked.brokers.redis import scripts
from acked.brokers.redis.queue import token_base
from acked.brokers.redis.rows import claimed, records, settlement_rows, storable_ids
from acked.brokers.redis.store import Store
from acked.delivery import Settlement
from acked.record import Record


class TaskLedger(Store):
    """The methods of `acked.broker.Ledger` that other engines need not have."""

    def admit(
        self,
        consumer: str,
        queues: Sequence[str],
        task_ids: Sequence[str],
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Admission:
        if not task_ids and not settlements:
            return Admission([], {}, [], [], [])
        rows, stored = settlement_rows(settlements)
        about, held = self._run(
            scripts.ADMIT, rows, consumer, queues, token_base(), storable_ids(task_ids),
            self._client.process,
            stored=stored, confirmed=bool(rows),
        )  # fmt: skip
        _, refused, count, early, paused, unknown = about
        pairs = iter(early)
        return Admission(
            claimed(count, *held),
            {task_id: float(due) for task_id, due in zip(pairs, pairs, strict=True)},
            paused,
            unknown,
            [settlements[number - 1] for number in refused],
        )

    def overdue(self, before: float, limit: int) -> list[Record]:
        about, _ = self._run(scripts.OVERDUE, before, max(limit, 0))
        _, found = self._run(scripts.READ, "tags", about[1])
        return [record for record in records(*found) if record.is_waiting]
