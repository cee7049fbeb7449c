"""Moving tasks: the methods of `Broker` over PostgreSQL. What each does is said in `acked.record`.

What a worker does all the time, settling a batch and claiming the next, is two functions of the
database, called in one round trip and one transaction.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import msgspec

from acked.broker import DEFAULT_LEASE, Beat, Claim, Order, worker_of
from acked.brokers.postgres.connection import Call, Rows, Statement
from acked.brokers.postgres.looking import note
from acked.brokers.postgres.settling import settling
from acked.brokers.postgres.store import Store
from acked.brokers.postgres.values import (
    blobs,
    float8,
    float8s,
    int2s,
    int4,
    int8,
    int8s,
    text,
    texts,
)
from acked.clock import JUMP
from acked.delivery import Delivery, Settlement
from acked.message import Message, encode

SEND = Statement("SELECT {schema}.send($1, $2, $3, $4, $5, $6, $7, $8)", "d")

TAKE = Statement(
    "SELECT seq, id, body, attempt, retries, losses, suspected, runs, queue, sent, claimed, "
    "priority, due FROM {schema}.take($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    "qtbqqqqqtddqd",
)

RENEW = Statement(
    """
    INSERT INTO {schema}.worker (worker, lease_until, beat)
    VALUES ($1, coalesce($2, extract(epoch FROM clock_timestamp())::float8) + $3, $4)
    ON CONFLICT (worker) DO UPDATE SET lease_until = excluded.lease_until, beat = excluded.beat
    RETURNING extract(epoch FROM clock_timestamp())::float8
    """,
    "d",
)

ORDERS = Statement(
    """
    SELECT t.id, r.token FROM {schema}.running AS r JOIN {schema}.task AS t ON t.seq = r.seq
    WHERE r.revoke = 2 AND (r.consumer = $1 OR r.consumer >= $2 AND r.consumer < $3)
    """,
    "tq",
)

LEAVE = Statement("DELETE FROM {schema}.worker WHERE worker = $1")

HOLDERS = Statement("SELECT {schema}.holders()", "T")

SEIZE = Statement(
    "SELECT seq, id, body, attempt, retries, losses, suspected, runs, queue, sent, claimed, "
    "holder, token FROM {schema}.seize($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    "qtbqqqqqtddtq",
)

DUE = Statement(
    """
    WITH RECURSIVE name (queue) AS (
        (SELECT queue FROM {schema}.waiting WHERE scheduled ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (
            SELECT w.queue FROM {schema}.waiting AS w WHERE scheduled AND w.queue > name.queue
            ORDER BY w.queue LIMIT 1
        )
        FROM name WHERE queue IS NOT NULL
    )
    SELECT queue FROM name
    WHERE queue IS NOT NULL AND (
        SELECT due FROM {schema}.waiting AS w WHERE scheduled AND w.queue = name.queue
        ORDER BY due LIMIT 1
    ) <= coalesce($1, extract(epoch FROM clock_timestamp())::float8)
    """,
    "t",
)
"""Queues in which tasks are due: one look at the index for each, however many are scheduled."""

PROMOTE = Statement(
    "SELECT {schema}.promote($1, coalesce($2, extract(epoch FROM clock_timestamp())::float8))", "q"
)

LEASE = "coalesce(substring(encode(beat, 'escape') FROM ',\"lease\":([0-9.eE+-]+)')::float8, $2)"
"""Seconds that a worker's lease is given for; $2 before its first beat. Cut out of the beat, not
parsed: PostgreSQL refuses JSON in which the name of a queue holds a NUL. The quotes tell it from
what a name holds, where they are escaped."""

CAP = Statement(
    """
    UPDATE {schema}.worker
    SET lease_until = coalesce($1, extract(epoch FROM clock_timestamp())::float8) + {lease}
    WHERE lease_until > coalesce($1, extract(epoch FROM clock_timestamp())::float8) + {lease} + $3
    """.replace("{lease}", LEASE)
)
"""No lease may last longer than it is given for, as one does once the server's clock was set back.
Finds nothing at any other time, and so locks no row that a beat would wait for."""

LAPSED = Statement(
    """
    DELETE FROM {schema}.worker
    WHERE lease_until
        <= coalesce($1, least(extract(epoch FROM clock_timestamp())::float8, $3::float8))
      AND {lease} <= $4
    """.replace("{lease}", LEASE)
)
"""Once the server's clock was set, the leases before that mean nothing: each worker has the time of
its own to beat anew."""

LIVING = Statement("SELECT worker FROM {schema}.worker", "t")

SUM_UP = Statement("SELECT {schema}.sum_up()", "b")

EXCHANGE = Statement("SELECT {schema}.exchange($1, $2, $3)", "b")

SEIZED_AT_ONCE = 4 * 2**20
"""Bytes of messages that one answer to a seizure has, and one message more."""

PROMOTED_AT_ONCE = 1000
"""What `promote` does at the most."""


class TaskQueue(Store):
    """The methods of `acked.broker.Broker` that move tasks."""

    def send(self, messages: Sequence[Message]) -> None:
        self.send_by(messages, math.inf)

    def send_by(self, messages: Sequence[Message], deadline: float) -> None:
        """As `Ledger.send_by`."""
        if not messages:
            return
        asked = self._server_clock.here()
        (((now,),), *_) = self._database.run(
            Call(SEND, [*sending(messages), self._now()]),
            then=self._wake(message.queue for message in messages),
            repeatable=True,
            until=deadline,
        )
        self._told(now, asked)

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Claim:
        settle = settling(settlements)
        calls = list(settle.calls)
        if limit > 0:
            calls.append(
                Call(
                    TAKE,
                    [
                        text(consumer), text(worker_of(consumer)), texts(queues), int4(limit),
                        *self._looks.parameters(queues), *self._claiming(),
                    ],
                )
            )  # fmt: skip
        if not calls:
            return Claim([], [])
        base = calls[-1].parameters[-1]
        asked = self._server_clock.here()
        answers = self._database.run(*calls)
        refused = self._settled(settlements, settle.refused(answers), settle.woken(answers))
        if limit <= 0:
            return Claim([], refused)
        rows = answers[-1]
        if rows:
            self._told(rows[-1][10], asked)
            note(self._looks, rows)
        return Claim(self._taken(rows, consumer, base), refused)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        if not settlements:
            return []
        settle = settling(settlements)
        answers = self._database.run(*settle.calls, repeatable=True)
        return self._settled(settlements, settle.refused(answers), settle.woken(answers))

    def renew(self, beat: Beat) -> list[Order]:
        name = text(beat.worker)
        asked = self._server_clock.here()
        ((now,),), orders = self._database.run(
            Call(RENEW, (name, self._steady(), float8(beat.lease), msgspec.json.encode(beat))),
            Call(ORDERS, (name, name + b"/", name + b"0")),
            repeatable=True,
        )
        self._told(now, asked)
        return [Order(task_id, token) for task_id, token in orders]

    def leave(self, worker: str) -> None:
        self._database.run(Call(LEAVE, (text(worker),)), repeatable=True)

    def seize(self, holder: str, *, by: str, keep: Collection[int] = ()) -> list[Delivery]:
        if worker_of(holder) != holder:
            return self._seize([holder], [], by, keep)
        ((holders,),) = self._database.run(Call(HOLDERS), repeatable=True)[0]
        dead = [each for each in holders if holder in (each, worker_of(each))]
        return self._seize(dead, [], by, keep)

    def reap(self, *, by: str) -> list[Delivery]:
        (queues,) = self._database.run(Call(DUE, (self._now(),)), repeatable=True)
        for (queue,) in queues:
            self._promote(queue)
        self._database.run(Call(SUM_UP))
        steady, default = self._steady(), float8(DEFAULT_LEASE)
        clock = self._server_clock
        since_jump = math.inf if self._given_clock is not None else clock.since_jump
        # The dead are forgotten first: *by* may be one of them, and gets a lease with what it
        # seizes.
        *_, ((holders,),), living = self._database.run(
            Call(CAP, (steady, default, float8(JUMP))),
            Call(LAPSED, (steady, default, float8(clock.expected), float8(since_jump))),
            Call(HOLDERS),
            Call(LIVING),
            repeatable=True,
        )
        alive = {worker for (worker,) in living}
        dead = [each for each in holders if worker_of(each) not in alive]
        return self._seize(dead, [worker_of(each) for each in dead], by)

    def exchange(self, name: str, old: bytes | None, new: bytes) -> bytes | None:
        (((found,),),) = self._database.run(Call(EXCHANGE, (text(name), old, new)), repeatable=True)
        result: bytes | None = found
        return result

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        self._waiting.wait(queues, timeout)

    def interrupt(self) -> None:
        self._waiting.interrupt()

    def _settled(
        self, settlements: Sequence[Settlement], tokens: Sequence[int], woken: Sequence[str]
    ) -> list[Settlement]:
        """Wake who waits for what waits again; those of *settlements* that have one of *tokens*."""
        self._ready_again(woken)
        if not tokens:
            return []
        stale = set(tokens)
        return [each for each in settlements if each.token in stale]

    def _taken(self, rows: Rows, consumer: str, base: bytes | None) -> list[Delivery]:
        first = int.from_bytes(base or b"", "big")
        return [
            Delivery(
                id=task_id, body=body, token=first + seq, attempt=attempt, retries=retries,
                losses=losses, suspected=suspected, runs=runs, queue=queue, sent=sent, tag=seq,
                consumer=consumer, claimed=claimed,
            )
            for (
                seq, task_id, body, attempt, retries, losses, suspected, runs, queue, sent, claimed,
                *_,
            ) in rows
            if seq is not None
        ]  # fmt: skip

    def _promote(self, queue: str) -> None:
        """Make what is due in *queue* ready, in transactions of bounded size."""
        count = PROMOTED_AT_ONCE
        while count >= PROMOTED_AT_ONCE:
            ((count,),), *_ = self._database.run(
                Call(PROMOTE, (text(queue), self._now())), then=self._wake([queue]),
                repeatable=True,
            )  # fmt: skip

    def _seize(
        self,
        holders: Sequence[str],
        workers: Sequence[str],
        by: str,
        keep: Collection[int] = (),
    ) -> list[Delivery]:
        seized: list[Delivery] = []
        while holders:
            # Behind what was taken, which has *by* as its holder, who may be one of *holders*.
            after = seized[-1].tag if seized else 0
            portion = self._seize_some(holders, workers, by, keep, after)
            if not portion:
                break
            seized += portion
        return seized

    def _seize_some(
        self,
        holders: Sequence[str],
        workers: Sequence[str],
        by: str,
        keep: Collection[int],
        after: int,
    ) -> list[Delivery]:
        parameters = self._claiming()
        first = int.from_bytes(parameters[-1] or b"", "big")
        (rows,) = self._database.run(
            Call(
                SEIZE,
                [
                    texts(holders), texts(workers), text(by), text(worker_of(by)), *parameters,
                    int8s(tuple(keep)), int8(after), int8(SEIZED_AT_ONCE),
                ],
            )
        )  # fmt: skip
        return [
            Delivery(
                id=task_id, body=body, token=first + seq, attempt=attempt, retries=retries,
                losses=losses, suspected=suspected, runs=runs, queue=queue, sent=sent, tag=seq,
                consumer=holder, seized_token=token, claimed=claimed,
            )
            for (
                seq, task_id, body, attempt, retries, losses, suspected, runs, queue, sent, claimed,
                holder, token,
            ) in rows
        ]  # fmt: skip


def sending(messages: Sequence[Message]) -> list[bytes | None]:
    """The parameters of `SEND` but the time."""
    return [
        texts([each.id for each in messages]),
        texts([each.task for each in messages]),
        texts([each.queue for each in messages]),
        int2s([each.priority for each in messages]),
        float8s([each.eta for each in messages]),
        float8s([each.sent for each in messages]),
        blobs([encode(each) for each in messages]),
    ]
