"""What becomes of what the dead held: nothing that had finished runs again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from acked.broker import Beat
from acked.brokers.sqlite import SQLiteBroker
from acked.clock import ManualClock
from acked.delivery import Delivery, Settlement, State
from acked.message import Message
from acked.outcome import TaskPolicy, decide
from acked.supervision import Death
from acked.worker.presence import Presence
from acked.worker.recovery import Recovery
from acked.worker.section import Section, journal_entry

LEASE = 10.0
BAD = b"cannot be written"


class Choosy(SQLiteBroker):
    """Raises an error that is none of a broker's about one result."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        if any(each.result == BAD for each in settlements):
            raise OverflowError("too large")
        return super().settle(settlements)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def broker(tmp_path: Path, clock: ManualClock) -> Iterator[SQLiteBroker]:
    broker = Choosy(tmp_path / "q.db", clock=clock)
    broker.setup()
    yield broker
    broker.close()


@pytest.fixture
def theirs(broker: SQLiteBroker) -> Presence:
    """The presence file of a worker that is not heard of any more."""
    assert broker.presence_dir is not None
    return Presence.create(Path(broker.presence_dir), "w1", sections=1, slots=2)


@pytest.fixture
def recovery(broker: SQLiteBroker) -> Recovery:
    return Recovery(broker, by="w2/s", policies={})


def claimed(broker: SQLiteBroker, clock: ManualClock, *ids: str) -> list[Delivery]:
    """Tasks that the other worker holds."""
    broker.send([Message(id=one, task="t", sent=clock.now()) for one in ids])
    broker.renew(
        Beat(
            worker="w1", host="h", pid=1, started=0.0, queues=("default",), processes=1,
            lease=LEASE,
        )
    )  # fmt: skip
    return broker.claim("w1/0", ["default"], len(ids)).deliveries


def done(held: Delivery, clock: ManualClock) -> Settlement:
    return Settlement.succeed(held, at=clock.now(), started=clock.now(), result=b"1")


def bad(held: Delivery, clock: ManualClock) -> Settlement:
    """One that the broker raises an error about, which is none of the broker's."""
    return Settlement.succeed(held, at=clock.now(), started=clock.now(), result=BAD)


def fill(section: Section, *settlements: Settlement) -> None:
    for settlement in settlements:
        assert section.append(journal_entry(settlement))


def ends(broker: SQLiteBroker, *ids: str) -> list[State]:
    records = [broker.get(one) for one in ids]
    return [record.state for record in records if record is not None]


def test_what_a_worker_had_finished_when_its_lease_ran_out_is_not_run_again(
    broker: SQLiteBroker, clock: ManualClock, theirs: Presence, recovery: Recovery
) -> None:
    finished, running = claimed(broker, clock, "finished", "running")
    fill(theirs.sections[0], done(finished, clock))
    theirs.sections[0].begin(0, running.token, clock.now())
    clock.advance(LEASE + 1)

    recovery.recover_lapsed(broker.reap(by="w2/s"))

    assert ends(broker, "finished", "running") == [State.SUCCESS, State.QUEUED]
    (attempt,) = broker.attempts("finished")
    assert (attempt.consumer, attempt.loss) == ("w1/0", False)
    # What it says itself, when it goes on, changes nothing any more.
    assert broker.settle(theirs.sections[0].journal()) != []
    assert ends(broker, "finished") == [State.SUCCESS]


@pytest.mark.parametrize("death", ["worker", "lease"])
def test_what_a_supervisor_had_taken_over_when_it_died_counts_as_started(
    broker: SQLiteBroker, clock: ManualClock, theirs: Presence, death: str
) -> None:
    (running,) = claimed(broker, clock, "running")
    theirs.sections[0].begin(0, running.token, clock.now())
    broker.seize("w1/0", by="w1/s")  # and dies before it settles
    recovery = Recovery(broker, by="w2/s", policies={"t": TaskPolicy(acks_late=False)})

    if death == "worker":
        recovery.recover_worker(theirs)
    else:
        clock.advance(LEASE + 1)
        recovery.recover_lapsed(broker.reap(by="w2/s"))

    record = broker.get("running")
    assert record is not None and record.failure is not None
    assert (record.state, record.losses) == (State.FAILURE, 1)
    assert "acks_late is off" in record.failure.message


@pytest.mark.parametrize("death", ["process", "worker", "lease"])
def test_a_settlement_that_cannot_be_written_ends_its_task_and_keeps_no_other(
    broker: SQLiteBroker, clock: ManualClock, theirs: Presence, recovery: Recovery, death: str
) -> None:
    before, blamed, after = claimed(broker, clock, "before", "blamed", "after")
    section = theirs.sections[0]
    fill(section, done(before, clock), bad(blamed, clock), done(after, clock))

    if death == "process":
        recovery.recover_section(section, "w1/0", Death(how="signal 9"))
    elif death == "worker":
        recovery.recover_worker(theirs)
    else:
        clock.advance(LEASE + 1)
        recovery.recover_lapsed(broker.reap(by="w2/s"))

    assert ends(broker, "before", "after") == [State.SUCCESS, State.SUCCESS]
    record = broker.get("blamed")
    assert record is not None and record.failure is not None
    assert (record.state, record.failure.type) == (State.FAILURE, "InternalError")
    assert "OverflowError" in record.failure.message
    assert recovery.pay()


def test_a_task_of_which_nobody_can_tell_what_becomes_keeps_no_other(
    broker: SQLiteBroker, clock: ManualClock, theirs: Presence, recovery: Recovery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    blamed, _ = claimed(broker, clock, "blamed", "other")

    def decide_with_a_bug(held: Delivery, *rest: Any, **named: Any) -> Settlement:
        if held.id == "blamed":
            raise OverflowError("too large")
        return decide(held, *rest, **named)

    monkeypatch.setattr("acked.worker.recovery.decide", decide_with_a_bug)
    theirs.sections[0].begin(0, blamed.token, clock.now())

    recovery.recover_worker(theirs)

    assert ends(broker, "blamed", "other") == [State.FAILURE, State.QUEUED]
