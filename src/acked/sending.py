"""From a call to its message: what tasks and applications share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from acked.broker import Records
from acked.clock import Clock
from acked.config import Settings
from acked.message import Message, new_ids
from acked.request import current
from acked.result import AsyncResult

R = TypeVar("R")
Raw = msgspec.Raw


class Application(Protocol):
    """What a task needs of its application."""

    @property
    def settings(self) -> Settings: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def records(self) -> Records: ...

    def publish(self, messages: Sequence[Message]) -> None:
        """Store *messages*: all or none, durable when it returns."""
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
