"""One attempt, as steps over one value: prepare, call, classify, tell, decide.

No broker is touched here. A step that goes wrong for a reason of the task's becomes an outcome;
what a hook or a signal receiver raises is logged and changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any

import msgspec

from acked import message as messages
from acked import signals
from acked.broker import Records
from acked.chance import roll
from acked.delivery import Delivery, Event, Failure, Settlement
from acked.errors import Ignore, MessageUnreadable, NotSendable, Reject, Retry, UnknownTask
from acked.failure import ExceptionInfo, failure_of, text_of
from acked.outcome import (
    FailedByHand,
    Outcome,
    Raised,
    Rejected,
    RetryAsked,
    Revoked,
    Succeeded,
    TaskPolicy,
    TaskUnknown,
    Unreadable,
    decide,
)
from acked.record import Progress
from acked.request import Request, current
from acked.retry import retry_after
from acked.task import Task

logger = logging.getLogger("acked.task")

DEFAULT_POLICY = TaskPolicy()


class Attempt:
    """A delivery that is ready to be called, and what came of it.

    Args:
        held: The delivery.
        task: Its task.
        request: What the task sees as `self.request`.
        policy: The task's policy with the message's overrides.
        args, kwargs: Converted arguments.
    """

    __slots__ = (
        "_context", "_pid", "args", "held", "kwargs", "outcome", "policy", "raised", "request",
        "started", "task", "value",
    )  # fmt: skip

    def __init__(
        self, held: Delivery, task: Task[..., Any], request: Request, policy: TaskPolicy,
        args: list[Any], kwargs: dict[str, Any],
    ) -> None:  # fmt: skip
        self.held = held
        self.task = task
        self.request = request
        self.policy = policy
        self.args = args
        self.kwargs = kwargs
        self.started = 0.0
        self.value: Any = None
        self.raised: BaseException | None = None
        self.outcome: Outcome | None = None
        self._context: Token[Request] | None = None
        self._pid = 0

    # -- the steps ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Tell that it starts; from here on `self.request` is this attempt's."""
        self.started = self.task.app.clock.now()
        self._pid = os.getpid()
        self._context = current.set(self.request)
        if signals.task_prerun.receivers:
            signals.task_prerun.send(
                self.task, task_id=self.held.id, task=self.task, args=self.args, kwargs=self.kwargs
            )
        if self.task.has_hooks:
            self.guard(self.task.before_start, self.held.id, self.args, self.kwargs)

    def call(self) -> Any:
        """Call the function; for an `async def` task, its coroutine. What it raises is raised."""
        return self.task.invoke(self.request, self.args, self.kwargs)

    def returned(self, value: Any) -> None:
        """The function returned *value*."""
        self._end_forked_child()
        self.value = value
        request = self.request
        if request.retry_asked is not None:
            logger.warning("self.retry() was called and its Retry did not leave the task; retried")
            self.outcome = request.retry_asked
            return
        try:
            if self.task.wants_retry_for(value) and not self.policy.retry.exhausted(
                self.held.retries, age=self.task.app.clock.now() - self.held.sent
            ):
                self.outcome = RetryAsked(failure=Failure("RetryForResult", text_of(value)))
                return
            ignored = request.ignore_result
            self.outcome = Succeeded(None if ignored else self.task.dump_result(value))
        except NotSendable as error:
            # The work is done, and would come to the same value again.
            self.failed(error, retryable=NotSendable in self.task.autoretry_for)
        except BaseException as error:
            self.failed(error)

    def failed(self, error: BaseException, *, retryable: bool | None = None) -> None:
        """*error* left the function, or its return value could not be stored.

        Args:
            error: What ended it.
            retryable: Whether it is one to retry for; `autoretry_for` says unless given.
        """
        self._end_forked_child(error)
        if isinstance(error, MemoryError):
            # What fills the memory hangs on the frames of the task, and its end takes some as well.
            traceback.clear_frames(error.__traceback__)
        self.raised = error
        asked = self.request.retry_asked
        if asked is not None:
            # Nothing the body does after self.retry() changes that it retries.
            if not isinstance(error, Retry):
                logger.warning("self.retry() was followed by %s; retried", type(error).__name__)
            self.outcome = asked
        elif isinstance(error, Ignore):
            self.outcome = _outcome_by_hand(self.request.own_state)
        elif isinstance(error, Reject):
            self.outcome = Rejected(text_of(error.reason), error.requeue)
        else:
            self.outcome = Raised(
                failure_of(error),
                retryable=self.task.covers(error) if retryable is None else retryable,
                asked_wait=_guarded(lambda: retry_after(error, time.time())),
            )

    def _end_forked_child(self, error: BaseException | None = None) -> None:
        """A child that the task forked, and that comes back out of it, is no second worker. It
        ends as a program would: its parent reads from its status whether it failed."""
        if os.getpid() == self._pid:
            return
        status = 0 if error is None else 1
        try:
            if isinstance(error, SystemExit) and isinstance(error.code, int | None):
                status = (error.code or 0) & 0xFF
            elif error is not None:
                traceback.print_exception(error)
            sys.stdout.flush()
        finally:
            os._exit(status)

    def finish(self) -> Settlement:
        """Decide, and tell the hooks and the signals what was decided."""
        try:
            return self._finish()
        except BaseException as error:
            # Whatever goes wrong here is not the task's, and must not leave it without an end.
            logger.exception("the end of %s[%s] went wrong", self.task.name, self.held.id)
            with contextlib.suppress(BaseException):
                self._tell_internal_error(error)
            failure = Failure("InternalError", f"{type(error).__name__} while the attempt ended")
            return Settlement.fail(
                self.held, at=self.task.app.clock.now(), started=self.started, failure=failure
            )

    def _finish(self) -> Settlement:
        assert self.outcome is not None
        self.request.flush_progress()
        now = self.task.app.clock.now()
        # What has succeeded is not put off, and a number costs a call of the system.
        chance = 0.0 if isinstance(self.outcome, Succeeded) else roll()
        settlement = decide(
            self.held, self.outcome, self.policy, now=now, roll=chance, started=self.started
        )
        if self.request.lines is not None:
            settlement = msgspec.structs.replace(settlement, log=self.request.lines.text())
        self.tell(settlement)
        if self._context is not None:
            with contextlib.suppress(ValueError):  # set in another context: the loop's own copy
                current.reset(self._context)
        return settlement

    # -- hooks, in Celery's order -----------------------------------------------------------------

    def tell(self, settlement: Settlement) -> None:
        """Log, then run hooks and signals for what was decided. They watch; they never decide."""
        event = settlement.event
        log_end(self.task.name, self.held, settlement, expected=self.expected)
        # As in Celery, an ignored attempt tells nobody but task_postrun.
        if not isinstance(self.raised, Ignore):
            if self.task.has_hooks:
                self._run_hooks(event)
            self._send_signals(settlement)
            if self.task.has_hooks:
                self._run_after_return(event)
        if signals.task_postrun.receivers:
            self._send_postrun(event)

    @property
    def expected(self) -> bool:
        """Whether the exception is one the task listed in `throws`."""
        return self.raised is not None and self.task.expects(self.raised)

    def _run_hooks(self, event: Event) -> None:
        task, task_id, args, kwargs = self.task, self.held.id, self.args, self.kwargs
        if event is Event.SUCCEED:
            self.guard(task.on_success, self.value, task_id, args, kwargs)
        elif event is Event.RETRY:
            info = ExceptionInfo(self.raised)
            self.guard(task.on_retry, self._cause(), task_id, args, kwargs, info)
        elif event is Event.FAIL:
            info = ExceptionInfo(self.raised)
            self.guard(task.on_failure, self.raised, task_id, args, kwargs, info)

    def _send_signals(self, settlement: Settlement) -> None:
        task, task_id, event = self.task, self.held.id, settlement.event
        if event is Event.SUCCEED and signals.task_success.receivers:
            runtime = settlement.at - self.started
            signals.task_success.send(task, result=self.value, runtime=runtime)
        elif event is Event.RETRY and signals.task_retry.receivers:
            signals.task_retry.send(
                task, request=self.request, reason=self._retry(settlement),
                einfo=ExceptionInfo(self.raised),
            )  # fmt: skip
        elif event is Event.FAIL and signals.task_failure.receivers:
            signals.task_failure.send(
                task, task_id=task_id, exception=self.raised, args=self.args, kwargs=self.kwargs,
                traceback=self.raised.__traceback__ if self.raised else None,
                einfo=ExceptionInfo(self.raised),
            )  # fmt: skip
        elif event is Event.REVOKE and signals.task_revoked.receivers:
            # A coroutine is cancelled: no signal of the operating system ends it.
            signals.task_revoked.send(
                task, request=self.request, terminated=True, signum=None, expired=False
            )

    def _run_after_return(self, event: Event) -> None:
        task, task_id, args, kwargs = self.task, self.held.id, self.args, self.kwargs
        if event is Event.SUCCEED:
            self.guard(task.after_return, "SUCCESS", self.value, task_id, args, kwargs, None)
        elif event is Event.FAIL:
            info = ExceptionInfo(self.raised)
            self.guard(task.after_return, "FAILURE", self.raised, task_id, args, kwargs, info)

    def _send_postrun(self, event: Event) -> None:
        states = {Event.SUCCEED: "SUCCESS", Event.FAIL: "FAILURE", Event.REVOKE: "REVOKED"}
        signals.task_postrun.send(
            self.task, task_id=self.held.id, task=self.task, args=self.args, kwargs=self.kwargs,
            retval=self.value if self.raised is None else self.raised,
            state=states.get(event, "RETRY"),
        )  # fmt: skip

    def _cause(self) -> BaseException | None:
        """The exception a retry was asked for, as `on_retry` gets it."""
        return self.raised.exc if isinstance(self.raised, Retry) else self.raised

    def _retry(self, settlement: Settlement) -> Retry:
        """The `Retry` that it ends with, also where the task raised none."""
        if isinstance(self.raised, Retry):
            return self.raised
        due = settlement.not_before
        wait = 0.0 if due is None else max(0.0, due - settlement.at)
        return Retry(exc=self.raised, when=wait)

    def guard(self, hook: Callable[..., Any], *args: Any) -> None:
        """Run a hook; what it raises is logged, since the work itself is done."""
        try:
            hook(*args)
        except BaseException as error:
            logger.exception("%s of %s failed", getattr(hook, "__name__", hook), self.task.name)
            self._tell_internal_error(error)

    def _tell_internal_error(self, error: BaseException) -> None:
        if signals.task_internal_error.receivers:
            signals.task_internal_error.send(
                self.task, task_id=self.held.id, args=self.args, kwargs=self.kwargs,
                request=self.request, exception=error, traceback=error.__traceback__,
                einfo=ExceptionInfo(error),
            )  # fmt: skip


# -- prepare ---------------------------------------------------------------------------------------


def prepare(
    held: Delivery, tasks: Mapping[str, Task[..., Any]], records: Records, consumer: str, *,
    now: float,
) -> Attempt | Settlement:  # fmt: skip
    """The attempt for *held*, or its settlement where it cannot or must not start.

    Args:
        held: A delivery of *consumer*, this process.
        tasks: What is registered, by name.
        records: Where the task's progress and checkpoints go.
        now: Wall-clock time, seconds.
    """
    try:
        message = messages.decode(held.body)
    except MessageUnreadable as error:
        return _reject(held, error, DEFAULT_POLICY, now, "?", consumer)
    name = message.task
    task = tasks.get(name)
    if task is None:
        if signals.task_unknown.receivers:
            signals.task_unknown.send(
                consumer, name=name, id=held.id, message=held.body, exc=UnknownTask(name)
            )
        return _refuse(held, TaskUnknown(name), DEFAULT_POLICY, now, name)
    policy = task.policy_for(message)
    if message.expires is not None and now >= message.expires:
        if signals.task_revoked.receivers:
            request = Request.from_afar(held, message, policy, consumer)
            signals.task_revoked.send(
                task, request=request, terminated=False, signum=None, expired=True
            )
        return _refuse(held, Revoked("expired"), policy, now, name)
    try:
        args, kwargs = task.load_arguments(message)
    except MessageUnreadable as error:
        return _reject(held, error, policy, now, name, consumer)
    except BaseException as error:  # they do not fit the function or its annotations
        return _refuse(held, Raised(failure_of(error)), policy, now, name)
    request = Request(
        message=message, delivery=held, policy=policy, records=records, args=args, kwargs=kwargs,
        hostname=consumer,
    )  # fmt: skip
    return Attempt(held, task, request, policy, args, kwargs)


def _refuse(
    held: Delivery, outcome: Outcome, policy: TaskPolicy, now: float, name: str
) -> Settlement:
    settlement = decide(held, outcome, policy, now=now, roll=0.0)
    log_end(name, held, settlement)
    return settlement


def _reject(
    held: Delivery, error: MessageUnreadable, policy: TaskPolicy, now: float, name: str,
    consumer: str,
) -> Settlement:  # fmt: skip
    """The end of a message that is none."""
    if signals.task_rejected.receivers:
        signals.task_rejected.send(consumer, message=held.body, exc=error)
    return _refuse(held, Unreadable(text_of(error)), policy, now, name)


def log_end(name: str, held: Delivery, settlement: Settlement, *, expected: bool = False) -> None:
    """One line for the end of an attempt: the same facts the record keeps."""
    event, reason = settlement.event, settlement.reason
    level = _level(settlement, expected)
    if not logger.isEnabledFor(level):
        return
    extra = {"task_id": held.id, "task_name": name}
    if event is Event.SUCCEED:
        took = settlement.at - (settlement.started or settlement.at)
        logger.log(level, "succeeded in %.3f s", took, extra=extra)
    elif event is Event.FAIL:
        if settlement.failure is not None and not expected:
            extra["acked_traceback"] = settlement.failure.traceback
        logger.log(level, "attempt %d failed: %s", held.attempt, reason, extra=extra)
    elif event is Event.REVOKE:
        logger.log(level, "attempt %d ended, revoked: %s", held.attempt, reason, extra=extra)
    else:
        logger.log(
            level, "attempt %d: %s; %s", held.attempt, reason, _again(settlement), extra=extra
        )


def _again(settlement: Settlement) -> str:
    if settlement.not_before is None:
        return "it runs again at once"
    return f"again in {max(0.0, settlement.not_before - settlement.at):.1f} s"


def _level(settlement: Settlement, expected: bool) -> int:
    event = settlement.event
    if event is Event.FAIL and not expected:
        return logging.ERROR
    if event is Event.RELEASE or event is Event.POSTPONE:
        return logging.WARNING
    return logging.INFO


def _outcome_by_hand(own: Progress | None) -> Outcome:
    if own is not None and own.state == "FAILURE":
        return FailedByHand("set by update_state", _json(own.meta))
    if own is not None and own.state == "REVOKED":
        return Revoked("set by update_state")
    if own is not None and own.state == "SUCCESS":
        return Succeeded(_json(own.meta), "set by update_state")
    return Succeeded(None, "ignored")


def _json(value: Any) -> bytes | None:
    return None if value is None else msgspec.json.encode(value)


def _guarded(read: Callable[[], float | None]) -> float | None:
    """Reading attributes of a foreign exception may run anything."""
    try:
        return read()
    except Exception:
        return None
