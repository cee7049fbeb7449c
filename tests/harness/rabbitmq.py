"""What a test does with RabbitMQ and a ledger behind it, past the interface, too."""

from __future__ import annotations

import time
from typing import Protocol

from acked.brokers.rabbitmq import RabbitMQBroker
from acked.brokers.rabbitmq.outgoing import Outgoing
from acked.clock import Clock
from acked.delivery import Delivery
from acked.errors import BrokerError
from acked.message import encode
from acked.testing.timeline import message
from tests.harness.workers import until

PATIENCE = 20.0


class Opener(Protocol):
    """Makes brokers of one place, which end with the test."""

    def __call__(self, clock: Clock | None = None, *, timeout: float = 10.0) -> RabbitMQBroker: ...


def claim(broker: RabbitMQBroker, count: int, consumer: str = "w1/0") -> list[Delivery]:
    """Claim *count* tasks, which come."""
    held: list[Delivery] = []
    deadline = time.monotonic() + PATIENCE
    while len(held) < count:
        assert time.monotonic() < deadline, f"{len(held)} of {count} tasks came"
        held += broker.claim(consumer, ["default"], count - len(held)).deliveries
    return held


def nothing_comes(broker: RabbitMQBroker, consumer: str = "w1/0") -> bool:
    """Whether a few claims give nothing: each waits for what RabbitMQ says it has."""
    return all(not broker.claim(consumer, ["default"], 10).deliveries for _ in range(3))


def publish(broker: RabbitMQBroker, *task_ids: str) -> None:
    """Messages of those tasks, past the ledger."""
    each = [Outgoing.of_message(message(i), encode(message(i)), time.time()) for i in task_ids]
    with broker._sessions.use() as session:
        session.ask(session.publisher.publish(each))


def reap(broker: RabbitMQBroker) -> None:
    """Look for tasks without a message, through to the end."""
    broker._lost._next_look = 0.0
    broker.reap(by="w1/0")
    until(lambda: broker._lost._heads is None or broker._lost._heads.done(), "the heads")
    broker.reap(by="w1/0")


def can_send(broker: RabbitMQBroker, queue: str = "default") -> bool:
    """Whether a message to *queue* is taken."""
    try:
        broker.send([message(f"probe-{time.monotonic()}", queue=queue)])
    except BrokerError:
        return False
    return True
