"""What has arrived and waits to be claimed."""

from __future__ import annotations

import time

import msgspec

from acked.brokers.rabbitmq.outgoing import Outgoing


class Ticket(msgspec.Struct, frozen=True, order=True):
    """A message that has arrived. They sort as they are to be claimed.

    Args:
        before: The priority, negated.
        ready: Since when it has been in its line.
        tag: RabbitMQ's number for it on `link`.
        message: What it says.
        link: Which link brought it: tags of another mean nothing.
    """

    before: int
    ready: float
    tag: int
    message: Outgoing
    link: int


class Shelf:
    """What has arrived of one queue."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.tickets: list[Ticket] = []
        self.touched = time.monotonic()
        self.waiters = 0
        self.prefetch = 0
        self.shut_until = 0.0
        self.failures = 0
        self.consumers: list[str] = []
