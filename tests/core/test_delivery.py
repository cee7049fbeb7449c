"""The table of states, and the settlements that move a task along it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import msgspec
import pytest

from acked.delivery import (
    COMES_BACK,
    FINAL,
    SETTLES,
    TRANSITIONS,
    WAITING,
    Delivery,
    Event,
    Settlement,
    State,
    step,
)
from acked.errors import IllegalTransition
from acked.testing.timeline import settlements

HELD = Delivery(id="a", body=b"{}", token=7, tag=3)

TABLE = {
    (State.SCHEDULED, Event.DUE): State.QUEUED,
    (State.SCHEDULED, Event.REVOKE): State.REVOKED,
    (State.QUEUED, Event.CLAIM): State.RUNNING,
    (State.QUEUED, Event.REVOKE): State.REVOKED,
    (State.RUNNING, Event.SEIZE): State.RUNNING,
    (State.RUNNING, Event.SUCCEED): State.SUCCESS,
    (State.RUNNING, Event.RETRY): State.SCHEDULED,
    (State.RUNNING, Event.POSTPONE): State.SCHEDULED,
    (State.RUNNING, Event.RELEASE): State.QUEUED,
    (State.RUNNING, Event.FAIL): State.FAILURE,
    (State.RUNNING, Event.REVOKE): State.REVOKED,
    (State.FAILURE, Event.REQUEUE): State.QUEUED,
    (State.REVOKED, Event.REQUEUE): State.QUEUED,
}


def reachable(start: State, events: Iterable[Event]) -> set[State]:
    allowed, found, new = set(events), {start}, {start}
    while new:
        new = {
            after
            for state in new
            for event, after in TRANSITIONS[state].items()
            if event in allowed
        } - found
        found |= new
    return found


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_each_event_leads_where_the_table_says_or_is_refused(state: State, event: Event) -> None:
    if (state, event) in TABLE:
        assert step(state, event) is TABLE[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"cannot {event} a task that is {state}"):
            step(state, event)


def test_every_state_can_be_reached_from_a_new_task() -> None:
    assert reachable(State.SCHEDULED, Event) == set(State)


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_every_unfinished_task_can_still_succeed(state: State) -> None:
    assert State.SUCCESS in reachable(state, Event)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_is_left_by_an_operator_alone(state: State) -> None:
    assert reachable(state, set(Event) - {Event.REQUEUE}) == {state}


def test_a_success_is_left_by_nobody() -> None:
    assert TRANSITIONS[State.SUCCESS] == {}


def test_a_settlement_takes_a_task_from_its_holder() -> None:
    assert {step(State.RUNNING, event) for event in SETTLES} == WAITING | FINAL


def test_what_comes_back_waits_and_the_rest_has_ended() -> None:
    assert {step(State.RUNNING, event) for event in COMES_BACK} == WAITING
    assert {step(State.RUNNING, event) for event in SETTLES - COMES_BACK} == FINAL


def test_every_settlement_names_the_claim_it_settles() -> None:
    for settlement in settlements(HELD, 100.0).values():
        assert (settlement.id, settlement.token, settlement.tag) == ("a", 7, 3)
        assert settlement.at == 100.0


def test_every_settlement_carries_an_event_that_settles() -> None:
    events = {settlement.event for settlement in settlements(HELD, 100.0).values()}

    assert events == SETTLES


def test_a_settlement_says_when_to_run_again_exactly_if_the_task_is_to_wait_for_a_time() -> None:
    for settlement in settlements(HELD, 100.0).values():
        waits = settlement.event in (Event.RETRY, Event.POSTPONE)
        assert (settlement.not_before is not None) is waits


def test_there_is_a_settlement_here_for_every_constructor() -> None:
    constructors = {
        name
        for name, method in inspect.getmembers(Settlement, inspect.ismethod)
        if not name.startswith("_")
    }

    assert constructors == {
        "succeed", "retry", "fail", "lost", "requeued", "interrupted", "unstarted", "postponed",
        "revoke",
    }  # fmt: skip


def test_deliveries_and_settlements_can_be_sent_between_processes() -> None:
    for settlement in settlements(HELD, 100.0).values():
        packed = msgspec.msgpack.encode(settlement)
        assert msgspec.msgpack.decode(packed, type=Settlement) == settlement
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(HELD), type=Delivery) == HELD
