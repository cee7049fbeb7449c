"""What becomes of what the dead held: nothing that had finished runs again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acked.broker import Beat
from acked.brokers.sqlite import SQLiteBroker
from acked.clock import ManualClock
from acked.delivery import Delivery, Settlement, State
from acked.message import Message
from acked.worker.presence import Presence, journal_entry
from acked.worker.recovery import Recovery

LEASE = 10.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def broker(tmp_path: Path, clock: ManualClock) -> Iterator[SQLiteBroker]:
    broker = SQLiteBroker(tmp_path / "q.db", clock=clock)
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


def state_of(broker: SQLiteBroker, task_id: str) -> State:
    record = broker.get(task_id)
    assert record is not None
    return record.state


def test_what_a_worker_had_finished_when_its_lease_ran_out_is_not_run_again(
    broker: SQLiteBroker, clock: ManualClock, theirs: Presence, recovery: Recovery
) -> None:
    finished, running = claimed(broker, clock, "finished", "running")
    theirs.sections[0].append(journal_entry(done(finished, clock)))
    theirs.sections[0].begin(0, running.token, clock.now())
    clock.advance(LEASE + 1)

    recovery.recover_lapsed(broker.reap(by="w2/s"))

    assert (state_of(broker, "finished"), state_of(broker, "running")) == (
        State.SUCCESS, State.QUEUED,
    )  # fmt: skip
    (attempt,) = broker.attempts("finished")
    assert (attempt.consumer, attempt.loss) == ("w1/0", False)
    # What it says itself, when it goes on, changes nothing any more.
    assert broker.settle(theirs.sections[0].journal()) != []
    assert state_of(broker, "finished") is State.SUCCESS
