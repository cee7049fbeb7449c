"""Every exception acked raises, in one tree. This module imports nothing of acked.

::

    AckedError                      everything below that is an ordinary error
    ├── ConfigurationError          a setting or option that cannot work; names it and the remedy
    ├── NotSendable                 a call that cannot be sent (also a TypeError); nothing is stored
    ├── BrokerError                 the broker refused, is away, or timed out; says what that leaves
    │   └── BrokerUnavailable       it could not be reached in time
    ├── LeaseLost                   this worker no longer owns the delivery
    ├── IllegalTransition           a state change the table in `delivery` does not have
    ├── MessageUnreadable           bytes in the broker that are not a message
    ├── UnknownTask                 no task of that name is registered (Celery: NotRegistered)
    ├── TaskNotFound                no record of that id
    ├── TimeoutError                a wait for a result ran out (also the built-in TimeoutError)
    └── TaskFailed                  what `AsyncResult.get` raises when the task did not succeed
        ├── RemoteError             the task raised an exception that is not rebuilt here
        ├── WorkerLostError         its process or host died while it ran
        ├── TimeLimitExceeded       the hard limit killed it
        ├── MaxRetriesExceededError it asked for a retry and had none left
        ├── TaskRevokedError        it was revoked or had expired
        └── Reject                  (raised by tasks) refuse this message

    ControlFlow (BaseException)     what a task raises to steer the worker; a broad
    ├── Retry                       `except Exception` cannot swallow them
    ├── Ignore
    └── SoftTimeLimitExceeded

Celery makes the three last ones ordinary exceptions; a broad ``except`` then turns a
retry into a success and a time limit into nothing (docs/from-celery.md).
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any


class AckedError(Exception):
    """Base of every ordinary error raised by acked."""


class ConfigurationError(AckedError, ValueError):
    """A setting or an option that cannot work. The text names it and the remedy."""


class NotSendable(AckedError, TypeError):
    """A call that cannot be sent: an argument that has no JSON form, a wrong option,
    arguments that do not fit the task. Nothing was stored."""


class BrokerError(AckedError):
    """The broker refused or failed.

    Where it was to store a call, the text names the task and its id, and says which of two holds:
    it is not stored, or it may be, and then sending it again with the same id is harmless.

    Args:
        text: What failed, and what to do.
        nothing_stored: Whether it is certain that nothing of what was asked has happened.

    Attributes:
        unsure_ids: The tasks that may be stored, in the order of their calls.
        stored_ids: The tasks of the same call that are stored, before those; see
            `Task.delay_many`. Whatever comes after both was not sent.
    """

    def __init__(self, *text: object, nothing_stored: bool = False) -> None:
        super().__init__(*text)
        self.nothing_stored = nothing_stored
        self.unsure_ids: tuple[str, ...] = ()
        self.stored_ids: tuple[str, ...] = ()

    def about(self, what: str, task_ids: Iterable[str] = ()) -> BrokerError:
        """The same error, with what it means for *what*, the tasks that were to be stored."""
        fate = (
            "not stored"
            if self.nothing_stored
            else "may be stored, and sending it again with the same id is harmless"
        )
        error = self.again(f"{what}: {fate}. {self}", nothing_stored=self.nothing_stored)
        if not self.nothing_stored:
            error.unsure_ids = tuple(task_ids)
        return error

    def after(self, stored_ids: Sequence[str]) -> BrokerError:
        """The same error, of a call that has stored *stored_ids* before."""
        text = f"{self} The first {len(stored_ids)} calls are stored: see `stored_ids`."
        error = self.again(text, nothing_stored=False)
        error.stored_ids, error.unsure_ids = tuple(stored_ids), self.unsure_ids
        return error

    def again(self, text: str, *, nothing_stored: bool) -> BrokerError:
        """One to raise in place of this one: the same for whoever catches it."""
        kind = BrokerError
        for more in (BrokerUnavailable, BrokerRefused):
            if isinstance(self, more):
                kind = more
        return kind(text, nothing_stored=nothing_stored)


class BrokerUnavailable(BrokerError):
    """The broker could not be reached within its time limit."""


class BrokerRefused(BrokerError, ConfigurationError):
    """The broker cannot be used as it is set up: no right, no such user, no tables. A worker that
    runs goes on trying, as somebody may be mending that; one that starts does not."""


class LeaseLost(AckedError):
    """The delivery was given to another worker; what this one reports about it is refused."""


class IllegalTransition(AckedError):
    """An event that the task's present state does not allow. Nothing was changed."""


class MessageUnreadable(AckedError, ValueError):
    """The broker holds bytes that are not a message of this version."""


class UnknownTask(AckedError, LookupError):
    """No task of that name is registered in this process."""


NotRegistered = UnknownTask
"""Celery's name for `UnknownTask`."""


class TaskNotFound(AckedError, LookupError):
    """The broker has no record of that task id: never sent, discarded, or past its retention."""


class TimeoutError(AckedError, builtins.TimeoutError):  # noqa: A001 - Celery's name for it
    """The result did not arrive within the time given. The task itself goes on."""


class TaskFailed(AckedError):
    """The task ended without success."""


class RemoteError(TaskFailed):
    """An exception raised inside a task, as text.

    Args:
        type_name: Qualified name of the exception's class in the worker.
        message: Its text, cut to the stored limit.
        traceback: Formatted traceback, without local values.

    Built-in exceptions and acked's own are rebuilt as themselves; every other class stays
    text, since importing a class named in stored data runs code (CVE-2021-23727).
    """

    def __init__(self, type_name: str, message: str = "", traceback: str = "") -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback


class WorkerLostError(TaskFailed):
    """The process or host that ran the task died. The text says how: signal, exit code, lease."""


class TimeLimitExceeded(TaskFailed):
    """The hard time limit passed and the process was killed."""


class MaxRetriesExceededError(TaskFailed):
    """`Task.retry` was called when no retry was left and no exception was given to raise.

    Attributes:
        task_args, task_kwargs: What the task was called with; empty where it was read back.
    """

    def __init__(self, *text: object) -> None:
        super().__init__(*text)
        self.task_args: list[Any] = []
        self.task_kwargs: dict[str, Any] = {}


class TaskRevokedError(TaskFailed):
    """The task was revoked, or its `expires` had passed before it started."""


class Reject(TaskFailed):
    """Raised by a task to refuse its message.

    Args:
        reason: Kept with the attempt.
        requeue: False ends the task as FAILURE (the dead letters). True puts it back in
            the queue, at once the first time and with growing waits after that.
    """

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__("" if reason is None else str(reason))
        self.reason = reason
        self.requeue = requeue


class ControlFlow(BaseException):
    """Base of what a task raises to tell the worker what to do next."""


class Retry(ControlFlow):
    """The attempt ends here and the task runs again at `when`.

    Attributes are Celery's: `message`, `exc`, `when` (seconds, a datetime, or None where
    the retry policy decides), `is_eager`, `sig`.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: object = None,
    ) -> None:
        super().__init__(message, exc, when)
        self.message = message
        self.exc = exc
        self.when = when
        self.is_eager = is_eager
        self.sig = sig

    def __str__(self) -> str:
        if self.message:
            return self.message
        if isinstance(self.when, datetime):
            text = f"Retry at {self.when.isoformat()}"
        elif self.when is None:
            text = "Retry"
        else:
            text = f"Retry in {self.when:g}s"
        return f"{text}: {self.exc!r}" if self.exc is not None else text


class Ignore(ControlFlow):
    """The attempt ends and its return value does not matter.

    The state set by `Task.update_state` is kept when it is a final one; otherwise the task
    ends as SUCCESS without a result.
    """


class SoftTimeLimitExceeded(ControlFlow):
    """The soft time limit passed. A task may catch it by name and clean up.

    It is a `BaseException`, so that ``except Exception: pass`` does not swallow it;
    ``autoretry_for=(Exception,)`` covers it all the same.
    """
