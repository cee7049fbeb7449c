"""A world of tasks, processes and accidents, made of the pure core and a seeded die alone."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from enum import Enum, auto

from acked import record as change
from acked.delivery import Delivery, Event, Failure, Settlement, State
from acked.message import Message, encode
from acked.outcome import (
    HardLimit,
    Outcome,
    Raised,
    Rejected,
    RetryAsked,
    Succeeded,
    TaskPolicy,
    decide,
)
from acked.record import Attempt, Record, as_delivery, owns
from acked.retry import RetryPolicy
from acked.supervision import Death, must_run_alone, outcome_of_death

POLICY = TaskPolicy(retry=RetryPolicy(max_retries=3, backoff=1.0))
ROOM_TO_RUN = 3
ROOM_AHEAD = 4


class Kind(Enum):
    """What a task does when it runs."""

    PLAIN = auto()  # Returns.
    FLAKY = auto()  # Raises twice, then returns; each time covered by autoretry_for.
    ASKS = auto()  # Calls self.retry() twice, then returns.
    BROKEN = auto()  # Raises what nothing covers.
    HOPELESS = auto()  # Raises each time; covered.
    REJECTS = auto()  # Raises Reject(requeue=True) twice, then returns.
    SLOW = auto()  # Passes its hard limit, and is not retried for it.
    POISON = auto()  # Kills its process as soon as it starts.


class Process:
    """One process: what it runs, and what it claimed ahead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.running: dict[int, tuple[Delivery, float]] = {}
        self.ahead: list[Delivery] = []

    @property
    def held(self) -> list[Delivery]:
        return [delivery for delivery, _ in self.running.values()] + self.ahead

    def may_start(self, delivery: Delivery) -> bool:
        if len(self.running) >= ROOM_TO_RUN:
            return False
        alone = any(must_run_alone(other) for other, _ in self.running.values())
        return not self.running or not (alone or must_run_alone(delivery))


class World:
    """Tasks sent to processes that work, stop, die and come back.

    Args:
        seed: Decides everything that happens.
        accidents: Processes also die through no fault of any task.
    """

    def __init__(self, seed: int, *, accidents: bool) -> None:
        self.die = random.Random(seed)
        self.accidents = accidents
        self.now = 1_000.0
        self.tokens = itertools.count(1)
        self.names = itertools.count()
        self.kinds: dict[str, Kind] = {}
        self.records: dict[str, Record] = {}
        self.history: dict[str, list[Attempt]] = {}
        self.starts: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.late: list[Settlement] = []
        self.processes = [self.new_process() for _ in range(3)]

    def new_process(self) -> Process:
        return Process(f"w/{next(self.names)}")

    def step(self) -> None:
        """One thing happens."""
        happenings = [self.send, self.claim, self.claim, self.start, self.start, self.finish]
        happenings += [self.finish, self.time_passes, self.stop, self.late_word]
        if self.accidents:
            happenings += [self.accident]
        self.die.choice(happenings)()

    def send(self) -> None:
        if len(self.records) >= 25:
            return
        task_id = f"task-{len(self.records)}"
        eta = self.now + self.die.choice([0, 0, 5])
        message = Message(id=task_id, task="t", eta=eta, sent=self.now)
        self.kinds[task_id] = self.die.choice(list(Kind))
        self.records[task_id] = change.send(message, body=encode(message), now=self.now)
        self.history[task_id] = []

    def claim(self) -> None:
        process = self.die.choice(self.processes)
        for record in list(self.records.values()):
            if record.state is State.SCHEDULED and record.due <= self.now:
                record = change.due(record)
            if record.state is State.QUEUED and len(process.ahead) < ROOM_AHEAD:
                record = change.claim(
                    record, token=next(self.tokens), consumer=process.name, now=self.now
                )
                process.ahead.append(as_delivery(record))
            self.records[record.id] = record

    def start(self) -> None:
        process = self.die.choice(self.processes)
        if not process.ahead or not process.may_start(process.ahead[0]):
            return
        delivery = process.ahead.pop(0)
        process.running[delivery.token] = (delivery, self.now)
        self.starts[delivery.id] += 1
        if self.kinds[delivery.id] is Kind.POISON:
            self.dies(process, Death(how="signal 9 (SIGKILL)"))

    def finish(self) -> None:
        process = self.die.choice(self.processes)
        if not process.running:
            return
        token = self.die.choice(list(process.running))
        delivery, started = process.running[token]
        if self.kinds[delivery.id] is Kind.SLOW:
            self.dies(process, Death(how="signal 9 (SIGKILL)", overran=token, limit=5))
            return
        del process.running[token]
        self.endings[delivery.id] += 1
        self.settle(delivery, self.ending(delivery), started)

    def ending(self, delivery: Delivery) -> Outcome:
        """How the function ends, from what it has been through."""
        kind, error = self.kinds[delivery.id], Failure("ValueError")
        if kind is Kind.BROKEN:
            return Raised(error)
        if kind is Kind.HOPELESS or (kind is Kind.FLAKY and delivery.retries < 2):
            return Raised(error, retryable=True)
        if kind is Kind.ASKS and delivery.retries < 2:
            return RetryAsked(wait=1)
        if kind is Kind.REJECTS and self.endings[delivery.id] <= 2:
            return Rejected("busy", requeue=True)
        return Succeeded(b"1")

    def settle(self, delivery: Delivery, outcome: Outcome, started: float | None) -> None:
        settlement = decide(
            delivery, outcome, POLICY, now=self.now, roll=self.die.random(), started=started
        )
        record = self.records[delivery.id]
        assert owns(record, settlement)
        entry = change.history(record, settlement)
        self.records[record.id] = change.settle(record, settlement)
        if entry is not None:
            self.history[record.id].append(entry)
        # The reply was lost, and it says so again.
        assert change.settle(self.records[record.id], settlement) == self.records[record.id]

    def dies(self, process: Process, death: Death) -> None:
        """The process is gone; someone else seizes and settles what it held, and a new one
        takes its place."""
        running = set(process.running)
        for delivery in process.held:
            self.late.append(
                Settlement.succeed(delivery, at=self.now, started=self.now, result=b"late")
            )
            before = self.records[delivery.id]
            after = change.seize(before, token=next(self.tokens), consumer="w")
            self.records[delivery.id] = after
            seized = as_delivery(after, seized_from=before)
            started = process.running[delivery.token][1] if delivery.token in running else None
            outcome = outcome_of_death(seized, running, death)
            if isinstance(outcome, HardLimit):
                self.endings[delivery.id] += 1
            self.settle(seized, outcome, started)
        self.processes[self.processes.index(process)] = self.new_process()

    def stop(self) -> None:
        self.dies(self.die.choice(self.processes), Death(how="stopped", stopping=True))

    def accident(self) -> None:
        self.dies(self.die.choice(self.processes), Death(how="signal 9 (SIGKILL)"))

    def late_word(self) -> None:
        """A process taken for dead speaks after all."""
        if self.late:
            settlement = self.die.choice(self.late)
            assert not owns(self.records[settlement.id], settlement)

    def time_passes(self) -> None:
        self.now += self.die.choice([0.1, 1, 10])

    def drain(self) -> None:
        """Let everything end: no more stops, accidents or new tasks."""
        for _ in range(5_000):
            if all(record.is_final for record in self.records.values()):
                return
            self.die.choice([self.claim, self.start, self.finish, self.time_passes])()
        raise AssertionError(f"stuck: {[r for r in self.records.values() if not r.is_final]}")

    def check(self) -> None:
        """What must be true at any moment."""
        held = {d.token: d.id for process in self.processes for d in process.held}
        running = {r.token: r.id for r in self.records.values() if r.state is State.RUNNING}
        assert running == held
        for record in self.records.values():
            entries = self.history[record.id]
            counted = [entry for entry in entries if entry.counted]
            assert [entry.number for entry in counted] == list(range(1, len(counted) + 1))
            assert record.attempt == len(counted) + (record.state is State.RUNNING)
            assert record.retries == sum(entry.event is Event.RETRY for entry in entries)
            assert (record.finished is not None) == record.is_final
            assert record.losses <= POLICY.max_losses
