"""RabbitMQ's own limit for one consumer: a quorum queue, py-amqp, one acknowledgement a batch.

No ledger: nothing is kept of a message once it is acknowledged.
"""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import amqp

from benchmarks.engines import BATCH

_QUEUE = "engine"
_SEEDED_AT_ONCE = 1_000
_EMPTY_SECONDS = 1.0


def _connect(url: str) -> Any:
    parts = urlsplit(url)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port}", userid=parts.username, password=parts.password,
        virtual_host=parts.path[1:],
    )  # fmt: skip
    connection.connect()
    return connection


def _declare(channel: Any) -> None:
    channel.queue_declare(
        _QUEUE, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
    )


class SerialWrites:
    """One persistent message at a time, each confirmed before the next."""

    def __init__(self, row_bytes: int) -> None:
        self._connection = _connect(os.environ["BENCH_BROKER_URL"])
        self._channel = self._connection.channel()
        self._channel.confirm_select()
        _declare(self._channel)
        self._message = amqp.Message(b"x" * row_bytes, delivery_mode=2)
        self._confirmed = 0
        self._channel.events["basic_ack"].add(self._count)

    def write(self) -> None:
        """Publish one message; confirmed by the quorum queue when it returns."""
        wanted = self._confirmed + 1
        self._channel.basic_publish(self._message, routing_key=_QUEUE)
        while self._confirmed < wanted:
            self._connection.drain_events()

    def _count(self, tag: int, multiple: bool) -> None:
        self._confirmed = tag

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._connection.close()


class HandOver:
    """A quorum queue, confirms on one side, acknowledgements on the other."""

    def __init__(self, url: str) -> None:
        self._connection = _connect(url)
        self._channel = self._connection.channel()
        self._channel.confirm_select()
        _declare(self._channel)
        self._confirmed = self._sent = 0
        self._taken: list[int] = []
        self._channel.events["basic_ack"].add(self._count)

    def send(self, number: int) -> None:
        self._sent += 1
        message = amqp.Message(b"%d" % number, delivery_mode=2)
        self._channel.basic_publish(message, routing_key=_QUEUE)
        while self._confirmed < self._sent:
            self._connection.drain_events()

    def wait(self) -> None:
        self._channel.basic_consume(_QUEUE, callback=self._take)

    def take(self) -> int:
        while not self._taken:
            self._connection.drain_events()
        return self._taken.pop(0)

    def _count(self, tag: int, multiple: bool) -> None:
        self._confirmed = tag

    def _take(self, message: Any) -> None:
        self._taken.append(int(message.body))
        self._channel.basic_ack(message.delivery_tag)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._connection.close()


def seed(url: str, *, count: int, row_bytes: int) -> None:
    """*count* messages to drain, each on disk."""
    connection = _connect(url)
    channel = connection.channel()
    channel.confirm_select()
    _declare(channel)
    message = amqp.Message(b"x" * row_bytes, delivery_mode=2)
    open_tags: set[int] = set()

    def confirmed(tag: int, multiple: bool) -> None:
        gone = {one for one in open_tags if one <= tag} if multiple else {tag}
        open_tags.difference_update(gone)

    channel.events["basic_ack"].add(confirmed)
    for number in range(1, count + 1):
        open_tags.add(number)
        channel.basic_publish(message, routing_key=_QUEUE)
        while len(open_tags) >= (1 if number == count else _SEEDED_AT_ONCE):
            connection.drain_events()
    connection.close()


def drain(url: str, *, start_at_ns: int) -> dict[str, int]:
    """Consume, and acknowledge a batch at once, until nothing has come for a second.

    Args:
        start_at_ns: Begin at this moment of `time.monotonic_ns`, so that processes start together.
    """
    connection = _connect(url)
    channel = connection.channel()
    # Two batches: the next is under way while one is acknowledged.
    channel.basic_qos(0, 2 * BATCH, False)
    done = 0
    tag = 0

    def take(message: Any) -> None:
        nonlocal done, tag
        done += 1
        tag = message.delivery_tag
        if done % BATCH == 0:
            channel.basic_ack(tag, multiple=True)

    time.sleep(max(0.0, (start_at_ns - time.monotonic_ns()) / 1e9))
    began = ended = time.monotonic_ns()
    channel.basic_consume(_QUEUE, callback=take)
    while True:
        try:
            connection.drain_events(timeout=_EMPTY_SECONDS)
        except TimeoutError:
            break
        ended = time.monotonic_ns()
    if done % BATCH:
        channel.basic_ack(tag, multiple=True)
    connection.close()
    return {"done": done, "began": began, "ended": ended}
