"""Keeping the records of another broker: the methods of `Ledger` over SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from acked.broker import DEFAULT_LEASE, Admission, worker_of
from acked.brokers.sqlite.connection import fetch
from acked.brokers.sqlite.queue import token_base
from acked.brokers.sqlite.records import RECORD, as_list, as_record
from acked.brokers.sqlite.store import Store, this_boot
from acked.brokers.sqlite.turn import readable, stage, taken
from acked.delivery import Settlement
from acked.record import Record

ADMIT = "INSERT INTO admission VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

LEFT = """
SELECT CAST(wanted.value AS BLOB), seq,
       CASE WHEN state = 'SCHEDULED' AND due > :now OR queue NOT IN (SELECT queue FROM pause)
           THEN due END,
       queue IN (SELECT queue FROM pause)
FROM json_each(:ids) AS wanted LEFT JOIN task ON task.id = wanted.value
WHERE seq IS NULL
   OR (state = 'QUEUED' OR state = 'SCHEDULED') AND queue IN (SELECT value FROM json_each(:queues))
"""

LATE = """
WITH RECURSIVE
name (queue) AS (
    SELECT min(queue) FROM task WHERE state = 'QUEUED'
    UNION ALL
    SELECT (SELECT min(queue) FROM task WHERE state = 'QUEUED' AND queue > name.queue)
    FROM name WHERE queue IS NOT NULL
),
line (queue, priority) AS (
    SELECT queue, (SELECT max(priority) FROM task WHERE state = 'QUEUED' AND queue = name.queue)
    FROM name WHERE queue IS NOT NULL AND queue NOT IN (SELECT queue FROM pause)
    UNION ALL
    SELECT queue, (
        SELECT max(priority) FROM task
        WHERE state = 'QUEUED' AND queue = line.queue AND priority < line.priority
    )
    FROM line WHERE priority IS NOT NULL
),
late (number, turn) AS (
    SELECT seq, row_number() OVER (PARTITION BY line.queue, line.priority ORDER BY due, seq)
    FROM line CROSS JOIN task ON seq IN (
        SELECT seq FROM task
        WHERE state = 'QUEUED' AND queue = line.queue AND priority = line.priority
          AND due < :before
        ORDER BY due, seq LIMIT :limit
    )
    UNION ALL
    SELECT seq, row_number() OVER (PARTITION BY queue ORDER BY due, seq)
    FROM task INDEXED BY scheduled
    WHERE state = 'SCHEDULED' AND due < :before AND queue NOT IN (SELECT queue FROM pause)
)
"""
"""The first of each queue and priority, so that a long backlog is not read."""

LONGEST_FIRST = """
WHERE seq IN (
    SELECT number FROM late JOIN task ON seq = number ORDER BY turn, due, seq LIMIT :limit
)
ORDER BY due, seq
"""


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
        now, wanted = self._clock.now(), list(dict.fromkeys(task_ids))
        ids, names = as_list(wanted), as_list(queues)
        with self._database.session() as connection:
            stage(connection, settlements)
            connection.execute(
                ADMIT,
                (
                    consumer, worker_of(consumer), this_boot(),
                    self._clock.steady() + DEFAULT_LEASE, names, ids, now, token_base(),
                ),
            )  # fmt: skip
            numbers = fetch(connection, "SELECT number FROM refused")
            deliveries = taken(connection, consumer, now) if wanted else []
            # What is not taken is told apart afterwards. Where that has moved on in between,
            # whoever moved it has seen to its message; but for what `reap` has made ready, which
            # nobody has: its message goes round once more.
            left = (
                fetch(connection, LEFT, {"now": now, "ids": ids, "queues": names})
                if len(deliveries) < len(wanted)
                else []
            )
        refused = [settlements[number - 1] for (number,) in numbers]
        admission = Admission(deliveries, {}, [], [], refused)
        for raw_id, tag, due, paused in left:
            task_id = readable(raw_id)
            if tag is None:
                admission.unknown.append(task_id)
            elif due is not None:
                admission.early[task_id] = due
            elif paused:
                admission.paused.append(task_id)
        return admission

    def overdue(self, before: float, limit: int) -> list[Record]:
        with self._database.session() as connection:
            rows = fetch(
                connection, f"{LATE} {RECORD} {LONGEST_FIRST}", {"before": before, "limit": limit}
            )
        return [as_record(row) for row in rows]
