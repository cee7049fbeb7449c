"""Moving tasks: the methods of `Broker` in memory."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from acked import record as change
from acked.broker import Beat, Claim, Order, worker_of
from acked.brokers.memory.store import Store
from acked.delivery import Delivery, Settlement, State
from acked.message import Message, encode
from acked.record import REVOKE_TERMINATE


class TaskQueue(Store):
    """The methods of `acked.broker.Broker` that move tasks."""

    def send(self, messages: Sequence[Message]) -> None:
        encoded = [(message, encode(message)) for message in messages]
        with self._lock:
            now = self._clock.now()
            for message, body in encoded:
                if message.id not in self._records:
                    tag = next(self._tags)
                    self._store(change.send(message, body=body, now=now, tag=tag))
        self._bells.ring()

    def send_by(self, messages: Sequence[Message], _deadline: float) -> None:
        """As `Ledger.send_by`: nothing here waits."""
        self.send(messages)

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Claim:
        deliveries: list[Delivery] = []
        with self._lock:
            refused = self.settle(settlements)
            now = self._clock.now()
            for line in self._open_lines(queues):
                while len(deliveries) < limit and (waiting := self._first(line)) is not None:
                    deliveries.append(self._hand_out(waiting, consumer, now))
            if deliveries:
                self._expect_beats(consumer)
                self._bells.ring()
        return Claim(deliveries, refused)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        refused: list[Settlement] = []
        with self._lock:
            for settlement in settlements:
                held = self._records.get(settlement.id)
                if held is None or not change.owns(held, settlement):
                    refused.append(settlement)
                    continue
                if held.state is not State.RUNNING:
                    continue
                entry = change.history(held, settlement)
                self._store(change.settle(held, settlement))
                if entry is not None:
                    self._attempts[held.id].append(entry)
        if settlements:
            self._bells.ring()
        return refused

    def renew(self, beat: Beat) -> list[Order]:
        with self._lock:
            self._leases[beat.worker] = self._clock.steady() + beat.lease
            self._beats[beat.worker] = beat
            return [
                Order(held.id, held.token)
                for held in self._held_by(beat.worker)
                if held.revoke == REVOKE_TERMINATE
            ]

    def leave(self, worker: str) -> None:
        with self._lock:
            self._leases.pop(worker, None)
            self._beats.pop(worker, None)

    def seize(self, holder: str, *, by: str, keep: Collection[int] = ()) -> list[Delivery]:
        with self._lock:
            return self._seize([h for h in self._held_by(holder) if h.token not in keep], by)

    def reap(self, *, by: str) -> list[Delivery]:
        with self._lock:
            now, steady = self._clock.now(), self._clock.steady()
            for line in self._lines.values():
                self._make_due_ready(line, now)
            for worker in [name for name, ends in self._leases.items() if ends <= steady]:
                self.leave(worker)
            orphans = [
                held for held in self._held() if worker_of(held.consumer) not in self._leases
            ]
            seized = self._seize(orphans, by)
        self._bells.ring()
        return seized

    def exchange(self, name: str, old: bytes | None, new: bytes) -> bytes | None:
        with self._lock:
            found = self._agreed.get(name)
            if found == old:
                self._agreed[name] = new
            return found

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        def patience() -> float:
            left = math.inf
            with self._lock:
                now = self._clock.now()
                for line in self._open_lines(queues):
                    if self._first(line) is not None:
                        return 0.0
                    if line.later:
                        left = min(left, line.later[0][0] - now)
            return left

        self._bells.wait(patience, timeout)

    def interrupt(self) -> None:
        self._bells.interrupt()
