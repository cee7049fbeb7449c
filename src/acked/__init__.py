"""A task queue that finishes what it started."""

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
