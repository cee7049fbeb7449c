"""What a supervisor decides when a process dies."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked.delivery import Delivery
from acked.outcome import HardLimit, Interrupted, Lost, Outcome, Revoked, Unstarted
from acked.supervision import (
    CRASH_WINDOW,
    RESTART_DELAY_MAX,
    Death,
    how_it_died,
    must_run_alone,
    on_silence,
    outcome_of_death,
    pause_after,
    restart_delay,
)

KILLED = "signal 9 (SIGKILL)"


def held(
    token: int, *, losses: int = 0, suspected: int = 0, attempt: int = 1, runs: int = 0
) -> Delivery:
    """A delivery seized from a process that held it by *token*."""
    return Delivery(
        id=f"task-{token}", body=b"{}", token=token + 1000, seized_token=token, losses=losses,
        suspected=suspected, attempt=attempt, runs=runs,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("running", "death", "outcome"),
    [
        pytest.param({1}, Death(how=KILLED), Lost(KILLED), id="died while it ran alone"),
        pytest.param(
            {1, 2}, Death(how=KILLED),
            Interrupted(f"its process died ({KILLED}) beside other tasks", suspect=True),
            id="died while it ran beside others",
        ),
        pytest.param({2}, Death(how=KILLED), Unstarted(), id="claimed ahead, not started"),
        pytest.param(set(), Death(how=KILLED), Unstarted(), id="died with nothing running"),
        pytest.param(
            {1, 2}, Death(how=KILLED, overran=1, limit=2.5), HardLimit(2.5), id="its own limit"
        ),
        pytest.param(
            {1, 2}, Death(how=KILLED, overran=2, limit=2.5),
            Interrupted("a task beside it passed its time limit"), id="a neighbour's limit",
        ),
        pytest.param({1, 2}, Death(how=KILLED, revoked=1), Revoked("terminated"), id="revoked"),
        pytest.param(
            {1, 2}, Death(how=KILLED, revoked=2),
            Interrupted("a task beside it was terminated"), id="a neighbour was revoked",
        ),
        pytest.param(
            {1}, Death(how=KILLED, stopping=True), Interrupted("worker stopped"), id="grace over"
        ),
        pytest.param(
            {1}, Death(how=KILLED, stopping=True, overran=1, limit=2.5), HardLimit(2.5),
            id="its own limit while stopping",
        ),
        pytest.param(
            {2}, Death(how=KILLED, overran=2, limit=2.5), Unstarted(),
            id="claimed ahead, a neighbour's limit",
        ),
    ],
)  # fmt: skip
def test_how_an_attempt_ended_when_its_process_died(
    running: set[int], death: Death, outcome: Outcome
) -> None:
    assert outcome_of_death(held(1), running, death) == outcome


@pytest.mark.parametrize(
    ("attempt", "runs", "suspect"),
    [
        pytest.param(1, 0, False, id="its first run"),
        pytest.param(3, 2, False, id="retried twice"),
        pytest.param(1, 1, True, id="interrupted before"),
        pytest.param(3, 3, True, id="retried twice and interrupted"),
    ],
)
def test_what_is_lost_with_a_whole_worker_is_suspected_when_it_is_lost_again(
    attempt: int, runs: int, suspect: bool
) -> None:
    lost = Death(how="its lease ran out", whole=True)
    outcome = outcome_of_death(held(1, attempt=attempt, runs=runs), {1, 2}, lost)

    assert outcome == Interrupted(
        "its process died (its lease ran out) beside other tasks", suspect=suspect
    )


def test_what_ran_alone_in_a_lost_worker_is_charged_a_loss() -> None:
    assert outcome_of_death(held(1), {1}, Death(how=KILLED, whole=True)) == Lost(KILLED)


def test_a_process_that_settles_its_own_deliveries_goes_by_their_token() -> None:
    own = Delivery(id="a", body=b"{}", token=1)

    assert outcome_of_death(own, {1}, Death(how=KILLED)) == Lost(KILLED)


tokens = st.integers(1, 6)
deaths = st.builds(
    Death,
    how=st.just(KILLED),
    stopping=st.booleans(),
    overran=st.none() | tokens,
    limit=st.just(2.5),
    revoked=st.none() | tokens,
)


@given(st.sets(tokens), deaths)
def test_at_most_one_task_is_blamed_for_a_death(running: set[int], death: Death) -> None:
    outcomes = [outcome_of_death(held(token), running, death) for token in range(1, 7)]

    assert sum(isinstance(outcome, Lost) for outcome in outcomes) <= 1
    assert sum(isinstance(outcome, HardLimit) for outcome in outcomes) <= 1


@given(st.sets(tokens, min_size=2), tokens)
def test_where_several_ran_all_are_suspects_or_none_is(running: set[int], token: int) -> None:
    outcomes = [outcome_of_death(held(token), running, Death(how=KILLED)) for token in running]

    assert all(isinstance(each, Interrupted) and each.suspect for each in outcomes)


@given(st.sets(tokens), deaths, tokens)
def test_what_never_started_is_never_charged(running: set[int], death: Death, token: int) -> None:
    if token not in running:
        assert outcome_of_death(held(token), running, death) == Unstarted()


def test_a_task_whose_process_died_runs_alone_from_then_on() -> None:
    assert not must_run_alone(held(1))
    assert must_run_alone(held(1, losses=1))
    assert must_run_alone(held(1, suspected=1))


def test_the_first_deaths_of_a_minute_cost_no_wait_and_later_ones_ever_more() -> None:
    delays = [restart_delay([100.0] * deaths, now=100.0) for deaths in range(12)]

    assert delays == [0, 0, 0, 0, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_deaths_of_more_than_a_minute_ago_are_forgotten() -> None:
    assert restart_delay([100.0] * 50, now=100.0 + CRASH_WINDOW) == 0


@given(st.lists(st.floats(0, 1e9), max_size=50), st.floats(0, 1e9))
def test_the_wait_before_a_restart_is_bounded(deaths: list[float], now: float) -> None:
    assert 0 <= restart_delay(deaths, now) <= RESTART_DELAY_MAX


def test_the_wait_is_bounded_after_very_many_deaths() -> None:
    assert restart_delay([1.0] * 100_000, now=1.0) == RESTART_DELAY_MAX


def test_a_broker_that_fails_is_asked_again_soon_and_ever_less_often() -> None:
    pauses = [pause_after(failures, 0.0) for failures in range(1, 9)]

    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1, 1, 1, 1])


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_the_pause_before_a_broker_is_asked_again_is_bounded(failures: int, roll: float) -> None:
    assert 0.05 <= pause_after(failures, roll) <= 1.0


def test_processes_that_lost_a_broker_together_do_not_come_back_together() -> None:
    assert pause_after(4, 0.0) == 2 * pause_after(4, 1.0)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit code 0"),
        (1, "exit code 1"),
        (255, "exit code 255"),
        (-signal.SIGKILL, "signal 9 (SIGKILL)"),
        (-signal.SIGSEGV, "signal 11 (SIGSEGV)"),
        (-200, "signal 200"),
    ],
)
def test_a_death_is_told_in_words(status: int, text: str) -> None:
    assert how_it_died(status) == text


@pytest.mark.parametrize(
    ("silent", "rebuilt", "does"),
    [
        (0.0, 0, "wait"),
        (59.9, 0, "wait"),
        (60.0, 0, "rebuild"),
        (61.0, 1, "wait"),
        (120.0, 1, "rebuild"),
        (299.0, 4, "wait"),
        (300.0, 4, "give up"),
        (10_000.0, 0, "give up"),
    ],
)
def test_a_silent_broker_is_waited_for_then_reached_anew_then_given_up(
    silent: float, rebuilt: int, does: str
) -> None:
    assert on_silence(silent, 60.0, rebuilt=rebuilt) == does
