"""What a running task knows about its own run: `self.request` (Celery's Context).

A request is made for each attempt and found through `current`, so that nothing about one run is
ever kept on the task object.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from contextvars import ContextVar
from typing import Any

from acked.broker import Records
from acked.delivery import Delivery
from acked.errors import MessageUnreadable
from acked.message import Message, decode_arguments
from acked.outcome import RetryAsked, TaskPolicy
from acked.record import Progress
from acked.reporting import Line
from acked.tasklog import LogLines

_DEFAULT_POLICY = TaskPolicy()


class Request:
    """One attempt of one task.

    Made without a message it stands for a direct call, ``scan(data)``: `called_directly` is true
    and `id` is None.

    Args:
        message, delivery, policy: What is run, which claim of it, by which rules.
        records: Where progress and checkpoints go; None keeps them in this object.
        args, kwargs: The arguments as the function gets them.
        hostname: Which process of which worker runs it.
        is_eager: It runs in the calling process (`Task.apply`).
        sender: The message whose task sends what is sent from here; a direct call inside a
            running task passes it on.

    Attributes:
        retry_asked: Set by `Task.retry`, even when the `Retry` it raises is swallowed.
        own_state: The latest `Task.update_state`.
        progress: The latest report of any kind.
        checkpoint: JSON of the latest `Task.save` of this attempt.
        lines: What it has logged; None while that is nothing.
    """

    __slots__ = (
        "_line", "args", "checkpoint", "delivery", "entering", "hostname", "is_eager", "kwargs",
        "lines", "message", "own_state", "policy", "progress", "records", "retry_asked", "sender",
    )  # fmt: skip

    def __init__(
        self,
        *,
        message: Message | None = None,
        delivery: Delivery | None = None,
        policy: TaskPolicy = _DEFAULT_POLICY,
        records: Records | None = None,
        args: list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        hostname: str | None = None,
        is_eager: bool = False,
        sender: Message | None = None,
    ) -> None:
        self.message = message
        self.delivery = delivery
        self.policy = policy
        self.records = records
        self.args: list[Any] = [] if args is None else args
        self.kwargs: dict[str, Any] = {} if kwargs is None else kwargs
        self.hostname = hostname
        self.is_eager = is_eager
        self.sender = message if message is not None else sender
        self.retry_asked: RetryAsked | None = None
        self.own_state: Progress | None = None
        self.progress: Progress | None = None
        self.checkpoint: bytes | None = None
        self.lines: LogLines | None = None
        self.entering = False
        self._line: Line | None = None

    @classmethod
    def from_afar(
        cls, held: Delivery, message: Message, policy: TaskPolicy, consumer: str
    ) -> Request:
        """That of an attempt that does not run here, for those who are told of it; its arguments
        are as they were sent, and what is written to it stays in it."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        with contextlib.suppress(MessageUnreadable):
            args, kwargs = decode_arguments(message)
        return cls(
            message=message, delivery=held, policy=policy, args=args, kwargs=kwargs,
            hostname=consumer,
        )  # fmt: skip

    # -- who and what ------------------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        return self.message.id if self.message else None

    @property
    def task(self) -> str | None:
        """The task's registered name."""
        return self.message.task if self.message else None

    @property
    def called_directly(self) -> bool:
        """The function was called as a function: there is no message, and nothing to retry."""
        return self.message is None

    @property
    def root_id(self) -> str | None:
        """The first task of the line that led here; this one's own id if it is the first."""
        return (self.message.root_id or self.message.id) if self.message else None

    @property
    def parent_id(self) -> str | None:
        """The task that sent this one."""
        return self.message.parent_id if self.message else None

    @property
    def correlation_id(self) -> str | None:
        return self.id

    @property
    def headers(self) -> dict[str, Any]:
        """The caller's own data: ``apply_async(headers=...)``."""
        return self.message.headers if self.message else {}

    @property
    def origin(self) -> str:
        """This process, ``pid@host``."""
        return f"{os.getpid()}@{socket.gethostname()}"

    # -- how often ---------------------------------------------------------------------------------

    @property
    def retries(self) -> int:
        """Retries behind this attempt; 0 in the first."""
        return self.delivery.retries if self.delivery else 0

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self.delivery.attempt if self.delivery else 1

    @property
    def losses(self) -> int:
        """Attempts that ended with their worker."""
        return self.delivery.losses if self.delivery else 0

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Celery's: the queue is ``routing_key``; ``redelivered`` says that an earlier delivery
        was lost or put back, which a retry is not."""
        return {
            "exchange": "",
            "routing_key": self.message.queue if self.message else None,
            "priority": self.message.priority if self.message else None,
            "redelivered": self.delivery is not None and self.delivery.runs > self.retries,
        }

    # -- under which rules -------------------------------------------------------------------------

    @property
    def eta(self) -> str | None:
        """When it was to start at the earliest, in ISO 8601, UTC."""
        return _iso(self.message.eta) if self.message else None

    @property
    def expires(self) -> str | None:
        """After when it would not have been started, in ISO 8601, UTC."""
        return _iso(self.message.expires) if self.message else None

    @property
    def timelimit(self) -> tuple[float | None, float | None]:
        """Hard and soft limit of this attempt in seconds; None is no limit."""
        return self.policy.time_limit, self.policy.soft_time_limit

    @property
    def ignore_result(self) -> bool:
        return self.policy.ignore_result

    # -- Celery's workflow fields: there are no workflows yet --------------------------------------

    group = chord = chain = callbacks = errbacks = children = reply_to = None

    # -- what it says about itself -----------------------------------------------------------------

    def report(self, progress: Progress) -> None:
        """Make *progress* the latest thing said; it is written soon, from another thread."""
        self.progress = progress
        if self.records is None or self.delivery is None:
            return
        if self._line is None:
            self._line = Line(self.records, self.delivery.id, self.delivery.token)
        self._line.put(progress)

    def flush_progress(self) -> None:
        """Write what `report` has not written yet. The worker calls it before it settles."""
        if self._line is not None:
            self._line.flush()

    def __repr__(self) -> str:
        if self.message is None:
            return "<Request: called directly>"
        return f"<Request: {self.message.task}[{self.message.id}] attempt {self.attempt}>"


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat()


DIRECT = Request()
"""What `self.request` is outside of any run."""

current: ContextVar[Request] = ContextVar("acked_request", default=DIRECT)
"""The attempt that runs in this thread or coroutine."""
