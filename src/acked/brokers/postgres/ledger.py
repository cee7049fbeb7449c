"""Keeping the records of another broker: the methods of `Ledger` over PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from acked.broker import Admission, worker_of
from acked.brokers.postgres.connection import Call, Statement
from acked.brokers.postgres.queue import TaskQueue
from acked.brokers.postgres.records import as_record
from acked.brokers.postgres.search import RECORD, RECORD_COLUMNS
from acked.brokers.postgres.settling import settling
from acked.brokers.postgres.values import float8, int8, text, texts
from acked.delivery import Settlement
from acked.record import Record

ADMIT = Statement(
    "SELECT seq, id, body, attempt, retries, losses, suspected, runs, queue, sent, claimed "
    "FROM {schema}.admit($1, $2, $3, $4, $5, $6, $7, $8)",
    "qtbqqqqqtdd",
)

LEFT = Statement(
    """
    SELECT wanted.id, t.seq,
           CASE WHEN w.scheduled
                 AND w.due > coalesce($3, extract(epoch FROM clock_timestamp())::float8)
                 OR NOT EXISTS (SELECT FROM {schema}.pause AS p WHERE p.queue = w.queue)
                THEN w.due END,
           EXISTS (SELECT FROM {schema}.pause AS p WHERE p.queue = w.queue)
    FROM unnest($1::bytea[]) AS wanted (id)
    LEFT JOIN {schema}.task AS t ON t.id = wanted.id
    LEFT JOIN {schema}.waiting AS w ON w.seq = t.seq
    WHERE t.seq IS NULL OR w.queue = ANY ($2::bytea[])
    """,
    "tqd?",
)

LATE = """
    WHERE seq = ANY (ARRAY(
        WITH RECURSIVE line (queue, priority, scheduled) AS (
            (
                SELECT queue, priority, false FROM {schema}.waiting WHERE NOT scheduled
                ORDER BY queue, priority DESC LIMIT 1
            )
            UNION ALL
            SELECT next.queue, next.priority, false
            FROM line CROSS JOIN LATERAL (
                (
                    SELECT w.queue, w.priority FROM {schema}.waiting AS w
                    WHERE NOT w.scheduled AND w.queue = line.queue AND w.priority < line.priority
                    ORDER BY w.queue, w.priority DESC LIMIT 1
                )
                UNION ALL
                (
                    SELECT w.queue, w.priority FROM {schema}.waiting AS w
                    WHERE NOT w.scheduled AND w.queue > line.queue
                    ORDER BY w.queue, w.priority DESC LIMIT 1
                )
                LIMIT 1
            ) AS next
        ),
        late AS (
            SELECT first.seq, first.due, first.turn
            FROM line CROSS JOIN LATERAL (
                SELECT w.seq, w.due, row_number() OVER (ORDER BY w.due, w.seq) AS turn
                FROM {schema}.waiting AS w
                WHERE NOT w.scheduled AND w.queue = line.queue AND w.priority = line.priority
                  AND w.due < $1
                ORDER BY w.due, w.seq LIMIT $2
            ) AS first
            WHERE NOT EXISTS (SELECT FROM {schema}.pause AS p WHERE p.queue = line.queue)
            UNION ALL
            SELECT w.seq, w.due, row_number() OVER (PARTITION BY w.queue ORDER BY w.due, w.seq)
            FROM {schema}.waiting AS w
            WHERE w.scheduled AND w.due < $1
              AND NOT EXISTS (SELECT FROM {schema}.pause AS p WHERE p.queue = w.queue)
        )
        SELECT seq FROM late ORDER BY turn, due, seq LIMIT $2
    ))
    ORDER BY due, seq
"""
"""The first of each queue and priority, so that a long backlog is not read."""

OVERDUE = Statement(RECORD + LATE, RECORD_COLUMNS)


class TaskLedger(TaskQueue):
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
        wanted = list(dict.fromkeys(task_ids))
        settle, claiming = settling(settlements), self._claiming()
        calls = list(settle.calls)
        if wanted:
            calls.append(
                Call(
                    ADMIT,
                    [
                        text(consumer), text(worker_of(consumer)), texts(queues), texts(wanted),
                        *claiming,
                    ],
                )
            )  # fmt: skip
        answers = self._database.run(*calls)
        refused = self._settled(settlements, settle.refused(answers), settle.woken(answers))
        admission = Admission([], {}, [], [], refused)
        if not wanted:
            return admission
        place = {task_id: number for number, task_id in enumerate(wanted)}
        taken = self._taken(answers[-1], consumer, claiming[-1])
        admission.deliveries.extend(sorted(taken, key=lambda each: place[each.id]))
        if len(taken) < len(wanted):
            # What is not taken is told apart afterwards. Where that has moved on in between,
            # whoever moved it has seen to its message; but for what has become due, which nobody
            # moved: its message goes round once more.
            held = {each.id for each in taken}
            self._tell_apart([each for each in wanted if each not in held], queues, admission)
        return admission

    def overdue(self, before: float, limit: int) -> list[Record]:
        (rows,) = self._database.run(Call(OVERDUE, (float8(before), int8(limit))), repeatable=True)
        return [as_record(row) for row in rows]

    def _tell_apart(self, ids: Sequence[str], queues: Sequence[str], admission: Admission) -> None:
        (rows,) = self._database.run(
            Call(LEFT, (texts(ids), texts(queues), self._now())), repeatable=True
        )
        for task_id, tag, due, paused in rows:
            if tag is None:
                admission.unknown.append(task_id)
            elif due is not None:
                admission.early[task_id] = due
            elif paused:
                admission.paused.append(task_id)
