"""Reading and operating: the methods of `Records` over SQLite."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from acked.broker import Beat, Filter, QueueCounts, WorkerRecord
from acked.brokers.sqlite.connection import Value, fetch
from acked.brokers.sqlite.search import selection, storable
from acked.brokers.sqlite.store import Store, this_boot
from acked.brokers.sqlite.turn import readable
from acked.brokers.sqlite.wake import EVERY_QUEUE, bit_of
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

SHRUNK_AT_ONCE = 1000
"""Pages that one transaction takes off the end of the file."""

LOOK_AGAIN = (0.0005, 0.02)
"""Shortest and longest pause in seconds between two looks for a change."""

RECORD = """
SELECT CAST(id AS BLOB), body, CAST(name AS BLOB), CAST(queue AS BLOB), priority, sent, state, due,
       attempt, retries, losses, suspected, runs, token, CAST(consumer AS BLOB), claimed, finished,
       result, CAST(failure AS BLOB), CAST(reason AS BLOB), revoke,
       CAST(progress AS BLOB), seq
FROM task LEFT JOIN note ON note.task = task.seq
"""
"""Text as bytes: one row that another program spoilt must not hide the others."""

PAGE = """
WHERE seq IN (SELECT seq FROM ({numbers}) ORDER BY seq DESC LIMIT ?)
ORDER BY seq DESC
"""

UPCOMING = """
WITH RECURSIVE
name (queue) AS (
    SELECT min(queue) FROM task WHERE state = 'SCHEDULED'
    UNION ALL
    SELECT (SELECT min(queue) FROM task WHERE state = 'SCHEDULED' AND queue > name.queue)
    FROM name WHERE queue IS NOT NULL
),
next (number) AS (
    SELECT first.value FROM name CROSS JOIN json_each((
        SELECT json_group_array(seq) FROM (
            SELECT seq FROM task
            WHERE state = 'SCHEDULED' AND queue = name.queue AND (due, seq) > (:due, :tag)
            ORDER BY due, seq LIMIT :limit
        )
    )) AS first
)
"""
"""The first of each queue, so that what is due much later is not read. As an array, or SQLite would
look for them once more for each of them."""

NEXT_FIRST = """
WHERE seq IN (SELECT number FROM next JOIN task ON seq = number ORDER BY due, seq LIMIT :limit)
ORDER BY due, seq
"""

ATTEMPTS = """
SELECT number, event, started, ended, CAST(consumer AS BLOB), CAST(reason AS BLOB),
       CAST(failure AS BLOB), next_at, counted, loss, CAST(log AS BLOB)
FROM attempt WHERE task = (SELECT seq FROM task WHERE id = ?) ORDER BY run
"""

COUNTS = """
SELECT CAST(queue AS BLOB), what, count, oldest FROM (
    SELECT queue, 'queued' AS what, count(*) AS count, min(due) AS oldest
    FROM task WHERE state = 'QUEUED' GROUP BY queue
    UNION ALL
    SELECT queue, 'scheduled', count(*), NULL FROM task WHERE state = 'SCHEDULED' GROUP BY queue
    UNION ALL
    SELECT queue, 'running', count(*), NULL FROM task WHERE state = 'RUNNING' GROUP BY queue
    UNION ALL
    SELECT queue, lower(state), count, NULL FROM tally WHERE count > 0
    UNION ALL
    SELECT queue, 'paused', 1, NULL FROM pause
)
"""

WORKERS = """
SELECT beat, lease_until, boot, (
    SELECT count(*) FROM task
    WHERE state = 'RUNNING'
      AND (consumer = worker OR consumer >= worker || '/' AND consumer < worker || '0')
)
FROM worker WHERE beat IS NOT NULL ORDER BY worker
"""

NOTE = """
INSERT INTO note (task, {column})
SELECT seq, ? FROM task WHERE id = ? AND token = ? AND state = 'RUNNING'
ON CONFLICT (task) DO UPDATE SET {column} = excluded.{column}
"""

REVOKE = """
UPDATE task
SET finished = iif(state = 'RUNNING', NULL, :now),
    reason = iif(state = 'RUNNING', reason, 'revoked'),
    revoke = max(revoke, iif(state = 'RUNNING', :wish, :soft)),
    state = iif(state = 'RUNNING', state, 'REVOKED')
WHERE id IN (SELECT value FROM json_each(:ids)) AND state IN ('SCHEDULED', 'QUEUED', 'RUNNING')
"""

REQUEUE = """
UPDATE task
SET state = 'QUEUED', due = ?, retries = 0, losses = 0, suspected = 0, finished = NULL,
    result = NULL, failure = NULL, reason = 'requeued', revoke = 0
WHERE id IN (SELECT value FROM json_each(?)) AND state IN ('FAILURE', 'REVOKED')
"""

FORGET_PROGRESS = """
UPDATE note SET progress = NULL
WHERE task IN (
    SELECT seq FROM task
    WHERE id IN (SELECT value FROM json_each(?)) AND state IN ('FAILURE', 'REVOKED')
)
"""

COUNT = """
INSERT INTO counter VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET number = number + excluded.number
"""

DELETE = "DELETE FROM task WHERE seq IN (SELECT seq FROM task WHERE {which} LIMIT ?)"

_beat_decoder = msgspec.json.Decoder(Beat)


class TaskRecords(Store):
    """The methods of `acked.broker.Records`."""

    def get(self, task_id: str) -> Record | None:
        with self._database.session() as connection:
            rows = fetch(connection, f"{RECORD} WHERE id = ?", (storable(task_id),))
        return as_record(rows[0]) if rows else None

    def attempts(self, task_id: str) -> list[Attempt]:
        with self._database.session() as connection:
            rows = fetch(connection, ATTEMPTS, (storable(task_id),))
        return [_attempt(row) for row in rows]

    def search(
        self,
        wanted: Filter,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Record]:
        numbers, bindings = selection(wanted, before, after)
        with self._database.session() as connection:
            rows = fetch(
                connection, f"{RECORD} {PAGE.format(numbers=numbers)}", (*bindings, max(limit, 0))
            )
        return [as_record(row) for row in rows]

    def upcoming(self, *, limit: int = 50, after: tuple[float, int] | None = None) -> list[Record]:
        due, tag = after if after is not None else (-math.inf, 0)
        with self._database.session() as connection:
            rows = fetch(
                connection,
                f"{UPCOMING} {RECORD} {NEXT_FIRST}",
                {"due": due, "tag": tag, "limit": max(limit, 0)},
            )
        return [as_record(row) for row in rows]

    def counts(self) -> list[QueueCounts]:
        found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        with self._database.session() as connection:
            rows = fetch(connection, COUNTS)
        for name, what, count, oldest in rows:
            about = found[readable(name)]
            about[what] = count
            if oldest is not None:
                about["oldest"] = oldest
        return [
            QueueCounts(queue=name, **{**about, "paused": "paused" in about})
            for name, about in sorted(found.items())
        ]

    def workers(self) -> list[WorkerRecord]:
        now, boot = self._clock.steady(), this_boot()
        with self._database.session() as connection:
            rows = fetch(connection, WORKERS)
        workers = []
        for about, lease_until, its_boot, running in rows:
            beat = _beat_decoder.decode(about)
            left = lease_until - now if its_boot == boot else -beat.lease
            workers.append(
                WorkerRecord(
                    worker=beat.worker, host=beat.host, pid=beat.pid, started=beat.started,
                    queues=beat.queues, processes=beat.processes, lease_left=left, running=running,
                    memory=beat.memory,
                )
            )  # fmt: skip
        return workers

    def wait_for_change(self, task_id: str, since: Record | None, timeout: float) -> Record | None:
        deadline = time.monotonic() + timeout
        pause, longest = LOOK_AGAIN
        version = None
        while True:
            # Read first: what is committed between the two is then seen as a change.
            latest = self._database.version()
            if latest != version:
                version = latest
                record = self.get(task_id)
                if seen_of(record) != seen_of(since):
                    return record
            left = deadline - time.monotonic()
            if left <= 0:
                return self.get(task_id)
            time.sleep(min(pause, left))
            pause = min(pause * 1.25, longest)

    def report(self, task_id: str, token: int, progress: Progress) -> bool:
        return self._note("progress", msgspec.json.encode(progress).decode(), task_id, token)

    def save(self, task_id: str, token: int, checkpoint: bytes) -> bool:
        return self._note("checkpoint", checkpoint, task_id, token)

    def saved(self, task_id: str) -> bytes | None:
        with self._database.session() as connection:
            rows = fetch(
                connection,
                "SELECT checkpoint FROM note WHERE task = (SELECT seq FROM task WHERE id = ?)",
                (storable(task_id),),
            )
        return rows[0][0] if rows else None

    def revoke(self, task_ids: Sequence[str], *, terminate: bool = False) -> int:
        wish = REVOKE_TERMINATE if terminate else REVOKE_SOFT
        with self._database.session() as connection:
            connection.execute(
                REVOKE,
                {
                    "now": self._clock.now(),
                    "wish": wish,
                    "soft": REVOKE_SOFT,
                    "ids": as_list(task_ids),
                },
            )
            return connection.changes()

    def requeue(self, task_ids: Sequence[str]) -> int:
        ids = as_list(task_ids)
        with self._database.transaction() as connection:
            connection.execute(FORGET_PROGRESS, (ids,))
            connection.execute(REQUEUE, (self._clock.now(), ids))
            count = connection.changes()
        self._waiting.wake(EVERY_QUEUE)
        return count

    def discard(self, task_ids: Sequence[str]) -> int:
        return self._delete(
            "id IN (SELECT value FROM json_each(?)) AND state <> 'RUNNING'", (as_list(task_ids),)
        )

    def purge(self, queue: str) -> int:
        return sum(
            self._delete(f"state = '{state}' AND queue = ?", (storable(queue),))
            for state in ("QUEUED", "SCHEDULED")
        )

    def count(self, counts: Sequence[Count]) -> None:
        if not counts:
            return
        # Not before the newest there is: one of a clock that was ahead would end them all.
        oldest = max(each.minute for each in counts) - KEPT_MINUTES
        rows = [
            (each.minute, storable(each.queue), storable(each.task), each.what, each.number)
            for each in counts
        ]
        with self._database.transaction() as connection:
            connection.executemany(COUNT, rows)
            connection.execute("DELETE FROM counter WHERE minute < ?", (oldest,))

    def counted(self, first: int, last: int) -> list[Count]:
        with self._database.session() as connection:
            rows = fetch(
                connection,
                "SELECT minute, CAST(queue AS BLOB), CAST(task AS BLOB), what, number "
                "FROM counter WHERE minute BETWEEN ? AND ?",
                (first, last),
            )
        return [
            Count(minute, readable(queue), readable(task), what, number)
            for minute, queue, task, what, number in rows
        ]

    def pause(self, queue: str) -> None:
        with self._database.session() as connection:
            connection.execute("INSERT INTO pause VALUES (?) ON CONFLICT DO NOTHING", (queue,))

    def resume(self, queue: str) -> None:
        with self._database.session() as connection:
            connection.execute("DELETE FROM pause WHERE queue = ?", (queue,))
        self._waiting.wake(bit_of(queue))

    def prune(
        self, *, succeeded_before: float | None, failed_before: float | None, limit: int
    ) -> int:
        count = 0
        for state, before in (
            ("SUCCESS", succeeded_before),
            ("REVOKED", succeeded_before),
            ("FAILURE", failed_before),
        ):
            if before is not None and count < limit:
                which = f"state = '{state}' AND finished < ?"
                count += self._delete(which, (before,), limit - count)
        return count

    def _note(self, column: str, value: Value, task_id: str, token: int) -> bool:
        with self._database.session() as connection:
            connection.execute(NOTE.format(column=column), (value, storable(task_id), token))
            return connection.changes() > 0

    def _delete(self, which: str, bindings: tuple[Value, ...], limit: int = 2**62) -> int:
        """Delete up to *limit* records, in transactions of bounded size."""
        count = 0
        while count < limit:
            part = min(DELETED_AT_ONCE, limit - count)
            with self._database.session() as connection:
                connection.execute(DELETE.format(which=which), (*bindings, part))
                deleted = connection.changes()
            count += deleted
            if deleted < part:
                break
        self._shrink()
        return count

    def _shrink(self) -> None:
        """Give disk space back when most of the file is empty; the rest is soon used again."""
        with self._database.session() as connection:
            free, pages = connection.pragma("freelist_count"), connection.pragma("page_count")
        if free <= max(pages // 2, SHRUNK_AT_ONCE):
            return
        for _ in range(free // SHRUNK_AT_ONCE):
            with self._database.session() as connection:
                fetch(connection, f"PRAGMA incremental_vacuum({SHRUNK_AT_ONCE})")


def as_record(row: tuple[Any, ...]) -> Record:
    """A row of `RECORD`."""
    (
        task_id, body, name, queue, priority, sent, state, due, attempt, retries, losses,
        suspected, runs, token, consumer, claimed, finished, result, failure, reason, revoke,
        progress, tag,
    ) = row  # fmt: skip
    return Record(
        id=readable(task_id), body=body, task=readable(name), queue=readable(queue),
        priority=priority, sent=sent, state=State(state), due=due, attempt=attempt,
        retries=retries, losses=losses, suspected=suspected, runs=runs, token=token,
        consumer=readable(consumer), claimed=claimed, finished=finished, result=result,
        failure=read_failure(failure), reason=readable(reason), revoke=revoke,
        progress=read_progress(progress), tag=tag,
    )  # fmt: skip


def _attempt(row: tuple[Any, ...]) -> Attempt:
    number, event, started, ended, consumer, reason, failure, next_at, counted, loss, log = row
    return Attempt(
        number=number, event=Event(event), started=started, ended=ended,
        consumer=readable(consumer), reason=readable(reason), failure=read_failure(failure),
        next_at=next_at, counted=bool(counted), loss=bool(loss), log=readable(log),
    )  # fmt: skip


def as_list(names: Sequence[str]) -> str:
    """*names* as a JSON array for ``json_each``."""
    return msgspec.json.encode([storable(each) for each in names]).decode()
