"""What a broker should hold, kept in plain dictionaries and stepped by `acked.record`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from acked import record as change
from acked.broker import DEFAULT_LEASE, Beat, Order, QueueCounts, worker_of
from acked.clock import Clock
from acked.delivery import Delivery, Settlement, State
from acked.message import Message, encode
from acked.record import REVOKE_TERMINATE, Attempt, Progress, Record, as_delivery

COUNTED = {state: state.value.lower() for state in State}


class Model:
    """The records of a broker that does what `acked.broker` says.

    What a broker is free to choose it takes over from its answer: the tokens, the tags, which of
    several equal tasks it hands out, and when it notices that a scheduled task is due.

    Args:
        clock: The broker's.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.records: dict[str, Record] = {}
        self.attempts: dict[str, list[Attempt]] = {}
        self.saved: dict[str, bytes] = {}
        self.leases: dict[str, float] = {}
        self.beats: dict[str, Beat] = {}
        self.paused: set[str] = set()
        self.tokens: set[int] = set()
        # Kept apart from the records, from what callers were told: task id -> the token that owns.
        self.holders: dict[str, int] = {}

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.id not in self.records:
                self.records[message.id] = change.send(
                    message, body=encode(message), now=self.clock.now()
                )
                self.attempts[message.id] = []

    def learn_tag(self, record: Record) -> None:
        """The broker has numbered a task it was sent."""
        if self.records[record.id].tag == 0:
            self.records[record.id] = msgspec.structs.replace(
                self.records[record.id], tag=record.tag
            )

    def ready(self, queue: str) -> list[Record]:
        """What a claim from *queue* may give."""
        if queue in self.paused:
            return []
        return [
            record
            for record in self.records.values()
            if record.queue == queue and (record.state is State.QUEUED or self.is_due(record))
        ]

    def is_due(self, record: Record) -> bool:
        return record.state is State.SCHEDULED and record.due <= self.clock.now()

    def notice_due(self, task_id: str) -> None:
        """The broker has made it ready."""
        record = self.records[task_id]
        if self.is_due(record):
            self.records[task_id] = change.due(record)

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        deliveries: Sequence[Delivery],
        *,
        ordered: bool,
    ) -> None:
        """Check *deliveries* against what waits, and their order if it is *ordered*; hand them
        out."""
        ready = {queue: self.ready(queue) for queue in queues}
        left = limit
        expected: list[tuple[str, int]] = []
        for queue in queues:
            priorities = sorted((record.priority for record in ready[queue]), reverse=True)[:left]
            left -= len(priorities)
            expected += [(queue, priority) for priority in priorities]
        claimed = [self.records[delivery.id] for delivery in deliveries]
        order = [(record.queue, record.priority) for record in claimed]
        assert order == expected if ordered else len(order) == len(expected)
        for delivery, waiting in zip(deliveries, claimed, strict=True):
            assert waiting in ready[waiting.queue], f"{waiting} was not ready"
            self.notice_due(waiting.id)
            self.records[waiting.id] = change.claim(
                self.records[waiting.id],
                token=self.fresh(delivery.token), consumer=consumer, now=self.clock.now(),
            )  # fmt: skip
            assert delivery == as_delivery(self.records[waiting.id])
            self.holders[waiting.id] = delivery.token
        if deliveries:
            self.expect_beats(consumer)

    def settle(self, settlements: Iterable[Settlement]) -> list[Settlement]:
        refused = []
        for settlement in settlements:
            record = self.records.get(settlement.id)
            if record is None or not change.owns(record, settlement):
                refused.append(settlement)
                continue
            entry = change.history(record, settlement)
            self.records[record.id] = change.settle(record, settlement)
            if entry is not None:
                self.attempts[record.id].append(entry)
            self.holders.pop(record.id, None)
        return refused

    def seize(self, held: Sequence[Record], by: str, deliveries: Sequence[Delivery]) -> None:
        """Check that *deliveries* are just *held*, and give them to *by*."""
        seized = {delivery.id: delivery for delivery in deliveries}
        assert len(seized) == len(deliveries)
        assert seized.keys() == {record.id for record in held}
        for before in held:
            token = self.fresh(seized[before.id].token)
            after = change.seize(before, token=token, consumer=by)
            assert seized[before.id] == as_delivery(after, seized_from=before)
            self.records[before.id] = after
            self.holders[before.id] = token
        if held:
            self.expect_beats(by)

    def held_by(self, holder: str) -> list[Record]:
        return [
            record
            for record in self.records.values()
            if record.state is State.RUNNING
            and holder in (record.consumer, worker_of(record.consumer))
        ]

    def renew(self, beat: Beat) -> list[Order]:
        self.beats[beat.worker] = beat
        self.leases[beat.worker] = self.clock.steady() + beat.lease
        return [
            Order(record.id, record.token)
            for record in self.held_by(beat.worker)
            if record.revoke == REVOKE_TERMINATE
        ]

    def leave(self, worker: str) -> None:
        self.beats.pop(worker, None)
        self.leases.pop(worker, None)

    def reap(self, by: str, deliveries: Sequence[Delivery]) -> None:
        for worker in [name for name, end in self.leases.items() if end <= self.clock.steady()]:
            self.leave(worker)
        orphans = [
            record
            for record in self.records.values()
            if record.state is State.RUNNING and worker_of(record.consumer) not in self.leases
        ]
        self.seize(orphans, by, deliveries)
        for task_id in self.records:
            self.notice_due(task_id)

    def expect_beats(self, consumer: str) -> None:
        self.leases.setdefault(worker_of(consumer), self.clock.steady() + DEFAULT_LEASE)

    def fresh(self, token: int) -> int:
        assert token not in self.tokens, f"token {token} was given twice"
        assert 1 <= token < 2**63
        self.tokens.add(token)
        return token

    def revoke(self, task_ids: Sequence[str], *, terminate: bool) -> int:
        unfinished = [record for record in self.known(task_ids) if not record.is_final]
        for record in unfinished:
            self.records[record.id] = change.revoke(
                record, terminate=terminate, now=self.clock.now()
            )
        return len(unfinished)

    def requeue(self, task_ids: Sequence[str]) -> int:
        ended = [
            record
            for record in self.known(task_ids)
            if record.state in (State.FAILURE, State.REVOKED)
        ]
        for record in ended:
            self.records[record.id] = change.requeue(record, now=self.clock.now())
        return len(ended)

    def delete(self, doomed: Sequence[Record]) -> int:
        for record in doomed:
            del self.records[record.id], self.attempts[record.id]
            self.saved.pop(record.id, None)
        return len(doomed)

    def report(self, task_id: str, token: int, progress: Progress) -> bool:
        if not self.may_speak(task_id, token):
            return False
        self.records[task_id] = msgspec.structs.replace(self.records[task_id], progress=progress)
        return True

    def save(self, task_id: str, token: int, checkpoint: bytes) -> bool:
        if not self.may_speak(task_id, token):
            return False
        self.saved[task_id] = checkpoint
        return True

    def may_speak(self, task_id: str, token: int) -> bool:
        return self.holders.get(task_id) == token

    def known(self, task_ids: Sequence[str]) -> list[Record]:
        return [self.records[task_id] for task_id in task_ids if task_id in self.records]

    def counts(self) -> dict[str, QueueCounts]:
        queues = {record.queue for record in self.records.values()} | self.paused
        return {queue: self.count(queue) for queue in queues}

    def count(self, queue: str) -> QueueCounts:
        records = [record for record in self.records.values() if record.queue == queue]
        return QueueCounts(
            queue=queue,
            **{
                name: sum(record.state is state for record in records)
                for state, name in COUNTED.items()
            },
            oldest=min((r.due for r in records if r.state is State.QUEUED), default=None),
            paused=queue in self.paused,
        )
