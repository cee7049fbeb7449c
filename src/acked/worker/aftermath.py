"""Hooks of attempts whose process died: run by the process that takes its place.

The supervisor settles such attempts and runs no user code, so `on_failure`, `on_retry` and their
signals are called here, after the settlement, in a thread beside the work: a hook that hangs keeps
nobody from working. It is best effort: when no process follows (the worker stops), only the record
and the log tell.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from acked import errors, signals
from acked import message as messages
from acked.app import Acked
from acked.delivery import Event
from acked.execute import Attempt
from acked.failure import ExceptionInfo
from acked.request import Request
from acked.worker.wire import Aftermath

logger = logging.getLogger("acked.worker")


def start_aftermath(app: Acked, entries: Sequence[Aftermath]) -> None:
    """Run the hooks and signals of *entries*; nothing they raise goes further."""
    if entries:
        threading.Thread(
            target=_run_all, args=(app, entries), name="acked-aftermath", daemon=True
        ).start()


def _run_all(app: Acked, entries: Sequence[Aftermath]) -> None:
    for entry in entries:
        try:
            _run(app, entry)
        except BaseException:
            logger.exception("hooks of task %s failed", entry.held.id)


def _run(app: Acked, entry: Aftermath) -> None:
    task_id = entry.held.id
    record = app.records.get(task_id)
    if record is None:
        return
    message = messages.decode(record.body)
    task = app.tasks.get(message.task)
    if task is None:
        return
    args, kwargs = task.load_arguments(message)
    held = msgspec.structs.replace(entry.held, body=record.body)
    policy = task.policy_for(message)
    request = Request.from_afar(held, message, policy, held.consumer)
    attempt = Attempt(held, task, request, policy, args, kwargs)
    error = _rebuild(entry)
    info = ExceptionInfo(error)
    named: dict[str, Any] = {"task_id": task_id, "args": args, "kwargs": kwargs}
    if entry.event == Event.FAIL:
        if task.has_hooks:
            attempt.guard(task.on_failure, error, task_id, args, kwargs, info)
        signals.task_failure.send(task, exception=error, traceback=None, einfo=info, **named)
        if task.has_hooks:
            attempt.guard(task.after_return, "FAILURE", error, task_id, args, kwargs, info)
    elif entry.event == Event.RETRY:
        if task.has_hooks:
            attempt.guard(task.on_retry, error, task_id, args, kwargs, info)
        reason = errors.Retry(exc=error)
        signals.task_retry.send(task, request=request, reason=reason, einfo=info)
    elif entry.event == Event.REVOKE:
        signals.task_revoked.send(
            task, request=request, terminated=True, signum=signal.SIGKILL, expired=False
        )


def _rebuild(entry: Aftermath) -> Exception:
    kinds: dict[str, type[errors.TaskFailed]] = {
        "WorkerLostError": errors.WorkerLostError,
        "TimeLimitExceeded": errors.TimeLimitExceeded,
    }
    return kinds.get(entry.error_type, errors.TaskFailed)(entry.error_text)
