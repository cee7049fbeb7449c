"""A task queue that finishes what it started."""

from typing import TYPE_CHECKING, Never

from acked import signals
from acked.app import Acked
from acked.errors import (
    AckedError,
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    Ignore,
    LeaseLost,
    MaxRetriesExceededError,
    NotSendable,
    Reject,
    RemoteError,
    Retry,
    SoftTimeLimitExceeded,
    TaskFailed,
    TaskNotFound,
    TaskRevokedError,
    TimeLimitExceeded,
    TimeoutError,
    UnknownTask,
    WorkerLostError,
)
from acked.result import AsyncResult, EagerResult
from acked.signature import Signature
from acked.task import Task

__all__ = [
    "Acked",
    "AckedError",
    "AsyncResult",
    "BrokerError",
    "BrokerUnavailable",
    "ConfigurationError",
    "EagerResult",
    "Ignore",
    "LeaseLost",
    "MaxRetriesExceededError",
    "NotSendable",
    "Reject",
    "RemoteError",
    "Retry",
    "Signature",
    "SoftTimeLimitExceeded",
    "Task",
    "TaskFailed",
    "TaskNotFound",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "TimeoutError",
    "UnknownTask",
    "WorkerLostError",
    "signals",
]

_BY_HAND = "app.send_many() sends several at once, and a task may send the next one"
_IMPORTS = "make an application, app = Acked(...), and import it where its tasks are defined"
_INSTEAD = {
    "Celery": "Acked is the application",
    "chain": _BY_HAND,
    "chord": _BY_HAND,
    "chunks": _BY_HAND,
    "current_app": _IMPORTS,
    "current_task": "@app.task(bind=True) gives a task itself as its first argument",
    "group": _BY_HAND,
    "shared_task": _IMPORTS,
    "signature": "task.s(...) and task.si(...) make one",
}

if not TYPE_CHECKING:  # a type checker would take every name for one of the module

    def __getattr__(name: str) -> Never:
        if name in _INSTEAD:
            # Of an AttributeError, `from acked import` would not show the text.
            raise ImportError(f"acked has no {name}: {_INSTEAD[name]}.", name=__name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
