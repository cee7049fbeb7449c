"""A task queue that finishes what it started."""

from typing import TYPE_CHECKING, Never

from acked import signals
from acked.app import Acked
from acked.errors import (
    AckedError,
    BrokerError,
    BrokerRefused,
    BrokerUnavailable,
    ConfigurationError,
    Ignore,
    LeaseLost,
    MaxRetriesExceededError,
    NotRegistered,
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
from acked.instead import OF_THE_PACKAGE
from acked.result import AsyncResult, EagerResult
from acked.signatures import Signature
from acked.task import Task

__all__ = [
    "Acked",
    "AckedError",
    "AsyncResult",
    "BrokerError",
    "BrokerRefused",
    "BrokerUnavailable",
    "ConfigurationError",
    "EagerResult",
    "Ignore",
    "LeaseLost",
    "MaxRetriesExceededError",
    "NotRegistered",
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

if not TYPE_CHECKING:  # a type checker would take every name for one of the module

    def __getattr__(name: str) -> Never:
        if name in OF_THE_PACKAGE:
            # Of an AttributeError, `from acked import` would not show the text.
            raise ImportError(f"acked has no {name}: {OF_THE_PACKAGE[name]}.", name=__name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
