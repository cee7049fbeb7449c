"""What each operation makes of a record. Each kind of settlement is told once, in the
conformance suite; here stands what no broker decides for itself."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked import record as change
from acked.delivery import COMES_BACK, FINAL, Event, State
from acked.errors import IllegalTransition
from acked.message import Message, encode
from acked.record import (
    REVOKE_SOFT,
    REVOKE_TERMINATE,
    Progress,
    Record,
    as_delivery,
    celery_state,
    history,
    owns,
)
from acked.testing.timeline import KINDS, settlements

NOW = 1_000.0

counts = st.integers(0, 5)
runnings = st.builds(
    Record,
    id=st.just("a"),
    body=st.just(b"{}"),
    state=st.just(State.RUNNING),
    attempt=st.integers(1, 9),
    retries=counts,
    losses=counts,
    suspected=counts,
    token=st.integers(1, 2**63 - 1),
    consumer=st.just("w1/0"),
    claimed=st.just(NOW),
    due=st.just(NOW),
    revoke=st.sampled_from([0, REVOKE_SOFT, REVOKE_TERMINATE]),
    progress=st.none() | st.just(Progress(done=1)),
)


def running(**fields: object) -> Record:
    record = Record(id="a", body=b"{}", state=State.RUNNING, attempt=1, token=7, consumer="w1/0")
    return msgspec.structs.replace(record, **fields)


@pytest.mark.parametrize(
    ("eta", "state", "due"),
    [
        (None, State.QUEUED, NOW),
        (NOW - 5, State.QUEUED, NOW),
        (NOW, State.QUEUED, NOW),
        (NOW + 5, State.SCHEDULED, NOW + 5),
    ],
)
def test_a_sent_task_waits_for_its_time_or_for_a_worker(
    eta: float | None, state: State, due: float
) -> None:
    message = Message(id="a", task="t", queue="mail", priority=3, eta=eta, sent=NOW - 1)

    record = change.send(message, body=encode(message), now=NOW, tag=9)

    assert record == Record(
        id="a", task="t", queue="mail", priority=3, sent=NOW - 1, body=encode(message),
        state=state, due=due, tag=9,
    )  # fmt: skip


def test_the_way_of_a_task_that_is_retried_and_succeeds() -> None:
    message = Message(id="a", task="t", eta=NOW + 5)
    record = change.send(message, body=encode(message), now=NOW)
    record = change.due(record)
    record = change.claim(record, token=1, consumer="w1/0", now=NOW + 5)
    kinds = settlements(as_delivery(record), NOW + 6)
    record = change.settle(record, kinds["retry"])
    assert (record.state, record.due, record.retries) == (State.SCHEDULED, NOW + 66, 1)

    record = change.claim(change.due(record), token=2, consumer="w2/0", now=NOW + 66)
    record = change.settle(record, settlements(as_delivery(record), NOW + 67)["success"])

    assert (record.state, record.attempt, record.retries) == (State.SUCCESS, 2, 1)
    assert (record.finished, record.failure) == (NOW + 67, None)


@given(runnings, st.sampled_from(KINDS))
def test_a_settled_task_waits_or_has_ended_and_nobody_holds_it(record: Record, kind: str) -> None:
    after = change.settle(record, settlements(as_delivery(record), NOW)[kind])

    assert after.state is not State.RUNNING
    assert after.is_final or after.is_waiting
    assert (after.finished is not None) == after.is_final


@given(runnings, st.sampled_from(KINDS), st.sampled_from(KINDS))
def test_a_second_settlement_of_one_claim_changes_nothing(
    record: Record, first: str, second: str
) -> None:
    kinds = settlements(as_delivery(record), NOW)
    after = change.settle(record, kinds[first])

    assert change.settle(after, kinds[second]) == after
    assert history(after, kinds[second]) is None


@given(runnings, st.sampled_from(KINDS))
def test_only_what_counts_keeps_its_attempt(record: Record, kind: str) -> None:
    settlement = settlements(as_delivery(record), NOW)[kind]

    after = change.settle(record, settlement)

    assert after.attempt == record.attempt - (not settlement.counts)


@given(runnings, st.sampled_from(KINDS))
def test_only_a_retry_costs_a_retry_and_only_a_loss_costs_losses(record: Record, kind: str) -> None:
    settlement = settlements(as_delivery(record), NOW)[kind]

    after = change.settle(record, settlement)

    retried = settlement.event is Event.RETRY and not record.revoke
    assert after.retries == record.retries + retried
    if settlement.loss:
        assert after.losses == record.losses + record.suspected + 1
        assert after.suspected == 0
    else:
        assert after.losses == record.losses
        assert after.suspected == record.suspected + settlement.suspect


@given(runnings.filter(lambda record: record.revoke), st.sampled_from(KINDS))
def test_a_revoked_task_never_waits_again(record: Record, kind: str) -> None:
    settlement = settlements(as_delivery(record), NOW)[kind]

    after = change.settle(record, settlement)

    assert after.state in FINAL
    assert (after.state is State.REVOKED) == (settlement.event in COMES_BACK | {Event.REVOKE})


@given(runnings, st.integers(1, 2**63 - 1))
def test_a_seized_delivery_is_the_same_attempt_with_another_token(
    record: Record, token: int
) -> None:
    after = change.seize(record, token=token, consumer="w2")
    delivery = as_delivery(after, seized_from=record)

    assert (after.attempt, after.state) == (record.attempt, State.RUNNING)
    assert (delivery.token, delivery.seized_token) == (token, record.token)
    assert (delivery.consumer, after.consumer) == ("w1/0", "w2")


@given(runnings, st.sampled_from(KINDS), st.integers(1, 2**63 - 1))
def test_after_a_seizure_the_old_token_owns_nothing(record: Record, kind: str, token: int) -> None:
    old = settlements(as_delivery(record), NOW)[kind]

    after = change.seize(record, token=token, consumer="w2")

    assert owns(after, old) == (token == record.token)


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUEUED}))
def test_only_a_queued_task_can_be_claimed(state: State) -> None:
    with pytest.raises(IllegalTransition):
        change.claim(running(state=state), token=1, consumer="w1/0", now=NOW)


@pytest.mark.parametrize("state", sorted(set(State) - {State.RUNNING}))
def test_only_a_running_task_can_be_seized(state: State) -> None:
    with pytest.raises(IllegalTransition):
        change.seize(running(state=state), token=1, consumer="w1/0")


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED, State.RUNNING, State.SUCCESS])
def test_only_what_ended_without_success_can_be_requeued(state: State) -> None:
    with pytest.raises(IllegalTransition):
        change.requeue(running(state=state), now=NOW)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_revoking_a_finished_task_leaves_it_as_it_is(state: State) -> None:
    record = running(state=state)

    assert change.revoke(record, terminate=True, now=NOW) == record


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"state": State.QUEUED}, "PENDING"),
        ({"state": State.SCHEDULED}, "PENDING"),
        ({"state": State.SCHEDULED, "retries": 1}, "RETRY"),
        ({"state": State.QUEUED, "losses": 1}, "RETRY"),
        ({"state": State.QUEUED, "suspected": 1}, "RETRY"),
        ({"state": State.RUNNING}, "STARTED"),
        ({"state": State.RUNNING, "progress": Progress(done=1)}, "STARTED"),
        ({"state": State.RUNNING, "progress": Progress(state="PROGRESS")}, "PROGRESS"),
        ({"state": State.SUCCESS, "progress": Progress(state="PROGRESS")}, "SUCCESS"),
        ({"state": State.FAILURE}, "FAILURE"),
        ({"state": State.REVOKED}, "REVOKED"),
    ],
)
def test_the_states_have_celerys_names(fields: dict[str, object], name: str) -> None:
    assert celery_state(running(**fields)) == name
