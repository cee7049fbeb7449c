"""A broker on a set clock, and the moves a test makes on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec
import pytest

from acked.broker import Beat, Engine
from acked.clock import Clock, ManualClock
from acked.delivery import Delivery, Failure, Settlement, State
from acked.message import Message, encode
from acked.record import Record

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a call that should have returned counts as one that never will."""

LONG = 600.0
"""Seconds a `wait` is given in a test in which something else must end it."""


def message(task_id: str, *, queue: str = "default", priority: int = 0) -> Message:
    """A call of a task; what it carries does not matter to a broker."""
    return Message(
        id=task_id, task="shop.resize", args=msgspec.Raw(b'["cat.png",1e3]'),
        queue=queue, priority=priority, sent=1_000_000_000.0,
    )  # fmt: skip


def much(task_id: str) -> Message:
    """A call with as much as a call may have by default."""
    return msgspec.structs.replace(message(task_id), args=msgspec.Raw(b'["%s"]' % (b"x" * 900_000)))


def changed(task_id: str) -> bytes:
    """The body of that call with other arguments, as `self.retry(args=...)` leaves it."""
    return encode(Message(id=task_id, task="shop.resize", args=msgspec.Raw(b'["dog.png",2]')))


def beat(worker: str, *, lease: float = 10.0) -> Beat:
    """A heartbeat of *worker*."""
    return Beat(
        worker=worker, host="attic", pid=4711, started=999_999_990.0,
        queues=("default", "mail"), processes=2, lease=lease,
    )  # fmt: skip


def failure(text: str = "no such file") -> Failure:
    """An exception as a worker would report it."""
    return Failure("shop.errors.Missing", text, "Traceback (most recent call last):\n  …")


def settlements(held: Delivery, now: float) -> dict[str, Settlement]:
    """One settlement of every kind there is for *held*; each attempt began a second ago."""
    began = now - 1.0
    error = failure()
    return {
        "success": Settlement.succeed(held, at=now, started=began, result=b'{"width":64}'),
        "success with a log": msgspec.structs.replace(
            Settlement.succeed(held, at=now, started=began, result=None), log='Zürich\n"done"'
        ),
        "success without a result": Settlement.succeed(held, at=now, started=began, result=None),
        "retry": Settlement.retry(
            held, at=now, started=began, not_before=now + 60, reason="retry", failure=error
        ),
        "retry with another message": Settlement.retry(
            held, at=now, started=began, not_before=now + 60, reason="retry", body=changed(held.id)
        ),
        "failure": Settlement.fail(held, at=now, started=began, failure=error),
        "failure by hand": Settlement.fail(
            held, at=now, started=began, failure=error, reason="given up", result=b'{"page":3}'
        ),
        "failure unread": Settlement.fail(held, at=now, started=None, failure=error),
        "failure with its worker": Settlement.fail(
            held, at=now, started=began, failure=error, loss=True
        ),
        "lost, again at once": Settlement.lost(
            held, at=now, started=began, failure=error, not_before=None
        ),
        "lost, again later": Settlement.lost(
            held, at=now, started=began, failure=error, not_before=now + 4
        ),
        "requeued": Settlement.requeued(
            held, at=now, started=began, reason="rejected: busy", not_before=None
        ),
        "requeued for later": Settlement.requeued(
            held, at=now, started=began, reason="rejected: busy", not_before=now + 2
        ),
        "interrupted": Settlement.interrupted(held, at=now, started=began, reason="worker stopped"),
        "interrupted as a suspect": Settlement.interrupted(
            held, at=now, started=began, reason="its process died", suspect=True
        ),
        "unstarted": Settlement.unstarted(held, at=now),
        "postponed": Settlement.postponed(held, at=now, not_before=now + 9, reason="unknown task"),
        "revoked while it ran": Settlement.revoke(held, at=now, started=began, reason="terminated"),
        "revoked before its start": Settlement.revoke(held, at=now, started=None, reason="expired"),
    }


KINDS = sorted(settlements(Delivery(id="", body=b"", token=1), 0.0))
"""The names of those kinds."""


class Timeline:
    """What every part of the conformance suite has: a clock, a broker, and short words for
    what happens to it."""

    def make_broker(self, clock: Clock) -> Engine:
        """An empty broker that reads the time from *clock*."""
        raise NotImplementedError("a conformance suite must define make_broker(clock)")

    def plant_raw(self, broker: Engine, body: bytes) -> str:
        """Put *body*, which no message has, into *broker* as a task that waits in the queue
        ``default``, as a fault of disk or of another program would; return its id."""
        raise NotImplementedError("a conformance suite must define plant_raw(broker, body)")

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def broker(self, clock: ManualClock) -> Iterator[Engine]:
        broker = self.make_broker(clock)
        broker.setup()
        yield broker
        broker.close()

    def send(self, broker: Engine, *task_ids: str) -> None:
        """Send one plain task for each id, all in one call."""
        broker.send([message(task_id) for task_id in task_ids])

    def claim(self, broker: Engine, consumer: str = "w1/0", limit: int = 100) -> list[Delivery]:
        """Claim from the queue ``default``."""
        return broker.claim(consumer, ["default"], limit).deliveries

    def claim_one(self, broker: Engine, consumer: str = "w1/0") -> Delivery:
        """Claim a task that must be there."""
        (delivery,) = self.claim(broker, consumer, limit=1)
        return delivery

    def assert_claimed(self, broker: Engine, came: Sequence[str], expected: Sequence[str]) -> None:
        """The tasks that *came* are those *expected*, and in that order where *broker* says that
        it has one, however slow the machine."""
        if broker.capabilities.ordered:
            assert list(came) == list(expected)
        else:
            assert sorted(came) == sorted(expected)

    def running(self, broker: Engine, task_id: str = "a", consumer: str = "w1/0") -> Delivery:
        """Send a task and claim it."""
        self.send(broker, task_id)
        delivery = self.claim_one(broker, consumer)
        assert delivery.id == task_id
        return delivery

    def finished(self, broker: Engine, clock: Clock, task_id: str, state: State) -> Record:
        """Send a task and bring it to a final *state*."""
        held = self.running(broker, task_id)
        kinds = settlements(held, clock.now())
        ends = {
            State.SUCCESS: kinds["success"],
            State.FAILURE: kinds["failure"],
            State.REVOKED: kinds["revoked while it ran"],
        }
        assert broker.settle([ends[state]]) == []
        return self.record(broker, task_id)

    def record(self, broker: Engine, task_id: str) -> Record:
        """The record, which must be there."""
        record = broker.get(task_id)
        assert record is not None
        return record

    def state(self, broker: Engine, task_id: str) -> State:
        """Where the task stands."""
        return self.record(broker, task_id).state


class Background(threading.Thread, Generic[T]):
    """A call in another thread.

    Args:
        call: What it does; whatever it returns or raises is kept.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._answers: list[T] = []
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._answers.append(self._call())
        except BaseException as error:  # raised again in the thread that asks
            self._error = error

    def answer(self) -> T:
        """What the call returned; fails the test when it does not return."""
        self.join(PATIENCE)
        assert not self.is_alive(), f"no answer within {PATIENCE:g} s"
        if self._error is not None:
            raise self._error
        return self._answers[0]
