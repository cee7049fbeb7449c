"""How an attempt can end and what follows: the table of docs/internals.md, row by row."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked import record as change
from acked.delivery import COMES_BACK, SETTLES, Delivery, Event, Failure, Settlement, State, step
from acked.outcome import (
    FailedByHand,
    HardLimit,
    Interrupted,
    Lost,
    Outcome,
    Raised,
    Rejected,
    RetryAsked,
    Revoked,
    Succeeded,
    TaskPolicy,
    TaskUnknown,
    Unreadable,
    Unstarted,
    decide,
)
from acked.record import Record, as_delivery
from acked.retry import RetryPolicy

NOW = 1_000.0
SENT = 900.0
ERROR = Failure("shop.Missing", "no such file")

DEFAULT = TaskPolicy()
BACKOFF = TaskPolicy(retry=RetryPolicy(backoff=8, jitter=0))
COVERS_LIMIT = TaskPolicy(retries_time_limit=True, retry=RetryPolicy(backoff=8, jitter=0))
ACKS_EARLY = TaskPolicy(acks_late=False)
LOST_IS_FINAL = TaskPolicy(reject_on_worker_lost=False)


def held(**fields: object) -> Delivery:
    return msgspec.structs.replace(
        Delivery(id="a", body=b"{}", token=7, sent=SENT, tag=3), **fields
    )


def after(
    outcome: Outcome, policy: TaskPolicy = DEFAULT, *, started: float | None = NOW - 1,
    **fields: object,
) -> Settlement:  # fmt: skip
    return decide(held(**fields), outcome, policy, now=NOW, roll=0.0, started=started)


class Row(msgspec.Struct, frozen=True):
    """One row: what follows, and what the task is charged (`costs`: attempt, retry, loss)."""

    outcome: Outcome
    state: State
    costs: str = "attempt"
    policy: TaskPolicy = DEFAULT
    wait: float | None = None
    reason: str = ""
    started: bool = True
    fields: dict[str, int] = {}


LOST = Lost("signal 9 (SIGKILL)")
ROWS = {
    "return": Row(Succeeded(b"1"), State.SUCCESS),
    "self.retry": Row(RetryAsked(), State.SCHEDULED, "attempt retry", wait=180),
    "self.retry with a countdown": Row(
        RetryAsked(wait=15), State.SCHEDULED, "attempt retry", wait=15
    ),
    "self.retry with an eta": Row(
        RetryAsked(wait=15, eta=NOW + 40), State.SCHEDULED, "attempt retry", wait=40
    ),
    "self.retry beyond max_retries, which Task.retry has allowed": Row(
        RetryAsked(wait=1), State.SCHEDULED, "attempt retry", wait=1, fields={"retries": 99}
    ),
    "an exception autoretry_for lists": Row(
        Raised(ERROR, retryable=True), State.SCHEDULED, "attempt retry", BACKOFF, wait=8,
        reason="retry: shop.Missing: no such file",
    ),
    "the same, third time": Row(
        Raised(ERROR, retryable=True), State.SCHEDULED, "attempt retry", BACKOFF, wait=32,
        fields={"retries": 2},
    ),
    "the same, exhausted": Row(
        Raised(ERROR, retryable=True), State.FAILURE, policy=BACKOFF, fields={"retries": 3},
        reason="shop.Missing: no such file",
    ),
    "the same, too old": Row(
        Raised(ERROR, retryable=True), State.FAILURE,
        policy=TaskPolicy(retry=RetryPolicy(retry_for=100)),
    ),
    "the same, Retry-After beyond the back-off": Row(
        Raised(ERROR, retryable=True, asked_wait=30), State.SCHEDULED, "attempt retry", BACKOFF,
        wait=30,
    ),
    "the same, Retry-After short of the back-off": Row(
        Raised(ERROR, retryable=True, asked_wait=1), State.SCHEDULED, "attempt retry", BACKOFF,
        wait=8,
    ),
    "the same, Retry-After where no back-off is set": Row(
        Raised(ERROR, retryable=True, asked_wait=1), State.SCHEDULED, "attempt retry", wait=1
    ),
    "any other exception": Row(
        Raised(ERROR), State.FAILURE, policy=BACKOFF, reason="shop.Missing: no such file"
    ),
    "soft limit, not caught, not covered": Row(
        Raised(Failure("SoftTimeLimitExceeded")), State.FAILURE, reason="SoftTimeLimitExceeded"
    ),
    "soft limit, not caught, covered": Row(
        Raised(Failure("SoftTimeLimitExceeded"), retryable=True), State.SCHEDULED,
        "attempt retry", wait=180,
    ),
    "hard limit": Row(
        HardLimit(2.5), State.FAILURE, reason="TimeLimitExceeded: time_limit of 2.5 s passed"
    ),
    "hard limit, covered": Row(
        HardLimit(2.5), State.SCHEDULED, "attempt retry", COVERS_LIMIT, wait=8
    ),
    "hard limit, covered, exhausted": Row(
        HardLimit(2.5), State.FAILURE, policy=COVERS_LIMIT, fields={"retries": 3}
    ),
    "death, the first loss": Row(
        LOST, State.QUEUED, "attempt loss", reason="WorkerLostError: signal 9 (SIGKILL)"
    ),
    "death, the second loss": Row(
        LOST, State.SCHEDULED, "attempt loss", wait=1, fields={"losses": 1}
    ),
    "death, the third loss": Row(
        LOST, State.FAILURE, "attempt loss", fields={"losses": 2},
        reason="WorkerLostError: signal 9 (SIGKILL); poison: it took its worker 3 times",
    ),
    "death alone after deaths beside others": Row(
        LOST, State.FAILURE, "attempt loss", fields={"losses": 1, "suspected": 1}
    ),
    "death where max_losses allows more": Row(
        LOST, State.SCHEDULED, "attempt loss", TaskPolicy(max_losses=9), wait=4,
        fields={"losses": 3},
    ),
    "death where max_losses allows none": Row(
        LOST, State.FAILURE, "attempt loss", TaskPolicy(max_losses=1)
    ),
    "the worker or its host vanishes": Row(
        Lost("its lease ran out"), State.QUEUED, "attempt loss",
        reason="WorkerLostError: its lease ran out",
    ),
    "death beside others": Row(
        Interrupted("its process died", suspect=True), State.QUEUED, "suspicion"
    ),
    "hard limit or death of a neighbour": Row(
        Interrupted("a task beside it passed its time limit"), State.QUEUED, ""
    ),
    "graceful stop whose grace ran out": Row(
        Interrupted("worker stopped"), State.QUEUED, "", reason="worker stopped"
    ),
    "prefetched, never started": Row(Unstarted(), State.QUEUED, "", started=False),
    "stopped before its start": Row(
        Interrupted("worker stopped"), State.QUEUED, "", ACKS_EARLY, started=False
    ),
    "expired before the start": Row(Revoked("expired"), State.REVOKED, "", started=False),
    "revoked while running, terminated": Row(
        Revoked("terminated"), State.REVOKED, reason="terminated"
    ),
    "acks_late=False and the process dies": Row(
        LOST, State.FAILURE, "attempt loss", ACKS_EARLY,
        reason="WorkerLostError: signal 9 (SIGKILL), and acks_late is off",
    ),
    "acks_late=False and a neighbour kills it": Row(
        Interrupted("its process died", suspect=True), State.FAILURE, policy=ACKS_EARLY,
        reason="WorkerLostError: its process died, and acks_late is off",
    ),
    "acks_late=False and the grace runs out": Row(
        Interrupted("worker stopped"), State.FAILURE, policy=ACKS_EARLY
    ),
    "reject_on_worker_lost=False and the process dies": Row(
        LOST, State.FAILURE, "attempt loss", LOST_IS_FINAL,
        reason="WorkerLostError: signal 9 (SIGKILL), and reject_on_worker_lost is off",
    ),
    "reject_on_worker_lost=False and the process dies beside others": Row(
        Interrupted("its process died", suspect=True), State.FAILURE, policy=LOST_IS_FINAL,
        reason="WorkerLostError: its process died, and reject_on_worker_lost is off",
    ),
    "reject_on_worker_lost=False and the grace runs out": Row(
        Interrupted("worker stopped"), State.QUEUED, "", LOST_IS_FINAL
    ),
    "unknown task name, just sent": Row(
        TaskUnknown("shop.new"), State.SCHEDULED, "", wait=1, started=False,
        reason="no worker knows this task: shop.new", fields={"sent": 999},
    ),
    "unknown task name, for some time": Row(
        TaskUnknown("shop.new"), State.SCHEDULED, "", wait=50, started=False,
    ),
    "unknown task name, for a day": Row(
        TaskUnknown("shop.new"), State.SCHEDULED, "", wait=60, started=False, fields={"sent": 0},
    ),
    "a message that cannot be parsed": Row(
        Unreadable("not a message"), State.FAILURE,
        # of the two bytes {} that the delivery has
        reason="MessageUnreadable: not a message (2 bytes, SHA-256 "
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a)",
        started=False,
    ),
    "Reject": Row(Rejected("wrong shop", False), State.FAILURE, reason="Reject: wrong shop"),
    "Reject with requeue": Row(
        Rejected("busy", True), State.QUEUED, reason="rejected: busy"
    ),
    "Reject with requeue, again": Row(
        Rejected("busy", True), State.SCHEDULED, wait=2, fields={"attempt": 3}
    ),
    "update_state(FAILURE) and Ignore": Row(
        FailedByHand("given up", b"{}"), State.FAILURE, reason="Ignore: given up"
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_what_follows_an_ending(row: Row) -> None:
    before = Record(
        id="a", body=b"{}", state=State.RUNNING, attempt=1, token=7, sent=SENT, due=SENT,
        consumer="w1/0", reason="before",
    )  # fmt: skip
    before = msgspec.structs.replace(before, **row.fields)
    started = NOW - 1 if row.started else None

    settlement = decide(
        as_delivery(before), row.outcome, row.policy, now=NOW, roll=0.0, started=started
    )
    ended = change.settle(before, settlement)

    assert ended.state is row.state
    assert ended.due == (SENT if row.wait is None else NOW + row.wait)
    assert ended.reason == row.reason or not row.reason
    assert ended.attempt - before.attempt + 1 == ("attempt" in row.costs)
    assert ended.retries - before.retries == ("retry" in row.costs)
    assert ended.suspected - before.suspected * ("loss" not in row.costs) == (
        "suspicion" in row.costs
    )
    assert (ended.losses > before.losses) == ("loss" in row.costs)
    assert (change.history(before, settlement) is not None) == row.started


def test_a_result_is_settled_as_it_is() -> None:
    assert after(Succeeded(b"null")).result == b"null"
    assert after(Succeeded(None)).result is None
    assert after(FailedByHand("given up", b'{"page":3}')).result == b'{"page":3}'


def test_a_retry_keeps_its_exception_and_its_changed_message() -> None:
    settlement = after(RetryAsked(wait=1, failure=ERROR, body=b'{"id":"a"}'))

    assert (settlement.failure, settlement.body) == (ERROR, b'{"id":"a"}')
    assert settlement.reason == "retry: shop.Missing: no such file"


def test_requeueing_itself_is_slowed_down_ever_more() -> None:
    waits = []
    for attempt in range(1, 12):
        settlement = after(Rejected("busy", True), attempt=attempt)
        waits.append(None if settlement.not_before is None else settlement.not_before - NOW)

    assert waits == [None, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


failures = st.just(ERROR)
seconds = st.floats(0, 1e6)
outcomes = st.one_of(
    st.builds(Succeeded, st.none() | st.just(b"1")),
    st.builds(Raised, failures, st.booleans(), st.none() | seconds),
    st.builds(RetryAsked, st.none() | seconds, st.none() | seconds, st.none() | failures),
    st.builds(Rejected, st.just("busy"), st.booleans()),
    st.builds(FailedByHand, st.just("given up")),
    st.builds(HardLimit, seconds),
    st.builds(Lost, st.just("signal 9")),
    st.builds(Interrupted, st.just("stopped"), st.booleans()),
    st.builds(Unstarted),
    st.builds(TaskUnknown, st.just("shop.new")),
    st.builds(Unreadable, st.just("no")),
    st.builds(Revoked, st.just("expired")),
)
policies = st.builds(
    TaskPolicy,
    retry=st.builds(
        RetryPolicy,
        max_retries=st.none() | st.integers(0, 5),
        backoff=st.none() | seconds,
        retry_for=st.none() | seconds,
    ),
    acks_late=st.booleans(),
    reject_on_worker_lost=st.booleans(),
    max_losses=st.integers(0, 10),
    retries_time_limit=st.booleans(),
)
counts = st.integers(0, 10**6)
deliveries = st.builds(
    held, attempt=st.integers(1, 10**6), retries=counts, losses=counts, suspected=counts,
    sent=st.floats(-1e6, 1e6),
)  # fmt: skip
rolls = st.floats(0, 1, exclude_max=True)


@given(deliveries, outcomes, policies, rolls, st.none() | st.just(NOW - 1))
def test_every_ending_is_followed_by_a_legal_settlement_of_that_claim(
    delivery: Delivery, outcome: Outcome, policy: TaskPolicy, roll: float, started: float | None
) -> None:
    settlement = decide(delivery, outcome, policy, now=NOW, roll=roll, started=started)

    assert settlement.event in SETTLES
    assert step(State.RUNNING, settlement.event) is not State.RUNNING
    assert (settlement.id, settlement.token, settlement.tag) == ("a", 7, 3)
    assert settlement.at == NOW
    waits = settlement.event in (Event.RETRY, Event.POSTPONE)
    assert (settlement.not_before is not None) is waits
    if settlement.event is Event.FAIL:
        assert settlement.failure is not None
        assert settlement.reason
    if waits and not (isinstance(outcome, RetryAsked) and outcome.eta is not None):
        assert settlement.not_before is not None
        assert settlement.not_before >= NOW


@given(deliveries, outcomes, policies, rolls)
def test_the_same_ending_is_always_followed_by_the_same(
    delivery: Delivery, outcome: Outcome, policy: TaskPolicy, roll: float
) -> None:
    first, second = (decide(delivery, outcome, policy, now=NOW, roll=roll) for _ in range(2))

    assert first == second


@given(st.integers(0, 8), st.booleans())
def test_a_task_that_always_kills_its_worker_starts_max_losses_times(
    max_losses: int, beside_others: bool
) -> None:
    record, starts = Record(id="a", body=b"{}"), 0
    while not record.is_final:
        if record.state is State.SCHEDULED:
            record = change.due(record)
        record = change.claim(record, token=starts + 1, consumer="w1/0", now=NOW)
        starts += 1
        first_of_several = beside_others and starts == 1
        outcome = Interrupted("died", suspect=True) if first_of_several else Lost("died")
        settlement = decide(
            as_delivery(record), outcome, TaskPolicy(max_losses=max_losses), now=NOW, roll=0,
            started=NOW,
        )  # fmt: skip
        record = change.settle(record, settlement)

    assert record.state is State.FAILURE
    # A death beside others accuses nobody, so there it takes a second one.
    assert starts == max(max_losses, 2 if beside_others else 1)
    assert record.losses == starts


@given(deliveries, st.booleans(), st.none() | st.just(NOW - 1), policies)
def test_an_interruption_charges_nothing(
    delivery: Delivery, suspect: bool, started: float | None, policy: TaskPolicy
) -> None:
    policy = msgspec.structs.replace(policy, acks_late=True, reject_on_worker_lost=True)

    settlement = decide(
        delivery, Interrupted("stopped", suspect), policy, now=NOW, roll=0, started=started
    )

    assert settlement.event is Event.RELEASE
    assert (settlement.counts, settlement.loss) == (False, False)


@given(deliveries, st.booleans(), rolls)
def test_a_task_that_acks_early_and_started_is_not_run_again_when_it_was_cut_off(
    delivery: Delivery, suspect: bool, roll: float
) -> None:
    for ending in (Lost("died"), Interrupted("stopped", suspect)):
        settlement = decide(delivery, ending, ACKS_EARLY, now=NOW, roll=roll, started=NOW - 1)
        assert settlement.event not in COMES_BACK


@given(deliveries, st.booleans(), st.none() | seconds, rolls)
def test_a_wait_the_other_side_asked_for_is_never_cut_short(
    delivery: Delivery, backoff: bool, asked: float | None, roll: float
) -> None:
    policy = TaskPolicy(retry=RetryPolicy(max_retries=None, backoff=5 if backoff else None))

    settlement = decide(
        delivery, Raised(ERROR, retryable=True, asked_wait=asked), policy, now=NOW, roll=roll
    )

    assert settlement.not_before is not None
    assert settlement.not_before >= NOW + (asked or 0)
