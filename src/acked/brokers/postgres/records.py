"""Reading and operating: the methods of `Records` over PostgreSQL."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from acked.broker import Beat, Filter, QueueCounts, WorkerRecord
from acked.brokers.postgres.connection import Call, Statement
from acked.brokers.postgres.search import RECORD, RECORD_COLUMNS, selection
from acked.brokers.postgres.store import Store
from acked.brokers.postgres.values import float8, int2, int8, int8s, text, texts
from acked.delivery import Event, State
from acked.record import (
    REVOKE_SOFT,
    REVOKE_TERMINATE,
    Attempt,
    Progress,
    Record,
    read_failure,
    read_progress,
    seen_of,
)
from acked.tally import KEPT_MINUTES, Count

DELETED_AT_ONCE = 1000
"""Records that one transaction deletes, so that others wait for it for milliseconds only."""

LOOK_AGAIN = (0.001, 0.05)
"""Shortest and longest pause in seconds between two looks for a change."""

GET = Statement(f"{RECORD} WHERE id = $1", RECORD_COLUMNS)

ATTEMPTS = Statement(
    """
    SELECT number, event, started, ended, consumer, reason, failure, next_at, counted, loss,
           log
    FROM {schema}.run WHERE task = (SELECT seq FROM {schema}.task WHERE id = $1) ORDER BY run
    """,
    "qtddttbd??t",
)

NEXT_FIRST = """
    WHERE seq = ANY (ARRAY(
        WITH RECURSIVE line (queue) AS (
            (SELECT queue FROM {schema}.waiting WHERE scheduled ORDER BY queue LIMIT 1)
            UNION ALL
            SELECT next.queue
            FROM line CROSS JOIN LATERAL (
                SELECT w.queue FROM {schema}.waiting AS w
                WHERE w.scheduled AND w.queue > line.queue ORDER BY w.queue LIMIT 1
            ) AS next
        )
        SELECT first.seq
        FROM line CROSS JOIN LATERAL (
            SELECT w.seq, w.due FROM {schema}.waiting AS w
            WHERE w.scheduled AND w.queue = line.queue AND (w.due, w.seq) > ($1, $2)
            ORDER BY w.due, w.seq LIMIT $3
        ) AS first
        ORDER BY first.due, first.seq LIMIT $3
    ))
    ORDER BY due, seq
"""
"""The first of each queue, so that what is due much later is not read."""

UPCOMING = Statement(RECORD + NEXT_FIRST, RECORD_COLUMNS)

COUNTS = Statement(
    """
    SELECT queue, CASE WHEN scheduled THEN 'scheduled' ELSE 'queued' END, count(*),
           min(due) FILTER (WHERE NOT scheduled)
    FROM {schema}.waiting GROUP BY queue, scheduled
    UNION ALL
    SELECT queue, 'running', count(*), NULL FROM {schema}.running GROUP BY queue
    UNION ALL
    SELECT queue, lower(state), sum(change)::bigint, NULL FROM {schema}.tally
    GROUP BY queue, state HAVING sum(change) <> 0
    UNION ALL
    SELECT queue, 'paused', 1, NULL FROM {schema}.pause
    """,
    "ttqd",
)

WORKERS = Statement(
    """
    SELECT beat, lease_until - coalesce($1, extract(epoch FROM clock_timestamp())::float8), (
        SELECT count(*) FROM {schema}.running
        WHERE consumer = worker
           OR consumer >= worker || '/'::bytea AND consumer < worker || '0'::bytea
    )
    FROM {schema}.worker WHERE beat IS NOT NULL ORDER BY worker
    """,
    "bdq",
)

NOTE = """
    INSERT INTO {{schema}}.note (task, {column})
    SELECT r.seq, $3 FROM {{schema}}.running AS r JOIN {{schema}}.task AS t ON t.seq = r.seq
    WHERE t.id = $1 AND r.token = $2
    ON CONFLICT (task) DO UPDATE SET {column} = excluded.{column}
    RETURNING 1
"""
REPORT = Statement(NOTE.format(column="progress"), "q")
SAVE = Statement(NOTE.format(column="checkpoint"), "q")

SAVED = Statement(
    """
    SELECT checkpoint FROM {schema}.note
    WHERE task = (SELECT seq FROM {schema}.task WHERE id = $1)
    """,
    "b",
)

REVOKE = Statement("SELECT {schema}.revoke($1, $2, $3)", "q")
REQUEUE = Statement("SELECT woken, total FROM {schema}.requeue($1, $2)", "Tq")

DISCARD = Statement(
    """
    WITH named AS MATERIALIZED (
        SELECT array_agg(seq ORDER BY seq) AS numbers FROM {schema}.task WHERE id = ANY ($1)
    )
    SELECT {schema}.delete_done(numbers) + {schema}.delete_waiting(numbers) FROM named
    WHERE numbers IS NOT NULL
    """,
    "q",
)

PURGE = Statement(
    """
    SELECT {schema}.delete_waiting(ARRAY(
        SELECT seq FROM {schema}.waiting WHERE queue = $1 AND scheduled = $2
        LIMIT $3 FOR UPDATE SKIP LOCKED
    ))
    """,
    "q",
)

PRUNE_SUCCESS = Statement(
    """
    SELECT {schema}.delete_done(ARRAY(
        SELECT seq FROM {schema}.done WHERE state = 'SUCCESS' AND finished < $1
        ORDER BY finished LIMIT $2 FOR UPDATE SKIP LOCKED
    ))
    """,
    "q",
)

PRUNE_OTHER = """
    SELECT {{schema}}.delete_done(ARRAY(
        SELECT seq FROM {{schema}}.done
        WHERE state <> 'SUCCESS' AND state = '{state}' AND finished < $1
        ORDER BY finished LIMIT $2 FOR UPDATE SKIP LOCKED
    ))
"""
PRUNE_REVOKED = Statement(PRUNE_OTHER.format(state="REVOKED"), "q")
PRUNE_FAILURE = Statement(PRUNE_OTHER.format(state="FAILURE"), "q")

PAUSE = Statement("INSERT INTO {schema}.pause VALUES ($1) ON CONFLICT DO NOTHING")
RESUME = Statement("DELETE FROM {schema}.pause WHERE queue = $1")

COUNT = Statement(
    """
    INSERT INTO {schema}.counter AS c (minute, queue, task, what, number)
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[])
    ON CONFLICT (minute, queue, task, what) DO UPDATE SET number = c.number + excluded.number
    """
)
FORGET_COUNTS = Statement("DELETE FROM {schema}.counter WHERE minute < $1::bigint")
COUNTED = Statement(
    """
    SELECT minute, queue, task, what, number FROM {schema}.counter WHERE minute BETWEEN $1 AND $2
    """,
    "qtttq",
)

_beat_decoder = msgspec.json.Decoder(Beat)


class TaskRecords(Store):
    """The methods of `acked.broker.Records`."""

    def get(self, task_id: str) -> Record | None:
        (rows,) = self._database.run(Call(GET, (text(task_id),)), repeatable=True)
        return as_record(rows[0]) if rows else None

    def attempts(self, task_id: str) -> list[Attempt]:
        (rows,) = self._database.run(Call(ATTEMPTS, (text(task_id),)), repeatable=True)
        return [_attempt(row) for row in rows]

    def search(
        self,
        wanted: Filter,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Record]:
        call = selection(wanted, before, after, max(limit, 0))
        if call is None:
            return []
        (rows,) = self._database.run(call, repeatable=True)
        return [as_record(row) for row in rows]

    def upcoming(self, *, limit: int = 50, after: tuple[float, int] | None = None) -> list[Record]:
        due, tag = after if after is not None else (-math.inf, 0)
        parameters = (float8(due), int8(tag), int8(max(limit, 0)))
        (rows,) = self._database.run(Call(UPCOMING, parameters), repeatable=True)
        return [as_record(row) for row in rows]

    def counts(self) -> list[QueueCounts]:
        found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        (rows,) = self._database.run(Call(COUNTS), repeatable=True)
        for name, what, count, oldest in rows:
            found[name][what] = count
            if oldest is not None:
                found[name]["oldest"] = oldest
        return [
            QueueCounts(queue=name, **{**about, "paused": "paused" in about})
            for name, about in sorted(found.items())
        ]

    def workers(self) -> list[WorkerRecord]:
        (rows,) = self._database.run(Call(WORKERS, (self._steady(),)), repeatable=True)
        return [
            WorkerRecord(
                worker=beat.worker, host=beat.host, pid=beat.pid, started=beat.started,
                queues=beat.queues, processes=beat.processes, lease_left=left, running=running,
                memory=beat.memory,
            )
            for beat, left, running in (
                (_beat_decoder.decode(about), left, running) for about, left, running in rows
            )
        ]  # fmt: skip

    def wait_for_change(self, task_id: str, since: Record | None, timeout: float) -> Record | None:
        deadline = time.monotonic() + timeout
        pause, longest = LOOK_AGAIN
        while True:
            record = self.get(task_id)
            left = deadline - time.monotonic()
            if seen_of(record) != seen_of(since) or left <= 0:
                return record
            time.sleep(min(pause, left))
            pause = min(pause * 1.25, longest)

    def report(self, task_id: str, token: int, progress: Progress) -> bool:
        return self._note(REPORT, task_id, token, msgspec.json.encode(progress))

    def save(self, task_id: str, token: int, checkpoint: bytes) -> bool:
        return self._note(SAVE, task_id, token, checkpoint)

    def saved(self, task_id: str) -> bytes | None:
        (rows,) = self._database.run(Call(SAVED, (text(task_id),)), repeatable=True)
        return rows[0][0] if rows else None

    def revoke(self, task_ids: Sequence[str], *, terminate: bool = False) -> int:
        wish = REVOKE_TERMINATE if terminate else REVOKE_SOFT
        (((count,),),) = self._database.run(
            Call(REVOKE, (texts(task_ids), int2(wish), self._now())), repeatable=True
        )
        return int(count)

    def requeue(self, task_ids: Sequence[str]) -> int:
        (((woken, count),),) = self._database.run(
            Call(REQUEUE, (texts(task_ids), self._now())), repeatable=True
        )
        self._ready_again(woken)
        return int(count)

    def discard(self, task_ids: Sequence[str]) -> int:
        count = 0
        for start in range(0, len(task_ids), DELETED_AT_ONCE):
            part = texts(task_ids[start : start + DELETED_AT_ONCE])
            (rows,) = self._database.run(Call(DISCARD, (part,)), repeatable=True)
            count += sum(number for (number,) in rows)
        return count

    def purge(self, queue: str) -> int:
        return sum(
            self._delete(PURGE, [text(queue), b"\x01" if scheduled else b"\x00"])
            for scheduled in (False, True)
        )

    def count(self, counts: Sequence[Count]) -> None:
        if not counts:
            return
        # In one order, so that two that add to the same counters do not wait for each other.
        rows = sorted(counts, key=lambda each: (each.minute, each.queue, each.task, each.what))
        columns = (
            int8s([each.minute for each in rows]), texts([each.queue for each in rows]),
            texts([each.task for each in rows]), texts([each.what for each in rows]),
            int8s([each.number for each in rows]),
        )  # fmt: skip
        # Not before the newest there is: one of a clock that was ahead would end them all.
        oldest = rows[-1].minute - KEPT_MINUTES
        self._database.run(
            Call(COUNT, columns), Call(FORGET_COUNTS, (int8(oldest),)), repeatable=False
        )

    def counted(self, first: int, last: int) -> list[Count]:
        (rows,) = self._database.run(Call(COUNTED, (int8(first), int8(last))), repeatable=True)
        return [Count(*row) for row in rows]

    def pause(self, queue: str) -> None:
        self._database.run(Call(PAUSE, (text(queue),)), repeatable=True)

    def resume(self, queue: str) -> None:
        self._database.run(Call(RESUME, (text(queue),)), repeatable=True)
        self._ready_again([queue])

    def prune(
        self, *, succeeded_before: float | None, failed_before: float | None, limit: int
    ) -> int:
        count = 0
        for statement, before in (
            (PRUNE_SUCCESS, succeeded_before),
            (PRUNE_REVOKED, succeeded_before),
            (PRUNE_FAILURE, failed_before),
        ):
            if before is not None and count < limit:
                count += self._delete(statement, [float8(before)], limit - count)
        return count

    def _note(self, statement: Statement, task_id: str, token: int, value: bytes) -> bool:
        (rows,) = self._database.run(
            Call(statement, (text(task_id), int8(token), value)), repeatable=True
        )
        return bool(rows)

    def _delete(
        self, statement: Statement, parameters: list[bytes | None], limit: int = 2**62
    ) -> int:
        """Delete up to *limit* records, in transactions of bounded size."""
        count = 0
        while count < limit:
            part = min(DELETED_AT_ONCE, limit - count)
            (((deleted,),),) = self._database.run(
                Call(statement, [*parameters, int8(part)]), repeatable=True
            )
            count += deleted
            if deleted < part:
                break
        return count


def as_record(row: tuple[Any, ...]) -> Record:
    """A row of `RECORD`."""
    (
        task_id, body, name, queue, priority, sent, state, due, attempt, retries, losses,
        suspected, runs, token, consumer, claimed, finished, result, failure, reason, revoke,
        progress, tag,
    ) = row  # fmt: skip
    return Record(
        id=task_id, body=body, task=name, queue=queue, priority=priority, sent=sent,
        state=State(state), due=due, attempt=attempt, retries=retries, losses=losses,
        suspected=suspected, runs=runs, token=token, consumer=consumer, claimed=claimed,
        finished=finished, result=result, failure=read_failure(failure), reason=reason,
        revoke=revoke, progress=read_progress(progress), tag=tag,
    )  # fmt: skip


def _attempt(row: tuple[Any, ...]) -> Attempt:
    number, event, started, ended, consumer, reason, failure, next_at, counted, loss, log = row
    return Attempt(
        number=number, event=Event(event), started=started, ended=ended, consumer=consumer,
        reason=reason, failure=read_failure(failure), next_at=next_at, counted=counted, loss=loss,
        log=log,
    )  # fmt: skip
