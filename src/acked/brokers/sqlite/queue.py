"""Moving tasks: the methods of `Broker` over SQLite. What each does is said in `acked.record`.

The hot paths, `send` and `claim`, hold the write lock for one step of SQLite each: see
`connection` for why, and ``turn.sql`` for how.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from acked.broker import DEFAULT_LEASE, Beat, Claim, Order, worker_of
from acked.brokers.sqlite.connection import Row, fetch
from acked.brokers.sqlite.store import Store, this_boot
from acked.brokers.sqlite.turn import TURN, insert, readable, stage, taken
from acked.brokers.sqlite.wake import EVERY_QUEUE, bit_of
from acked.delivery import COMES_BACK, Delivery, Settlement
from acked.message import Message, encode
from acked.record import REVOKE_TERMINATE

SENT_AT_ONCE = 500
"""Messages in one INSERT: measured best, and short enough for the statement to be kept prepared."""

PROMOTED_AT_ONCE = 1000
"""Due tasks that one transaction of `reap` makes ready."""

SEND = """
INSERT INTO task (id, name, queue, priority, state, due, sent, body) VALUES {rows}
ON CONFLICT (id) DO NOTHING
"""

SEND_ONE = SEND.format(rows="(?, ?, ?, ?, ?, ?, ?, ?)")

RENEW = """
INSERT INTO worker (worker, boot, lease_until, beat) VALUES (?, ?, ?, ?)
ON CONFLICT (worker) DO UPDATE
SET boot = excluded.boot, lease_until = excluded.lease_until, beat = excluded.beat
"""

EXPECT_BEATS = """
INSERT INTO worker (worker, boot, lease_until) VALUES (?, ?, ?) ON CONFLICT DO NOTHING
"""

HELD_BY = """
state = 'RUNNING' AND (consumer = ? OR consumer >= ? AND consumer < ?)
AND token NOT IN (SELECT value FROM json_each(?))
"""
"""What a worker or one consumer holds, but for some tokens; `_range` gives the first bindings."""

ORDERS = """
SELECT CAST(id AS BLOB), token FROM task INDEXED BY running
WHERE state = 'RUNNING' AND (consumer = ? OR consumer >= ? AND consumer < ?) AND revoke = ?
"""

HELD = """
SELECT CAST(id AS BLOB), token, attempt, retries, losses, suspected, runs, CAST(queue AS BLOB),
       sent, seq, body, CAST(consumer AS BLOB), claimed
FROM task INDEXED BY running WHERE {which} ORDER BY +seq
"""
"""The index is named, as the order would tempt SQLite to read the whole table in it."""

ORPHANED = """
state = 'RUNNING' AND NOT EXISTS (
    SELECT 1 FROM worker
    WHERE worker = substr(consumer, 1, instr(consumer || '/', '/') - 1)
      AND boot = ? AND lease_until > ?
)
"""

PROMOTE = """
UPDATE task SET state = 'QUEUED'
WHERE seq IN (
    SELECT seq FROM task
    WHERE state = 'SCHEDULED' AND queue = CAST(? AS TEXT) AND due <= ? ORDER BY due LIMIT ?
)
"""

QUEUES_WITH_DUE = """
WITH RECURSIVE name (queue) AS (
    SELECT min(queue) FROM task WHERE state = 'SCHEDULED'
    UNION ALL
    SELECT (SELECT min(queue) FROM task WHERE state = 'SCHEDULED' AND queue > name.queue)
    FROM name WHERE queue IS NOT NULL
)
SELECT CAST(queue AS BLOB) FROM name
WHERE (SELECT min(due) FROM task WHERE state = 'SCHEDULED' AND task.queue = name.queue) <= ?
"""
"""One look at the index for each queue, however many tasks are scheduled."""


AGREED = "SELECT value FROM agreement WHERE name = ?"

AGREE = """
INSERT INTO agreement (name, value) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


class TaskQueue(Store):
    """The methods of `acked.broker.Broker` that move tasks."""

    def send(self, messages: Sequence[Message]) -> None:
        self.send_by(messages, math.inf)

    def send_by(self, messages: Sequence[Message], deadline: float) -> None:
        """As `Ledger.send_by`."""
        now = self._clock.now()
        rows = [_row(message, now) for message in messages]
        if len(rows) == 1:
            with self._database.session(deadline) as connection:
                connection.execute(SEND_ONE, rows[0])
        elif len(rows) <= SENT_AT_ONCE:
            # What fits into one statement needs no transaction around it.
            with self._database.session(deadline) as connection:
                insert(connection, SEND, rows, SENT_AT_ONCE)
        else:
            with self._database.transaction(deadline) as connection:
                insert(connection, SEND, rows, SENT_AT_ONCE)
        if self._waiting.anyone():
            self._announce(messages, now)

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Claim:
        if not settlements:
            # Reads only, so that an idle worker writes nothing.
            due = self._waiting.next_work(queues) if limit > 0 else None
            if due is None or due > self._clock.now():
                return Claim([], [])
        return self._turn(settlements, consumer, queues, limit)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        return self._turn(settlements).refused if settlements else []

    def renew(self, beat: Beat) -> list[Order]:
        lease_until = self._clock.steady() + beat.lease
        about = msgspec.json.encode(beat).decode()
        with self._database.session() as connection:
            connection.execute(RENEW, (beat.worker, this_boot(), lease_until, about))
            rows = fetch(connection, ORDERS, (*_range(beat.worker), REVOKE_TERMINATE))
        return [Order(readable(task_id), token) for task_id, token in rows]

    def leave(self, worker: str) -> None:
        with self._database.session() as connection:
            connection.execute("DELETE FROM worker WHERE worker = ?", (worker,))

    def seize(self, holder: str, *, by: str, keep: Collection[int] = ()) -> list[Delivery]:
        tokens = msgspec.json.encode(keep).decode()
        return self._seize(HELD_BY, (*_range(holder), tokens), by)

    def reap(self, *, by: str) -> list[Delivery]:
        now, boot, steady = self._clock.now(), this_boot(), self._clock.steady()
        with self._database.session() as connection:
            queues = fetch(connection, QUEUES_WITH_DUE, (now,))
            lapsed = fetch(
                connection,
                "SELECT 1 FROM worker WHERE boot <> ? OR lease_until <= ?",
                (boot, steady),
            )
        for (queue,) in queues:
            self._promote(queue, now)
        if lapsed:
            # Before the seizure: *by* may be one of them, and gets a lease with what it seizes.
            with self._database.session() as connection:
                connection.execute(
                    "DELETE FROM worker WHERE boot <> ? OR lease_until <= ?", (boot, steady)
                )
        return self._seize(ORPHANED, (boot, steady), by)

    def exchange(self, name: str, old: bytes | None, new: bytes) -> bytes | None:
        name = name.encode(errors="replace").decode()
        with self._database.transaction() as connection:
            rows = fetch(connection, AGREED, (name,))
            found: bytes | None = rows[0][0] if rows else None
            if found == old:
                connection.execute(AGREE, (name, new))
        return found

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        self._waiting.wait(queues, timeout)

    def interrupt(self) -> None:
        self._waiting.interrupt()

    def _announce(self, messages: Sequence[Message], now: float) -> None:
        """Wake a waiter for each task that is ready, and one for each queue's next due time."""
        ready: Counter[int] = Counter()
        later: dict[int, float] = {}
        for message in messages:
            bit, eta = bit_of(message.queue), message.eta
            if eta is not None and eta > now:
                later[bit] = min(eta, later.get(bit, eta))
            else:
                ready[bit] += 1
        for bit, count in ready.items():
            self._waiting.wake(bit, count)
        for bit, due in later.items():
            self._waiting.wake(bit, 1, due=due)

    def _turn(
        self,
        settlements: Sequence[Settlement],
        consumer: str = "",
        queues: Sequence[str] = (),
        limit: int = 0,
    ) -> Claim:
        """Settle, then take what there is: one write."""
        now = self._clock.now()
        with self._database.session() as connection:
            stage(connection, settlements)
            connection.execute(
                TURN,
                (
                    consumer, worker_of(consumer), this_boot(),
                    self._clock.steady() + DEFAULT_LEASE,
                    msgspec.json.encode(queues).decode(), max(limit, 0), now, token_base(),
                ),
            )  # fmt: skip
            numbers = fetch(connection, "SELECT number FROM refused")
            deliveries = taken(connection, consumer, now) if limit > 0 else []
        self._wake_after(settlements)
        return Claim(deliveries, [settlements[number - 1] for (number,) in numbers])

    def _wake_after(self, settlements: Sequence[Settlement]) -> None:
        soonest = math.inf
        for settlement in settlements:
            if settlement.event in COMES_BACK:
                soonest = min(soonest, settlement.not_before or -math.inf)
        if soonest < math.inf:
            self._waiting.wake(EVERY_QUEUE, due=soonest)

    def _promote(self, queue: bytes, now: float) -> None:
        """Make what is due in *queue* ready, in transactions of bounded size."""
        while True:
            with self._database.session() as connection:
                connection.execute(PROMOTE, (queue, now, PROMOTED_AT_ONCE))
                count = connection.changes()
            self._waiting.wake(bit_of(readable(queue)), count)
            if count < PROMOTED_AT_ONCE:
                return

    def _seize(self, which: str, bindings: Row, by: str) -> list[Delivery]:
        held = HELD.format(which=which)
        with self._database.session() as connection:
            if not fetch(connection, f"{held} LIMIT 1", bindings):
                return []
        base = token_base()
        with self._database.transaction() as connection:
            rows = fetch(connection, held, bindings)
            deliveries = [_seized(row, base) for row in rows]
            connection.executemany(
                "UPDATE task SET token = ?, consumer = ? WHERE seq = ?",
                [(each.token, by, each.tag) for each in deliveries],
            )
            lease_until = self._clock.steady() + DEFAULT_LEASE
            connection.execute(EXPECT_BEATS, (worker_of(by), this_boot(), lease_until))
        return deliveries


def _row(message: Message, now: float) -> Row:
    eta = message.eta
    state, due = ("SCHEDULED", eta) if eta is not None and eta > now else ("QUEUED", now)
    return (
        message.id, message.task, message.queue, message.priority, state, due, message.sent,
        encode(message),
    )  # fmt: skip


def _seized(row: Sequence[Any], base: int) -> Delivery:
    (
        task_id, token, attempt, retries, losses, suspected, runs, queue, sent, tag, body, consumer,
        claimed,
    ) = row  # fmt: skip
    return Delivery(
        id=readable(task_id), body=body, token=base + tag, attempt=attempt, retries=retries,
        losses=losses, suspected=suspected, runs=runs, queue=readable(queue), sent=sent, tag=tag,
        consumer=readable(consumer), seized_token=token, claimed=claimed,
    )  # fmt: skip


def _range(holder: str) -> tuple[str, str, str]:
    """Bindings for `HELD_BY`: the holder itself, and everything that begins with it and a slash."""
    return holder, f"{holder}/", f"{holder}0"


def token_base() -> int:
    """What is added to a task's own number to make a token. From the system, not `random`: a task
    that seeds `random` would make tokens repeat."""
    return secrets.randbits(62) | 1
