"""Signals: functions that are told what happens. They watch; they never decide.

Names and arguments are Celery's (its user guide, "Signals"); docs/from-celery.md says what stands
for Celery's own objects among them. An exception in a receiver is logged and goes no further.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from acked.errors import SoftTimeLimitExceeded
from acked.instead import OF_THE_SIGNALS

logger = logging.getLogger("acked.signals")

F = TypeVar("F", bound=Callable[..., Any])


class Signal:
    """A list of receivers, called with keyword arguments.

    Receivers are held for good (Celery holds them weakly unless told otherwise, which makes
    a receiver defined inside a function vanish).

    Attributes:
        receivers: What was connected, in its order: sender, receiver, `dispatch_uid`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.receivers: tuple[tuple[object, Callable[..., Any], object], ...] = ()

    @overload
    def connect(
        self, receiver: F, *, sender: object = None, dispatch_uid: object = None, **_: object
    ) -> F: ...

    @overload
    def connect(
        self,
        receiver: None = None,
        *,
        sender: object = None,
        dispatch_uid: object = None,
        **_: object,
    ) -> Callable[[F], F]: ...

    def connect(
        self,
        receiver: Callable[..., Any] | None = None,
        *,
        sender: object = None,
        dispatch_uid: object = None,
        **_: object,
    ) -> Any:
        """Call *receiver* for each `send`; for one *sender* alone if it is given.

        Works as ``@signal.connect`` and as ``@signal.connect(sender=task)``. What is connected
        already, for the same sender, is not connected again. Celery's `weak` is taken and has no
        effect.

        Args:
            dispatch_uid: Stands for the receiver where that is another object each time, as in a
                module that is imported twice: of two with one `dispatch_uid` the first stays.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender=sender, dispatch_uid=dispatch_uid)
        if not any(
            _same(known, sender) and (uid == dispatch_uid if dispatch_uid else it == receiver)
            for known, it, uid in self.receivers
        ):
            self.receivers = (*self.receivers, (sender, receiver, dispatch_uid))
        return receiver

    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        *,
        sender: object = None,
        dispatch_uid: object = None,
        **_: object,
    ) -> None:
        """Stop calling *receiver*, or what was connected by that *dispatch_uid*; for one *sender*
        alone if it is given, else for all."""
        self.receivers = tuple(
            (known, it, uid)
            for known, it, uid in self.receivers
            if not (
                (sender is None or _same(known, sender))
                and (uid == dispatch_uid if dispatch_uid else it == receiver)
            )
        )

    def send(self, sender: object, **named: Any) -> None:
        """Tell every receiver."""
        for wanted, receiver, _ in self.receivers:
            if wanted is not None and not _same(wanted, sender):
                continue
            try:
                receiver(sender=sender, signal=self, **named)
            except (KeyboardInterrupt, SoftTimeLimitExceeded):  # none of the receiver's own
                raise
            except BaseException:  # `Ignore` and `Retry` are none of Exception's
                logger.exception("receiver %r of %s failed", receiver, self.name)

    def __repr__(self) -> str:
        return f"<Signal: {self.name}>"


def _same(one: object, other: object) -> bool:
    return one is other or one == other


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

if not TYPE_CHECKING:  # a type checker would take every name for one of the module

    def __getattr__(name: str) -> Never:
        if name in OF_THE_SIGNALS:
            # Of an AttributeError, `from acked.signals import` would not show the text.
            raise ImportError(f"there is no signal {name}: {OF_THE_SIGNALS[name]}.", name=__name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
