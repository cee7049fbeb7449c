"""What a supervisor does at its heartbeats."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from acked.broker import Beat
from acked.brokers.sqlite import SQLiteBroker
from acked.clock import ManualClock
from acked.delivery import Delivery, State
from acked.errors import BrokerUnavailable
from acked.message import Message
from acked.worker.recovery import Recovery
from acked.worker.upkeep import Upkeep
from acked.worker.wire import Hello

LEASE, HEARTBEAT = 10.0, 2.0


class Losing(SQLiteBroker):
    """Does what it is asked, and loses some of its answers."""

    loses_answers = False

    def seize(self, holder: str, *, by: str, keep: Collection[int] = ()) -> list[Delivery]:
        return self._answer(super().seize(holder, by=by, keep=keep))

    def reap(self, *, by: str) -> list[Delivery]:
        return self._answer(super().reap(by=by))

    def _answer(self, seized: list[Delivery]) -> list[Delivery]:
        if self.loses_answers:
            raise BrokerUnavailable("the answer was lost")
        return seized


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def broker(tmp_path: Path, clock: ManualClock) -> Iterator[Losing]:
    broker = Losing(tmp_path / "q.db", clock=clock)
    broker.setup()
    yield broker
    broker.close()


@pytest.fixture
def recovery(broker: Losing) -> Recovery:
    return Recovery(broker, by="w2/s", policies={})


@pytest.fixture
def upkeep(broker: Losing, recovery: Recovery) -> Upkeep:
    hello = Hello(
        app="shop", broker_url=broker.url, results=None, lease=LEASE, heartbeat=HEARTBEAT,
        watchdog=60.0, send_timeout=5.0, result_expires=None, failure_expires=None,
        queues=("default",), policies={},
    )  # fmt: skip
    upkeep = Upkeep(broker, beat("w2"), hello, recovery, by="w2/s", memory=lambda: 0)
    upkeep.begin(0.0)
    return upkeep


def beat(worker: str) -> Beat:
    return Beat(
        worker=worker, host="h", pid=1, started=0.0, queues=("default",), processes=1, lease=LEASE
    )


def held_by_the_vanished(broker: Losing, clock: ManualClock) -> None:
    broker.renew(beat("w1"))
    broker.send([Message(id="a", task="t", sent=clock.now())])
    assert len(broker.claim("w1/0", ["default"], 1).deliveries) == 1


def state(broker: Losing) -> State:
    record = broker.get("a")
    assert record is not None
    return record.state


@pytest.mark.parametrize("how", ["a lapsed lease", "a dead process"])
def test_what_was_taken_over_in_an_answer_that_was_lost_is_given_back_with_the_next_heartbeat(
    broker: Losing, clock: ManualClock, recovery: Recovery, upkeep: Upkeep, how: str
) -> None:
    upkeep.turn(HEARTBEAT, stopping=False)  # The question of every ten seconds is asked here.
    held_by_the_vanished(broker, clock)
    broker.loses_answers = True
    if how == "a lapsed lease":
        clock.advance(LEASE + 1)
        upkeep.turn(2 * HEARTBEAT, stopping=False)
    else:
        with pytest.raises(BrokerUnavailable):
            recovery._seize("w1/0")
    broker.loses_answers = False
    assert state(broker) is State.RUNNING

    upkeep.turn(3 * HEARTBEAT, stopping=False)
    upkeep.turn(3 * HEARTBEAT, stopping=False)  # What is owed is paid at each turn.
    assert state(broker) is State.QUEUED
