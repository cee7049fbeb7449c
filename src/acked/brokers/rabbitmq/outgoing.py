"""The AMQP message of a task.

It names the task in its ``message_id`` and carries the message of acked as its body. What happens
is decided by the ledger's record alone; the body is there for people, should the ledger be lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Self

import msgspec

from acked.brokers.rabbitmq.topology import again, delay, has_lines, line
from acked.delivery import State
from acked.message import PRIORITIES, Message
from acked.record import Record

logger = logging.getLogger("acked.broker")

PRIORITY = "priority"
"""Header that tells the priority apart from the others of its band; 0 is left out."""

LONG_ID = "id"
"""Header that names the task where its id has no room in ``message_id``."""

LONG_AGO = 0.1
"""Seconds after which a task has waited before; what is newer takes its place at the end."""

SHORT = 255
"""Bytes that AMQP has for a property."""


LONGEST_ID = 64 * 1024
"""Bytes that a header has for an id: all headers of a message go in one frame, which RabbitMQ
bounds at 128 KiB. It closes the connection of who sends more."""


def has_room(task_id: str) -> bool:
    """Whether a message can name the task. acked sends no id that is so long."""
    return len(task_id) * 4 <= LONGEST_ID or len(task_id.encode(errors="replace")) <= LONGEST_ID


class Outgoing(msgspec.Struct, frozen=True):
    """A message to publish.

    Args:
        task_id: The task it belongs to.
        body: Its body.
        line: The line it is for.
        ready: Wall-clock seconds from which it is in its line: when it was sent, or is due.
        priority: Of the task.
        delay: The delay it goes through first; empty for none.
    """

    task_id: str
    body: bytes
    line: str
    ready: float
    priority: int = 0
    delay: str = ""

    @classmethod
    def of_message(cls, message: Message, body: bytes, now: float) -> Self:
        """For a message that was just sent."""
        due = max(message.eta or now, now)
        return cls.due_at(message.id, body, message.queue, message.priority, due, now)

    @classmethod
    def of_record(cls, record: Record, now: float) -> Self:
        """For a task that waits."""
        if record.state is State.SCHEDULED:
            due = max(record.due, now)
            return cls.due_at(record.id, record.body, record.queue, record.priority, due, now)
        # What is QUEUED may run, even if the clock was set back since it was due.
        has_waited = record.due < now - LONG_AGO
        place = again(record.queue) if has_waited else line(record.queue, record.priority)
        return cls(record.id, record.body, place, record.due, record.priority)

    @classmethod
    def due_at(
        cls, task_id: str, body: bytes, queue: str, priority: int, due: float, now: float
    ) -> Self:
        """For a task that waits in *queue*, until *due* if that is in the future."""
        later = delay(due - now) if due > now else ""
        return cls(task_id, body, line(queue, priority), due, priority, later)

    def put_off(self, due: float, now: float) -> Self:
        """The same once more, since it came before *due*."""
        return msgspec.structs.replace(self, ready=due, delay=delay(due - now))

    @property
    def goes_to(self) -> str:
        """The queue that it is published to."""
        return self.delay or self.line

    @property
    def places(self) -> tuple[str, ...]:
        """The queues that must be there."""
        return (self.line, self.delay) if self.delay else (self.line,)

    @property
    def name(self) -> str | None:
        """The ``message_id``, where the task's id fits there."""
        return self.task_id if _is_short(self.task_id) else None

    @property
    def headers(self) -> dict[str, Any] | None:
        """The AMQP headers."""
        headers: dict[str, Any] = {PRIORITY: self.priority} if self.priority else {}
        if not _is_short(self.task_id):
            headers[LONG_ID] = self.task_id
        return headers or None


class Misfits:
    """Tasks for which RabbitMQ has no message, since their name or their queue's is too long. They
    were sent through another broker that has the same ledger, and wait for its workers."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def without(self, records: Iterable[Record]) -> list[Record]:
        """Those of *records* that are none. The first of each queue is logged."""
        fit: list[Record] = []
        for record in records:
            if has_room(record.id) and has_lines(record.queue):
                fit.append(record)
            elif record.queue not in self._told:
                self._told.add(record.queue)
                logger.warning(
                    "RabbitMQ has no room for the name of the task %.80r or of its queue %.80r; "
                    "no message is sent for it", record.id, record.queue,
                )  # fmt: skip
        return fit


def task_of(properties: Any) -> str:
    """The task that a message with these AMQP properties belongs to."""
    return str(properties.message_id or (properties.headers or {}).get(LONG_ID, ""))


def priority_of(properties: Any) -> int:
    """The priority that a message with these AMQP properties has. Anybody who may publish can
    write anything there: what is none counts as 0."""
    priority = (properties.headers or {}).get(PRIORITY, 0)
    return priority if isinstance(priority, int) and priority in PRIORITIES else 0


def _is_short(text: str) -> bool:
    return len(text) <= SHORT // 4 or len(text.encode()) <= SHORT
