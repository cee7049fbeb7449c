"""`AsyncResult`: reading a task's state and waiting for its end. Names are Celery's."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, Never, Protocol, TypeVar

import msgspec

from acked.broker import Records
from acked.clock import Clock
from acked.delivery import State
from acked.errors import RemoteError, TaskNotFound, TaskRevokedError, TimeoutError
from acked.failure import rebuild
from acked.instead import OF_A_RESULT, missing
from acked.record import Attempt, Progress, Record, celery_state
from acked.request import current
from acked.states import UNKNOWN

R_co = TypeVar("R_co", covariant=True)

_LONG_WAIT = 60.0
_FIRST_POLL, _LAST_POLL, _POLL_GROWTH = 0.005, 0.1, 1.3

_decode = msgspec.json.Decoder().decode


class RecordStore(Protocol):
    """What a result needs of its application."""

    @property
    def records(self) -> Records: ...

    @property
    def clock(self) -> Clock: ...

    def load_result(self, task: str, value: Any) -> Any:
        """A decoded return value of the task of that name as its annotation says."""
        ...


class AsyncResult(Generic[R_co]):
    """A task that was sent.

    It holds an id and nothing open: a result that is dropped costs nothing, and one can be made
    from the id at any time, ``app.AsyncResult(task_id)``.

    Args:
        task_id: The task.
        app: The application, whose broker is asked.
        name: The task's name where it is known; else it is read from the record.
    """

    __slots__ = ("_app", "_name", "_success", "id")

    def __init__(self, task_id: str, app: RecordStore, name: str | None = None) -> None:
        self.id = task_id
        self._app = app
        self._name = name
        self._success: Record | None = None

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name: str) -> Never:
            raise missing("a result", self, name, OF_A_RESULT)

    # -- where it stands ---------------------------------------------------------------------------

    @property
    def task_id(self) -> str:
        return self.id

    @property
    def name(self) -> str | None:
        """The task's registered name; None for an unknown id."""
        if self._name is None and (record := self._record()) is not None:
            self._name = record.task
        return self._name

    @property
    def state(self) -> str:
        """PENDING, STARTED or the task's own, RETRY, SUCCESS, FAILURE, REVOKED, or UNKNOWN."""
        record = self._record()
        return UNKNOWN if record is None else celery_state(record)

    @property
    def status(self) -> str:
        """Another name for `state`."""
        return self.state

    @property
    def result(self) -> Any:
        """The return value; the exception of a task that failed or waits for its retry; the
        `meta` of `Task.update_state` while it runs."""
        record = self._record()
        if record is None:
            return None
        if record.state is State.SUCCESS:
            return self._value(record)
        if record.failure is not None and record.state is not State.RUNNING:
            return self._error(record)
        if record.is_final:
            return self._value(record) if record.result is not None else self._error(record)
        return record.progress.meta if record.progress else None

    @property
    def info(self) -> Any:
        """Another name for `result`, as Celery has it."""
        return self.result

    @property
    def traceback(self) -> str | None:
        """The traceback of the latest failure, as text."""
        record = self._record()
        return (record.failure.traceback or None) if record and record.failure else None

    @property
    def retries(self) -> int:
        """Retries so far."""
        record = self._record()
        return record.retries if record else 0

    @property
    def progress(self) -> Progress | None:
        """The latest thing the task said about itself."""
        record = self._record()
        return record.progress if record else None

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt so far, oldest first, with how and why each ended."""
        return self._app.records.attempts(self.id)

    @property
    def date_done(self) -> datetime.datetime | None:
        """When it reached a final state, in UTC."""
        record = self._record()
        if record is None or record.finished is None:
            return None
        return datetime.datetime.fromtimestamp(record.finished, datetime.UTC)

    def ready(self) -> bool:
        """Whether it has ended: SUCCESS, FAILURE or REVOKED."""
        record = self._record()
        return record is not None and record.is_final

    def successful(self) -> bool:
        """Whether it ended as SUCCESS."""
        return self.state == State.SUCCESS

    def failed(self) -> bool:
        """Whether it ended as FAILURE."""
        return self.state == State.FAILURE

    # -- waiting -----------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float | None = None,
        *,
        disable_sync_subtasks: bool = True,
    ) -> R_co:
        """Wait for the end and return what the task returned.

        Args:
            timeout: Seconds to wait; None waits as long as it takes.
            propagate: Raise the exception of a task that did not succeed; False returns it.
            interval: Taken for Celery's sake; the broker says when to look.
            disable_sync_subtasks: Refuse to wait inside a task.

        Raises:
            TimeoutError: It has not ended in time. The task goes on.
            TaskNotFound: The broker has no record of it, so no wait would end.
            TaskRevokedError: It was revoked, or expired before it started.
            RuntimeError: Called inside a task.
            TypeError: The timeout is no number.
            Exception: What the task raised: a built-in exception or one of acked's as itself,
                any other as `RemoteError`; its `__cause__` is the traceback in the worker.
        """
        del interval
        if disable_sync_subtasks:
            _refuse_inside_a_task()
        deadline = _deadline(timeout)
        record = self._known(self._record())
        while not record.is_final:
            left = _LONG_WAIT if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise self._late(timeout, record)
            wait = min(left, _LONG_WAIT)
            record = self._known(self._app.records.wait_for_change(self.id, record, wait))
        value: R_co = self._outcome(record, propagate)
        return value

    wait = get

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        disable_sync_subtasks: bool = True,
    ) -> R_co:
        """`get` for coroutines; ``await result`` is this without a limit.

        Any number of coroutines may wait: none holds a thread while it does.
        """
        if disable_sync_subtasks:
            _refuse_inside_a_task()
        deadline = _deadline(timeout)
        pause = _FIRST_POLL
        while True:
            record = self._known(await asyncio.to_thread(self._record))
            if record.is_final:
                value: R_co = self._outcome(record, propagate)
                return value
            left = _LONG_WAIT if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise self._late(timeout, record)
            await asyncio.sleep(min(left, pause))
            pause = min(_LAST_POLL, pause * _POLL_GROWTH)

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.aget().__await__()

    # -- operating ---------------------------------------------------------------------------------

    def revoke(self, terminate: bool = False, signal: str | None = None) -> None:
        """Revoke it for good: a waiting task never starts, a running one never runs again.

        Args:
            terminate: Also kill it where it runs now.
            signal: Taken for Celery's sake; the kill is always SIGKILL.
        """
        del signal
        self._app.records.revoke([self.id], terminate=terminate)

    def forget(self) -> None:
        """Delete the record of a task that has ended; one that has not is left alone."""
        if self.ready():
            self._app.records.discard([self.id])
        self._success = None

    # -- inside ------------------------------------------------------------------------------------

    def _record(self) -> Record | None:
        if self._success is not None:
            return self._success
        record = self._app.records.get(self.id)
        # A success stays what it is; anything else may be requeued by an operator.
        if record is not None and record.state is State.SUCCESS:
            self._success = record
        return record

    def _known(self, record: Record | None) -> Record:
        if record is None:
            raise TaskNotFound(
                f"no record of task {self.id}: it was never sent to this broker, was discarded, "
                "or is past its retention (result_expires)"
            )
        return record

    def _late(self, timeout: float | None, record: Record) -> TimeoutError:
        return TimeoutError(
            f"task {self.id} is {celery_state(record)} and has not ended after {timeout:g} s"
        )

    def _value(self, record: Record) -> Any:
        if record.result is None:
            return None
        return self._app.load_result(record.task, _decode(record.result))

    def _error(self, record: Record) -> Exception:
        if record.state is State.REVOKED:
            return TaskRevokedError(record.reason or "revoked")
        if record.failure is None:
            return RemoteError("Failure", record.reason)
        return rebuild(record.failure)

    def _outcome(self, record: Record, propagate: bool) -> Any:
        if record.state is State.SUCCESS:
            return self._value(record)
        error = self._error(record)
        if propagate:
            raise error
        return error

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __str__(self) -> str:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)


def _deadline(timeout: object) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}.")
    return time.monotonic() + timeout


def _refuse_inside_a_task() -> None:
    request = current.get()
    if request.sender is not None and not request.is_eager:
        raise RuntimeError(
            "waiting for a task inside a task can block every worker for ever, since the awaited "
            "task needs a free one. Send the rest of the work as a task of its own; or, where "
            "that cannot happen, pass disable_sync_subtasks=False."
        )


class EagerResult(AsyncResult[R_co]):
    """The result of a task that ran in this process (`Task.apply`, ``task_always_eager``).

    Args:
        record: Its final record, which no broker has.
        attempts: What its runs came to.
        value: What it returned, as it is.
        error: What it raised, as it is.
    """

    __slots__ = ("_attempts", "_error_raised", "_final", "_returned")

    def __init__(
        self, app: RecordStore, record: Record, attempts: list[Attempt], value: Any,
        error: BaseException | None,
    ) -> None:  # fmt: skip
        super().__init__(record.id, app, record.task)
        self._final = record
        self._attempts = attempts
        self._returned = value
        self._error_raised = error

    @property
    def attempts(self) -> list[Attempt]:
        return self._attempts

    def revoke(self, terminate: bool = False, signal: str | None = None) -> None:
        """It has ended: there is nothing to revoke."""

    def forget(self) -> None:
        """There is no record to delete."""

    def _record(self) -> Record | None:
        return self._final

    def _value(self, record: Record) -> Any:
        return self._returned

    def _error(self, record: Record) -> Exception:
        if isinstance(self._error_raised, Exception):
            return self._error_raised
        return super()._error(record)

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"
