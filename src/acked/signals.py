"""Signals: functions that are told what happens. They watch; they never decide.

Names and arguments are Celery's (its user guide, "Signals"); docs/from-celery.md says what stands
for Celery's own objects among them. An exception in a receiver is logged and goes no further.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, overload

logger = logging.getLogger("acked.signals")

F = TypeVar("F", bound=Callable[..., Any])


class Signal:
    """A list of receivers, called with keyword arguments.

    Receivers are held for good (Celery holds them weakly unless told otherwise, which makes
    a receiver defined inside a function vanish).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.receivers: tuple[tuple[object, Callable[..., Any]], ...] = ()

    @overload
    def connect(self, receiver: F, *, sender: object = None, **_: object) -> F: ...

    @overload
    def connect(
        self, receiver: None = None, *, sender: object = None, **_: object
    ) -> Callable[[F], F]: ...

    def connect(
        self, receiver: Callable[..., Any] | None = None, *, sender: object = None, **_: object
    ) -> Any:
        """Call *receiver* for each `send`; for one *sender* alone if it is given.

        Works as ``@signal.connect`` and as ``@signal.connect(sender=task)``. Celery's `weak` and
        `dispatch_uid` are taken and have no effect.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender=sender)
        self.receivers = (*self.receivers, (sender, receiver))
        return receiver

    def disconnect(self, receiver: Callable[..., Any]) -> None:
        """Stop calling *receiver*."""
        self.receivers = tuple(pair for pair in self.receivers if pair[1] is not receiver)

    def send(self, sender: object, **named: Any) -> None:
        """Tell every receiver."""
        for wanted, receiver in self.receivers:
            if wanted is not None and wanted is not sender and wanted != sender:
                continue
            try:
                receiver(sender=sender, signal=self, **named)
            except KeyboardInterrupt:
                raise
            except BaseException:  # `Ignore` and `Retry` are none of Exception's
                logger.exception("receiver %r of %s failed", receiver, self.name)

    def __repr__(self) -> str:
        return f"<Signal: {self.name}>"


before_task_publish = Signal("before_task_publish")
after_task_publish = Signal("after_task_publish")
task_prerun = Signal("task_prerun")
task_postrun = Signal("task_postrun")
task_success = Signal("task_success")
task_failure = Signal("task_failure")
task_retry = Signal("task_retry")
task_revoked = Signal("task_revoked")
task_rejected = Signal("task_rejected")
task_unknown = Signal("task_unknown")
task_internal_error = Signal("task_internal_error")
worker_init = Signal("worker_init")
worker_ready = Signal("worker_ready")
worker_shutdown = Signal("worker_shutdown")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown")
setup_logging = Signal("setup_logging")
