"""How an attempt can end, and what follows from it: `decide`, a pure function.

One retry policy answers every ending: an exception, `self.retry`, the soft limit, the hard limit,
a lost worker. The table is section "How an attempt can end" of docs/retries.md.
"""

from __future__ import annotations

import hashlib
from typing import assert_never

import msgspec

from acked.delivery import Delivery, Failure, Settlement
from acked.retry import RetryPolicy

MAX_LOSSES = 3
LOSS_BACKOFF = 1.0
LOSS_BACKOFF_MAX = 60.0
UNKNOWN_TASK_WAITS = (1.0, 60.0)


class TaskPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's options say about its endings, as data a supervisor can hold without
    importing the task.

    Args:
        retry: When failed attempts are followed by another; per-call overrides applied.
        acks_late: Acknowledged after the work. False runs it at most once.
        reject_on_worker_lost: A lost worker's task runs again.
        max_losses: The loss that ends it as FAILURE.
        retries_time_limit: `autoretry_for` covers `TimeLimitExceeded`.
        soft_time_limit, time_limit: Seconds; None is no limit.
        ignore_result: The return value is not kept.
    """

    retry: RetryPolicy = RetryPolicy()
    acks_late: bool = True
    reject_on_worker_lost: bool = True
    max_losses: int = MAX_LOSSES
    retries_time_limit: bool = False
    soft_time_limit: float | None = None
    time_limit: float | None = None
    ignore_result: bool = False


class Succeeded(msgspec.Struct, frozen=True):
    """The function returned; `result` is JSON, or None where results are ignored."""

    result: bytes | None = None
    reason: str = ""


class Raised(msgspec.Struct, frozen=True):
    """An exception left the function.

    Args:
        failure: The exception.
        retryable: The task's `autoretry_for` covers it.
        asked_wait: Seconds the other side asked for (`Retry-After`), which win over back-off.
    """

    failure: Failure
    retryable: bool = False
    asked_wait: float | None = None


class RetryAsked(msgspec.Struct, frozen=True):
    """`self.retry()` was called, whatever the function did afterwards.

    Args:
        wait: Seconds asked for; None lets the policy decide.
        eta: Wall-clock time asked for; wins over `wait`.
        failure: The exception it gave as its reason.
        body: The changed message, if it changed it.
    """

    wait: float | None = None
    eta: float | None = None
    failure: Failure | None = None
    body: bytes | None = None


class Rejected(msgspec.Struct, frozen=True):
    """The task raised `Reject`."""

    reason: str
    requeue: bool


class FailedByHand(msgspec.Struct, frozen=True):
    """``update_state("FAILURE", meta=...)`` and then `Ignore`; `result` is the meta as JSON."""

    reason: str
    result: bytes | None = None


class HardLimit(msgspec.Struct, frozen=True):
    """The process was killed since its task passed `seconds`."""

    seconds: float


class Lost(msgspec.Struct, frozen=True):
    """The process or host died; `how` names the signal, the exit code or the lease."""

    how: str


class Interrupted(msgspec.Struct, frozen=True):
    """Stopped for a reason that is not the task's: shutdown, a neighbour's time limit.

    `suspect` says that its process died while it ran beside others and nobody knows which of them
    was to blame: it runs alone next time, and only a death alone is charged to it.
    """

    why: str
    suspect: bool = False


class Unstarted(msgspec.Struct, frozen=True):
    """Claimed ahead and not needed."""


class TaskUnknown(msgspec.Struct, frozen=True):
    """No task of that name is registered here."""

    name: str


class Unreadable(msgspec.Struct, frozen=True):
    """The body is not a message."""

    reason: str


class Revoked(msgspec.Struct, frozen=True):
    """Revoked while running (terminated), or expired before the start."""

    reason: str


Outcome = (
    Succeeded | Raised | RetryAsked | Rejected | FailedByHand | HardLimit | Lost | Interrupted
    | Unstarted | TaskUnknown | Unreadable | Revoked
)  # fmt: skip


def decide(
    held: Delivery,
    outcome: Outcome,
    policy: TaskPolicy,
    *,
    now: float,
    roll: float,
    started: float | None = None,
) -> Settlement:
    """The settlement that follows.

    Args:
        held: The delivery the attempt ran for.
        outcome: How it ended.
        policy: The task's policy, the message's overrides applied.
        now: Wall-clock time, seconds.
        roll: A random number in [0, 1), for jitter.
        started: Wall-clock time the function was called; None when it never was.
    """
    began = now if started is None else started
    match outcome:
        case Succeeded(result=result, reason=reason):
            return Settlement.succeed(held, at=now, started=began, result=result, reason=reason)
        case RetryAsked(wait=wait, eta=eta, failure=failure, body=body):
            if eta is None:
                eta = now + (
                    wait if wait is not None else policy.retry.wait_after(held.retries, roll=roll)
                )
            reason = f"retry: {failure}" if failure else "retry"
            return Settlement.retry(
                held, at=now, started=began, not_before=eta, reason=reason, failure=failure,
                body=body,
            )  # fmt: skip
        case Raised(failure=failure, retryable=retryable, asked_wait=asked):
            return _failed(
                held, failure, policy, now, roll, began, retryable=retryable, asked=asked
            )
        case HardLimit(seconds=seconds):
            failure = Failure("TimeLimitExceeded", f"time_limit of {seconds:g} s passed")
            return _failed(
                held, failure, policy, now, roll, began, retryable=policy.retries_time_limit
            )
        case Lost(how=how):
            return _lost(held, Failure("WorkerLostError", how), policy, now, started=began)
        case Interrupted(why=why, suspect=suspect):
            if started is not None and not policy.acks_late:
                failure = Failure("WorkerLostError", f"{why}, and acks_late is off")
                return Settlement.fail(held, at=now, started=started, failure=failure)
            if suspect and not policy.reject_on_worker_lost:
                failure = Failure("WorkerLostError", f"{why}, and reject_on_worker_lost is off")
                return Settlement.fail(held, at=now, started=began, failure=failure)
            return Settlement.interrupted(
                held, at=now, started=started, reason=why, suspect=suspect
            )
        case Rejected(reason=reason, requeue=True):
            # `attempt`, not a counter of its own: requeueing itself is all such a task does.
            wait = _doubling(held.attempt - 1)
            return Settlement.requeued(
                held, at=now, started=began, reason=f"rejected: {reason}",
                not_before=None if wait == 0 else now + wait,
            )  # fmt: skip
        case Rejected(reason=reason):
            return Settlement.fail(held, at=now, started=began, failure=Failure("Reject", reason))
        case FailedByHand(reason=reason, result=result):
            return Settlement.fail(
                held, at=now, started=began, failure=Failure("Ignore", reason), result=result
            )
        case Unstarted():
            return Settlement.unstarted(held, at=now)
        case TaskUnknown(name=name):
            # The wait grows with the age: it needs no counter, and a rolling deploy of a minute
            # is bridged in steps of seconds.
            low, high = UNKNOWN_TASK_WAITS
            wait = min(high, max(low, (now - held.sent) / 2))
            return Settlement.postponed(
                held, at=now, not_before=now + wait, reason=f"no worker knows this task: {name}"
            )
        case Unreadable(reason=reason):
            # Whoever looks for its sender has the digest to compare with, and not the content.
            digest = hashlib.sha256(held.body).hexdigest()
            reason = f"{reason} ({len(held.body)} bytes, SHA-256 {digest})"
            return Settlement.fail(
                held, at=now, started=None, failure=Failure("MessageUnreadable", reason)
            )
        case Revoked(reason=reason):
            return Settlement.revoke(held, at=now, started=started, reason=reason)
        case _:
            assert_never(outcome)


def _failed(
    held: Delivery, failure: Failure, policy: TaskPolicy, now: float, roll: float,
    started: float, *, retryable: bool, asked: float | None = None,
) -> Settlement:  # fmt: skip
    if not retryable or policy.retry.exhausted(held.retries, age=now - held.sent):
        return Settlement.fail(held, at=now, started=started, failure=failure)
    wait = policy.retry.wait_after(held.retries, roll=roll)
    if asked is not None:
        wait = max(wait if policy.retry.backoff is not None else 0.0, asked)
    return Settlement.retry(
        held, at=now, started=started, not_before=now + wait, reason=f"retry: {failure}",
        failure=failure,
    )  # fmt: skip


def _lost(
    held: Delivery, failure: Failure, policy: TaskPolicy, now: float, *, started: float
) -> Settlement:
    if not policy.acks_late:
        end = Failure(failure.type, f"{failure.message}, and acks_late is off")
    elif not policy.reject_on_worker_lost:
        end = Failure(failure.type, f"{failure.message}, and reject_on_worker_lost is off")
    elif (losses := held.losses + held.suspected + 1) >= policy.max_losses:
        end = Failure(failure.type, f"{failure.message}; poison: it took its worker {losses} times")
    else:
        wait = _doubling(losses - 1)
        return Settlement.lost(
            held, at=now, started=started, failure=failure,
            not_before=None if wait == 0 else now + wait,
        )  # fmt: skip
    return Settlement.fail(held, at=now, started=started, failure=end, loss=True)


def _doubling(behind: int) -> float:
    """0, 1, 2, 4 ... seconds after 0, 1, 2, 3 earlier ones."""
    if behind <= 0:
        return 0.0
    return min(LOSS_BACKOFF_MAX, LOSS_BACKOFF * 2.0 ** min(behind - 1, 10))
