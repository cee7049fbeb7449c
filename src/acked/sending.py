"""From a call to its message: what tasks and applications share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from acked import signals
from acked.config import Settings
from acked.errors import BrokerError
from acked.message import Message, decode_arguments, new_ids
from acked.request import current
from acked.result import AsyncResult, RecordStore

R = TypeVar("R")
Raw = msgspec.Raw

AT_ONCE = 5_000
"""Messages of one call that are one durable write. More would keep others waiting for seconds, and
take longer than one send may on a slow broker."""


class Application(RecordStore, Protocol):
    """What a task needs of its application."""

    @property
    def settings(self) -> Settings: ...

    @property
    def is_open(self) -> bool: ...

    def open(self) -> None:
        """Open the broker now; nothing when it is open."""
        ...

    def publish(self, messages: Sequence[Message], *, using: object = None) -> None:
        """Store *messages*: all or none, durable when it returns; or, with a connection in
        *using*, inside the transaction that is open on it."""
        ...

    async def apublish(self, messages: Sequence[Message]) -> None:
        """`publish` for coroutines."""
        ...

    def run_eagerly(self, task: Any, message: Message) -> AsyncResult[Any]:
        """Run *message* here and now."""
        ...


def make_messages(
    task: str, pairs: Sequence[tuple[bytes, bytes]], *, queue: str, priority: int, now: float,
    fields: Mapping[str, Any],
) -> list[Message]:  # fmt: skip
    """The messages of some calls, sent by the task that runs here, if one does.

    Args:
        task: Its name.
        pairs: The arguments of each call, a JSON array and a JSON object.
        queue, priority: The task's own.
        now: Wall-clock time, seconds.
        fields: Further fields of each message, which win.
    """
    sender = current.get().sender
    common: dict[str, Any] = {"task": task, "queue": queue, "priority": priority, "sent": now}
    if sender is not None:
        common.update(parent_id=sender.id, root_id=sender.root_id or sender.id)
    if fields:
        common.update(fields)
        if "id" in fields:
            return [Message(args=Raw(args), kwargs=Raw(kwargs), **common) for args, kwargs in pairs]
    ids = new_ids(len(pairs))
    return [
        Message(id=new, args=Raw(args), kwargs=Raw(kwargs), **common)
        for new, (args, kwargs) in zip(ids, pairs, strict=True)
    ]


def publish_in_parts(
    app: Application, parts: Iterable[Sequence[Message]], *, using: object = None
) -> list[str]:
    """Publish each of *parts* in one durable write, and with *using* all of them together; the ids
    of all.

    Raises:
        BrokerError: As `Application.publish`; `stored_ids` has those of the parts before.
    """
    if using is not None:
        # A transaction has all or none, and whether one is open is for the broker to see.
        parts = [[each for part in parts for each in part]]
    sent: list[str] = []
    for part in parts:
        try:
            app.publish(part, using=using)
        except BrokerError as error:
            if sent:
                raise error.after(sent) from error
            raise
        sent += [each.id for each in part]
    return sent


def named(messages: Sequence[Message]) -> str:
    """Which calls they are, for an error about them."""
    if not messages:
        return "no task"
    first = f"{messages[0].task}[{messages[0].id}]"
    return first if len(messages) == 1 else f"{first} and {len(messages) - 1} more"


def as_celery_tells(message: Message) -> dict[str, Any]:
    """What Celery's publish signals say about *message*."""
    args, kwargs = decode_arguments(message)
    return {
        "body": (args, kwargs, {}),
        "exchange": "",
        "routing_key": message.queue,
        "headers": {
            **message.headers, "id": message.id, "task": message.task,
            "root_id": message.root_id or message.id, "parent_id": message.parent_id,
        },
        "properties": {"correlation_id": message.id, "priority": message.priority},
        "declare": [],
        "retry_policy": {},
    }  # fmt: skip


def announce(message: Message) -> Message:
    """Tell that *message* is about to be sent; headers that a receiver adds go along."""
    told = as_celery_tells(message)
    signals.before_task_publish.send(message.task, **told)
    own = {"id", "task", "root_id", "parent_id"}
    headers = {name: value for name, value in told["headers"].items() if name not in own}
    if headers == message.headers:
        return message
    return msgspec.structs.replace(message, headers=headers)
