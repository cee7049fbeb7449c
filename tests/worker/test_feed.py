"""What a consumer holds for the broker and does not know of: it is given back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from acked.broker import Claim
from acked.brokers.memory import MemoryBroker
from acked.clock import ManualClock
from acked.delivery import Settlement, State
from acked.errors import BrokerUnavailable
from acked.outcome import TaskPolicy
from acked.supervision import RECONCILE_EVERY, Death
from acked.testing.timeline import message
from acked.worker.feed import Feed
from acked.worker.presence import Presence
from acked.worker.recovery import UNHEARD, Recovery
from acked.worker.section import Section


class FailingOver(MemoryBroker):
    """A broker that acknowledges, and then its replica takes over and has not heard of it."""

    forgets = False
    loses_replies = False

    def before_answering(self) -> None:
        """What happens while an answer is on its way."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        return [] if self.forgets else super().settle(settlements)

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Claim:
        claim = super().claim(consumer, queues, limit, settlements=settlements)
        self.before_answering()
        if self.loses_replies:
            raise BrokerUnavailable("no answer")
        return claim


@pytest.fixture
def broker() -> FailingOver:
    broker = FailingOver()
    broker.send([message("a"), message("b")])
    return broker


@pytest.fixture
def section(tmp_path: Path) -> Section:
    return Presence.create(tmp_path, "w1", sections=1, slots=1).sections[0]


@pytest.fixture
def feed(broker: FailingOver, section: Section) -> Feed:
    return Feed(broker, "w1/0", ["default"], section, lease=10.0)


def state_of(broker: FailingOver, task_id: str) -> State:
    record = broker.get(task_id)
    assert record is not None
    return record.state


def succeed(feed: Feed, task_id: str) -> None:
    """Claim *task_id* and what else there is, and say that it has succeeded."""
    (held,) = (each for each in feed.turn(9) if each.id == task_id)
    feed.done(Settlement.succeed(held, at=1.0, started=0.5, result=b"1"))


def test_a_settlement_that_a_failover_swallowed_is_noticed_without_any_error(
    feed: Feed, broker: FailingOver
) -> None:
    feed.reconcile(now=100.0)
    succeed(feed, "a")
    broker.forgets = True
    feed.flush()
    broker.forgets = False

    feed.reconcile(now=100.0 + RECONCILE_EVERY - 1)
    assert state_of(broker, "a") is State.RUNNING
    feed.reconcile(now=100.0 + RECONCILE_EVERY)

    assert state_of(broker, "a") is State.QUEUED
    assert broker.attempts("a") == []


def test_what_is_known_is_kept_whether_it_runs_or_is_not_written_yet(
    feed: Feed, broker: FailingOver
) -> None:
    succeed(feed, "a")

    feed.reconcile(now=100.0)

    assert state_of(broker, "a") is state_of(broker, "b") is State.RUNNING
    feed.flush()
    assert state_of(broker, "a") is State.SUCCESS


def test_a_claim_whose_reply_was_lost_is_given_back_once_the_broker_answers(
    feed: Feed, broker: FailingOver
) -> None:
    feed.reconcile(now=100.0)
    broker.loses_replies = True
    with pytest.raises(BrokerUnavailable):
        feed.turn(1)
    broker.loses_replies = False
    feed.turn(1)

    feed.reconcile(now=100.1)

    assert state_of(broker, "a") is State.QUEUED
    assert state_of(broker, "b") is State.RUNNING


def test_what_was_claimed_is_stale_after_half_a_lease_however_long_the_claim_took(
    broker: FailingOver, section: Section
) -> None:
    clock = ManualClock()
    feed = Feed(broker, "w1/0", ["default"], section, lease=10.0, clock=clock)
    broker.before_answering = lambda: clock.advance(4.0)  # type: ignore[method-assign]  # by a test
    feed.turn(1)
    assert not feed.stale()
    clock.advance(2.0)
    assert feed.stale()


def test_a_supervisor_gives_back_what_it_seized_and_does_not_know_of_as_if_it_had_run(
    feed: Feed, broker: FailingOver, section: Section
) -> None:
    recovery = Recovery(broker, by="w1/s", policies={"t": TaskPolicy()})
    feed.turn(1)
    broker.forgets = True
    recovery.recover_section(section, "w1/0", Death(how="signal 9"))
    broker.forgets = False
    assert state_of(broker, "a") is State.RUNNING

    recovery.reconcile()

    assert state_of(broker, "a") is State.QUEUED
    (entry,) = broker.attempts("a")
    assert (entry.loss, UNHEARD in entry.reason) == (True, True)
