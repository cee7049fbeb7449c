"""The permits of one process, and a broker whose answers get lost or come late."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from acked.broker import Broker
from acked.brokers.memory import MemoryBroker
from acked.clock import ManualClock
from acked.delivery import Settlement
from acked.rate import Rate
from acked.testing.timeline import message
from acked.worker.permits import Permits

RATE = Rate("1/h", 3600.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def broker(clock: ManualClock) -> MemoryBroker:
    broker = MemoryBroker(clock)
    broker.send([message("a")])
    return broker


@pytest.fixture
def take(broker: MemoryBroker) -> Callable[[Permits], Settlement | None]:
    (held,) = broker.claim("w1/0", ["default"], 1).deliveries
    return lambda permits: permits.take(held, "shop.resize", RATE)


def test_a_permit_is_taken_though_its_answer_was_lost_and_the_broker_asked_again(
    broker: MemoryBroker,
    take: Callable[[Permits], Settlement | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = broker.exchange

    def repeated(name: str, old: bytes | None, new: bytes) -> bytes | None:
        exchange(name, old, new)
        return exchange(name, old, new)

    monkeypatch.setattr(broker, "exchange", repeated)
    permits = Permits(broker)

    assert take(permits) is None
    assert take(permits) is not None


def test_of_two_that_ask_at_once_and_know_the_same_one_starts(
    broker: Broker,
    clock: ManualClock,
    take: Callable[[Permits], Settlement | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = Permits(broker), Permits(broker)
    assert take(first) is None
    assert take(second) is not None  # Now both know the line as it is.
    assert take(first) is not None
    clock.advance(3600)
    exchange, answers = broker.exchange, list[Settlement | None]()

    def overtaken(name: str, old: bytes | None, new: bytes) -> bytes | None:
        monkeypatch.undo()
        answers.append(take(first))
        return exchange(name, old, new)

    monkeypatch.setattr(broker, "exchange", overtaken)
    answers.append(take(second))

    assert [answer is None for answer in answers] == [True, False]
