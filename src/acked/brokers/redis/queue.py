"""Moving tasks: the methods of `Broker` over Redis. What each does is said in `acked.record`."""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from acked.broker import Beat, Claim, Order
from acked.brokers.redis import scripts
from acked.brokers.redis.address import Address
from acked.brokers.redis.rows import (
    claimed,
    message_rows,
    seized,
    seized_tags,
    settlement_rows,
    storable,
)
from acked.brokers.redis.store import Store
from acked.brokers.redis.waiting import Waiting
from acked.clock import Clock
from acked.delivery import Delivery, Settlement
from acked.errors import BrokerError
from acked.message import Message

PROMOTED_AT_ONCE = 1000
"""Due tasks of a queue that one script of `reap` makes ready."""

READ_BYTES = 4 * 2**20
"""Bytes of messages in one answer to a seizure, and one message more."""


class TaskQueue(Store):
    """The methods of `acked.broker.Broker` that move tasks."""

    def __init__(self, address: Address, clock: Clock | None, timeout: float) -> None:
        super().__init__(address, clock, timeout)
        self._waiting = Waiting(self._client, self._clock, self._look)
        # Who took something over -> bases of seizures whose answer was lost.
        self._unheard: dict[str, list[int]] = {}

    def send(self, messages: Sequence[Message]) -> None:
        self.send_by(messages, math.inf)

    def send_by(self, messages: Sequence[Message], deadline: float) -> None:
        """As `Ledger.send_by`."""
        if messages:
            rows, bodies = message_rows(messages)
            self._run(scripts.SEND, rows, stored=bodies, confirmed=True, until=deadline)

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Claim:
        rows, stored = settlement_rows(settlements)
        about, taken = self._run(
            scripts.TURN, rows, consumer, queues, max(limit, 0), token_base(), self._client.process,
            stored=stored, confirmed=bool(rows),
        )  # fmt: skip
        _, refused, count = about
        return Claim(
            claimed(count, *taken),
            [settlements[number - 1] for number in refused],
        )

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        if not settlements:
            return []
        rows, stored = settlement_rows(settlements)
        about, _ = self._run(scripts.SETTLE, rows, "", [], 0, 0, "", stored=stored, confirmed=True)
        return [settlements[number - 1] for number in about[1]]

    def renew(self, beat: Beat) -> list[Order]:
        about, _ = self._run(
            scripts.RENEW, beat.worker, beat.lease, stored=[msgspec.json.encode(beat)]
        )
        pairs = iter(about[1])
        return [Order(task_id, token) for task_id, token in zip(pairs, pairs, strict=True)]

    def leave(self, worker: str) -> None:
        self._run(scripts.LEAVE, worker)

    def seize(self, holder: str, *, by: str, keep: Collection[int] = ()) -> list[Delivery]:
        return self._seize(holder, by, keep=keep)

    def reap(self, *, by: str) -> list[Delivery]:
        # The first of these answers also tells whether the server's clock was set meanwhile.
        while self._run(scripts.PROMOTE, PROMOTED_AT_ONCE)[0][1]:
            pass
        return self._seize("", by)

    def exchange(self, name: str, old: bytes | None, new: bytes) -> bytes | None:
        (_, is_there), (found,) = self._run(
            scripts.EXCHANGE, storable(name), old is not None, stored=[new, old or b""]
        )
        return bytes(found) if is_there else None

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        self._waiting.wait(queues, timeout)

    def interrupt(self) -> None:
        self._waiting.interrupt()

    def _look(self, queues: Sequence[str]) -> float | None:
        about, _ = self._run(scripts.LOOK, queues)
        _, ready, due = about
        return -math.inf if ready else float(due) if due is not False else None

    def _seize(self, holder: str, by: str, *, keep: Collection[int] = ()) -> list[Delivery]:
        base = token_base()
        bases = [*self._unheard.get(by, ()), base]
        try:
            expected, since_jump = self._server_clock.expected, self._server_clock.since_jump
            about, _ = self._run(
                scripts.SEIZE, holder, by, base, since_jump, bases, self._client.process,
                False if expected is None else expected, list(keep),
            )  # fmt: skip
            rows: list[Any] = about[1]
            bodies = self._bodies(seized_tags(rows), about[2])
        except BrokerError:
            # It may have happened. The next one of this taker asks again.
            self._unheard[by] = bases
            raise
        self._unheard.pop(by, None)
        return seized(rows, bodies)

    def _bodies(self, tags: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """The messages of the tasks with *tags*, of *sizes*, in portions."""
        bodies: list[bytes] = []
        while len(bodies) < len(tags):
            first, weight = len(bodies), 0
            last = first
            while last < len(tags) and weight < READ_BYTES:
                weight += sizes[last]
                last += 1
            _, (portion,) = self._run(scripts.BODIES, tags[first:last])
            # One that is gone was discarded meanwhile; what is said of its task will be refused.
            bodies += [each or b"" for each in portion]
        return bodies


def token_base() -> int:
    """What is added to a task's tag to make a token; the sum has 53 bits, which Lua's numbers hold.
    From the system, not `random`: a task that seeds `random` would make tokens repeat."""
    return secrets.randbits(52) | 1
