"""One task as it is shown: read from its record, redacted, as plain data.

The command line prints this data, as JSON or as text, and the dashboard draws its page of it.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from acked.app import Acked
from acked.broker import Records, worker_of
from acked.delivery import Event, Failure, State
from acked.errors import MessageUnreadable
from acked.message import Message, decode, decode_arguments
from acked.moments import moment
from acked.record import Attempt, Progress, Record, celery_state
from acked.redaction import redact, redact_positional, redact_text


class TaskLine(msgspec.Struct, frozen=True, kw_only=True):
    """A task in a list.

    Args:
        attempts: Attempts so far, the running one included.
        reason: Why it is where it is.
    """

    id: str
    task: str
    state: str
    celery_state: str
    queue: str
    attempts: int
    retries: int
    losses: int
    sent: datetime | None
    due: datetime | None
    finished: datetime | None
    reason: str


class FailureView(msgspec.Struct, frozen=True, kw_only=True):
    """An exception as text."""

    type: str
    message: str
    traceback: str


class ProgressView(msgspec.Struct, frozen=True, kw_only=True):
    """The latest thing a task said about itself; `share` is 0.0 to 1.0 where a total is known."""

    done: float
    total: float
    share: float | None
    message: str
    meta: Any
    at: datetime | None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a task.

    Args:
        ended_by: ``success``, ``retry``, ``failure``, ``lost``, ``interrupted``, ``put back``,
            ``revoked``; ``running`` while it lasts.
        seconds: How long it took, or has taken.
        process: Which process of which worker.
        counted: False when its number was given back.
        log: What it logged, as far as it is kept.
    """

    number: int
    ended_by: str
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    process: str
    reason: str
    failure: FailureView | None
    next_at: datetime | None
    counted: bool
    log: str


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the broker knows of one task.

    Args:
        process: Who holds it, or held it last.
        pids: While it runs on this host: of the task processes of its worker, one of which runs it.
        worker_lost: It is RUNNING, and the lease of its worker has run out; nobody has noticed yet.
        revoke_asked: It was revoked while it ran.
        args, kwargs, headers, result: As JSON data, redacted; None where there are none to read.
        options: What the call set besides.
        checkpoint_bytes: Size of its checkpoint; None where there is none.
        unreadable: Why its message cannot be read, with the digest of its bytes.
    """

    id: str
    task: str
    state: str
    celery_state: str
    queue: str
    priority: int
    reason: str
    sent: datetime | None
    due: datetime | None
    claimed: datetime | None
    finished: datetime | None
    process: str
    pids: list[int]
    worker_lost: bool
    attempts_counted: int
    retries: int
    losses: int
    suspected: int
    revoke_asked: bool
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    headers: dict[str, Any]
    options: dict[str, Any]
    parent_id: str | None
    root_id: str | None
    unreadable: str | None
    progress: ProgressView | None
    checkpoint_bytes: int | None
    result: Any
    failure: FailureView | None
    attempts: list[AttemptView]


def task_line(record: Record) -> TaskLine:
    """*record* for a list."""
    return TaskLine(
        id=record.id,
        task=record.task,
        state=record.state.value,
        celery_state=celery_state(record),
        queue=record.queue,
        attempts=record.attempt,
        retries=record.retries,
        losses=record.losses,
        sent=moment(record.sent),
        due=moment(record.due),
        finished=moment(record.finished),
        reason=redact_text(record.reason),
    )


def story(
    records: Records, record: Record, *, now: float, app: Acked | None, pids: Sequence[int] = ()
) -> Story:
    """The whole story of *record*.

    Args:
        now: Wall-clock time in seconds.
        app: Tells the names of positional arguments, so that those are redacted as well.
        pids: Of the processes one of which runs it.
    """
    checkpoint = records.saved(record.id)
    attempts = [_attempt(each) for each in records.attempts(record.id)]
    if record.state is State.RUNNING:
        attempts.append(_running_attempt(record, now))
    line = task_line(record)
    return Story(
        id=line.id,
        task=line.task,
        state=line.state,
        celery_state=line.celery_state,
        queue=line.queue,
        priority=record.priority,
        reason=line.reason,
        sent=line.sent,
        due=line.due,
        claimed=moment(record.claimed),
        finished=line.finished,
        process=record.consumer,
        pids=list(pids),
        worker_lost=record.state is State.RUNNING and _is_lost(records, record.consumer),
        attempts_counted=record.attempt,
        retries=record.retries,
        losses=record.losses,
        suspected=record.suspected,
        revoke_asked=bool(record.revoke),
        progress=progress_view(record.progress),
        checkpoint_bytes=None if checkpoint is None else len(checkpoint),
        result=_result(record.result),
        failure=_failure(record.failure),
        attempts=attempts,
        **_sent(record, parameter_names(app, record.task)),
    )


def _is_lost(records: Records, consumer: str) -> bool:
    name = worker_of(consumer)
    return any(each.worker == name and each.lease_left < 0 for each in records.workers())


def _sent(record: Record, names: Sequence[str]) -> dict[str, Any]:
    """The fields of `Story` that come out of the message."""
    fields: dict[str, Any] = {
        "args": None, "kwargs": None, "headers": {}, "options": {}, "parent_id": None,
        "root_id": None, "unreadable": None,
    }  # fmt: skip
    try:
        message = decode(record.body)
        fields |= {
            "headers": redact(message.headers), "options": _options(message),
            "parent_id": message.parent_id, "root_id": message.root_id,
        }  # fmt: skip
        args, kwargs = decode_arguments(message)
        fields |= {"args": redact_positional(args, names), "kwargs": redact(kwargs)}
    except MessageUnreadable as error:
        digest = hashlib.sha256(record.body).hexdigest()
        fields["unreadable"] = redact_text(f"{error} ({len(record.body)} bytes, SHA-256 {digest})")
    return fields


def _options(message: Message) -> dict[str, Any]:
    found = {
        name: value
        for name in ("max_retries", "soft_time_limit", "time_limit", "ignore_result")
        if (value := getattr(message, name)) is not msgspec.UNSET
    }
    times = {"eta": moment(message.eta), "expires": moment(message.expires)}
    return found | {name: at for name, at in times.items() if at is not None}


def parameter_names(app: Acked | None, task_name: str) -> Sequence[str]:
    """What the parameters of a task are called, as far as *app* knows."""
    task = app.tasks.get(task_name) if app is not None else None
    if task is None:
        return ()
    names = list(inspect.signature(task.function).parameters)
    return names[1:] if task.bind else names


def _attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        ended_by=_ending(attempt),
        started=moment(attempt.started),
        ended=moment(attempt.ended),
        seconds=max(0.0, attempt.ended - attempt.started),
        process=attempt.consumer,
        reason=redact_text(attempt.reason),
        failure=_failure(attempt.failure),
        next_at=moment(attempt.next_at),
        counted=attempt.counted,
        log=redact_text(attempt.log),
    )


def _running_attempt(record: Record, now: float) -> AttemptView:
    began = record.claimed
    return AttemptView(
        number=record.attempt,
        ended_by="running",
        started=moment(began),
        ended=None,
        seconds=None if began is None else max(0.0, now - began),
        process=record.consumer,
        reason="",
        failure=None,
        next_at=None,
        counted=True,
        log="",
    )


def _ending(attempt: Attempt) -> str:
    if attempt.loss:
        return "lost"
    if attempt.event is Event.REVOKE:
        return "revoked"
    if not attempt.counted:
        return "interrupted"
    names = {Event.SUCCEED: "success", Event.RETRY: "retry", Event.FAIL: "failure"}
    return names.get(attempt.event, "put back")


def _failure(failure: Failure | None) -> FailureView | None:
    if failure is None:
        return None
    return FailureView(
        type=failure.type,
        message=redact_text(failure.message),
        traceback=redact_text(failure.traceback),
    )


def share_of(progress: Progress) -> float | None:
    """How far it is, 0.0 to 1.0 where the task counts as it should; None where nobody can say."""
    share = progress.done / progress.total if progress.total > 0 else math.inf
    return share if math.isfinite(share) else None


def progress_view(progress: Progress | None) -> ProgressView | None:
    """*progress*, redacted."""
    if progress is None:
        return None
    return ProgressView(
        done=progress.done,
        total=progress.total,
        share=share_of(progress),
        message=redact_text(progress.message),
        meta=redact(progress.meta),
        at=moment(progress.at),
    )


def _result(result: bytes | None) -> Any:
    if result is None:
        return None
    try:
        return redact(msgspec.json.decode(result))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return f"not readable: {error}"
