"""The state machine of a task, as data, and the settlements that move it.

Nothing elsewhere tests states by hand: a broker applies a `Settlement`, and what a settlement
may do is the table below. The diagram in docs/internals.md is generated from it.

Two numbers guard every write. The *token* is fresh for each claim and proves who owns the
delivery; a settlement with an old one is refused. The *attempt* is what policy counts; it is
raised at the claim, so that a task that kills its worker cannot run for ever, and given back
when the attempt was interrupted through no fault of its own. One number could not do both: an
attempt given back would hand its successor the same proof of ownership.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from acked.errors import IllegalTransition


class State(StrEnum):
    """What is true of a task, and who moves it on."""

    SCHEDULED = "SCHEDULED"  # Due later. A claim or `reap` moves it to QUEUED when its time comes.
    QUEUED = "QUEUED"  # Any worker may claim it.
    RUNNING = "RUNNING"  # One consumer holds it. `settle` moves it on, or `seize`, then `settle`.
    SUCCESS = "SUCCESS"  # Final.
    FAILURE = "FAILURE"  # Final until an operator requeues it. Keeps its reason and its attempts.
    REVOKED = "REVOKED"  # Final until an operator requeues it. Revoked, or expired.


FINAL = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})
WAITING = frozenset({State.SCHEDULED, State.QUEUED})


class Event(StrEnum):
    """What can happen to a task."""

    DUE = "due"  # Its time has come.
    CLAIM = "claim"  # A worker takes it.
    SEIZE = "seize"  # Its worker is gone; another consumer takes the delivery over, to settle it.
    SUCCEED = "succeed"
    RETRY = "retry"  # It runs again at a set time; costs a retry.
    POSTPONE = "postpone"  # It runs again at a set time; costs no retry.
    RELEASE = "release"  # Back in the queue at once.
    FAIL = "fail"
    REVOKE = "revoke"
    REQUEUE = "requeue"  # An operator runs a finished task again.


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.SCHEDULED: {Event.DUE: State.QUEUED, Event.REVOKE: State.REVOKED},
    State.QUEUED: {Event.CLAIM: State.RUNNING, Event.REVOKE: State.REVOKED},
    State.RUNNING: {
        Event.SEIZE: State.RUNNING,
        Event.SUCCEED: State.SUCCESS,
        Event.RETRY: State.SCHEDULED,
        Event.POSTPONE: State.SCHEDULED,
        Event.RELEASE: State.QUEUED,
        Event.FAIL: State.FAILURE,
        Event.REVOKE: State.REVOKED,
    },
    State.SUCCESS: {},
    State.FAILURE: {Event.REQUEUE: State.QUEUED},
    State.REVOKED: {Event.REQUEUE: State.QUEUED},
}

SETTLES = frozenset(
    {Event.SUCCEED, Event.RETRY, Event.POSTPONE, Event.RELEASE, Event.FAIL, Event.REVOKE}
)
"""The events a settlement may carry."""

COMES_BACK = frozenset({Event.RETRY, Event.POSTPONE, Event.RELEASE})
"""The settlements after which the task would run again, were it not revoked meanwhile."""


def step(state: State, event: Event) -> State:
    """The state that follows.

    Raises:
        IllegalTransition: *state* does not allow *event*.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"cannot {event.value} a task that is {state.value}") from None


class Failure(msgspec.Struct, frozen=True):
    """An exception as text. Made where it was caught; sizes are cut there.

    Args:
        type: Qualified name of the class, ``ValueError`` or ``shop.errors.Declined``.
        message: Its text.
        traceback: Formatted, without local values.
    """

    type: str
    message: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One claim of one task: what a consumer holds until it settles.

    Args:
        id: The task.
        body: The message as the broker holds it; not yet parsed, so that bytes nobody can read
            still have an owner who can settle them.
        token: Proof of ownership, fresh for each claim: 1 to 2**63 - 1.
        attempt: Number of this attempt, from 1.
        retries: Retries behind it (Celery's `request.retries`).
        losses: Attempts that ended with their worker.
        suspected: Times its process died while it ran beside others, so that nobody knows which
            of them was to blame. It runs alone from then on.
        runs: Attempts that had started before, whatever became of them.
        queue: Where it was claimed from.
        sent: Wall-clock time it was sent, seconds.
        tag: The broker's own handle, echoed in the settlement.
        consumer: Who held it before, when it was seized from a dead consumer; else who holds it.
        seized_token: The token that dead consumer held; 0 when it was claimed.
        claimed: Wall-clock time of the claim, seconds.
    """

    id: str
    body: bytes
    token: int
    attempt: int = 1
    retries: int = 0
    losses: int = 0
    suspected: int = 0
    runs: int = 0
    queue: str = "default"
    sent: float = 0.0
    tag: int = 0
    consumer: str = ""
    seized_token: int = 0
    claimed: float = 0.0


class Settlement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the broker must write for one delivery, in one atomic step.

    Built by one class method per legal move, so that the fields cannot be mixed wrongly.

    Args:
        id, token, tag: From the delivery; `token` must still be the task's.
        event: One of `SETTLES`.
        at: Wall-clock time in seconds at which the attempt ended.
        started: Wall-clock time in seconds at which the function was called; None when it
            never was. An attempt that never started leaves no entry in the history.
        not_before: When it may run again; for RETRY and POSTPONE alone.
        reason: Why, in a few words, for people.
        result: The return value as JSON.
        failure: What went wrong.
        counts: False gives the attempt's number back.
        loss: The attempt ended with its worker.
        suspect: It ended with its worker, and so did others beside it; nobody is charged yet.
        body: The message to run again with, where `self.retry` changed it.
        consumer: Who ran the attempt, where that is not who settles it: a dead consumer.
        log: What the attempt logged, as far as it is kept.
    """

    id: str
    token: int
    event: Event
    tag: int = 0
    at: float = 0.0
    started: float | None = None
    not_before: float | None = None
    reason: str = ""
    result: bytes | None = None
    failure: Failure | None = None
    counts: bool = True
    loss: bool = False
    suspect: bool = False
    body: bytes | None = None
    consumer: str = ""
    log: str = ""

    @classmethod
    def succeed(
        cls, held: Delivery, *, at: float, started: float, result: bytes | None, reason: str = ""
    ) -> Settlement:
        """Done. The result and the acknowledgement are one write."""
        return cls(
            id=held.id, token=held.token, tag=held.tag, event=Event.SUCCEED,
            at=at, started=started, result=result, reason=reason,
        )  # fmt: skip

    @classmethod
    def retry(
        cls, held: Delivery, *, at: float, started: float, not_before: float, reason: str,
        failure: Failure | None = None, body: bytes | None = None,
    ) -> Settlement:  # fmt: skip
        """Runs again at *not_before*; costs a retry. *body* replaces the message."""
        return cls(
            id=held.id, token=held.token, tag=held.tag, event=Event.RETRY, at=at, started=started,
            not_before=not_before, reason=reason, failure=failure, body=body,
        )  # fmt: skip

    @classmethod
    def fail(
        cls, held: Delivery, *, at: float, started: float | None, failure: Failure,
        reason: str = "", loss: bool = False, result: bytes | None = None,
    ) -> Settlement:  # fmt: skip
        """Final failure, kept with its reason."""
        return cls(
            id=held.id, token=held.token, tag=held.tag, event=Event.FAIL, at=at, started=started,
            reason=reason or str(failure), failure=failure, loss=loss, result=result,
        )  # fmt: skip

    @classmethod
    def lost(
        cls, held: Delivery, *, at: float, started: float | None, failure: Failure,
        not_before: float | None,
    ) -> Settlement:  # fmt: skip
        """Its worker died: back in the queue, at once or at *not_before*. Costs an attempt and
        a loss, no retry."""
        return cls(
            id=held.id, token=held.token, tag=held.tag,
            event=Event.RELEASE if not_before is None else Event.POSTPONE,
            at=at, started=started, not_before=not_before,
            reason=str(failure), failure=failure, loss=True,
        )  # fmt: skip

    @classmethod
    def requeued(
        cls, held: Delivery, *, at: float, started: float, reason: str, not_before: float | None
    ) -> Settlement:
        """The task itself asked to be put back (`Reject(requeue=True)`). Costs an attempt."""
        return cls(
            id=held.id, token=held.token, tag=held.tag,
            event=Event.RELEASE if not_before is None else Event.POSTPONE,
            at=at, started=started, not_before=not_before, reason=reason,
        )  # fmt: skip

    @classmethod
    def interrupted(
        cls, held: Delivery, *, at: float, started: float | None, reason: str, suspect: bool = False
    ) -> Settlement:
        """Stopped through no fault of its own: back in the queue at once, costs nothing."""
        return cls(
            id=held.id, token=held.token, tag=held.tag, event=Event.RELEASE,
            at=at, started=started, reason=reason, counts=False, suspect=suspect,
        )  # fmt: skip

    @classmethod
    def unstarted(cls, held: Delivery, *, at: float) -> Settlement:
        """Claimed ahead and never started: back in the queue, costs nothing, leaves no trace."""
        return cls(
            id=held.id, token=held.token, tag=held.tag, event=Event.RELEASE, at=at, counts=False
        )

    @classmethod
    def postponed(cls, held: Delivery, *, at: float, not_before: float, reason: str) -> Settlement:
        """Nobody here can run it yet: tried again at *not_before*, costs nothing."""
        return cls(
            id=held.id, token=held.token, tag=held.tag, event=Event.POSTPONE,
            at=at, not_before=not_before, reason=reason, counts=False,
        )  # fmt: skip

    @classmethod
    def revoke(cls, held: Delivery, *, at: float, started: float | None, reason: str) -> Settlement:
        """Final without a result: revoked, or expired before it started."""
        return cls(
            id=held.id, token=held.token, tag=held.tag, event=Event.REVOKE,
            at=at, started=started, reason=reason, counts=started is not None,
        )  # fmt: skip
