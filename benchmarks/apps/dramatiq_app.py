"""Dramatiq as it comes, on Redis or RabbitMQ: late acknowledgement, no results.

On RabbitMQ with publisher confirms, which its documentation calls for where a message must not be
lost.
"""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker

from benchmarks.marks import mark

_URL = os.environ["BENCH_BROKER_URL"]

if _URL.startswith("amqp:"):
    dramatiq.set_broker(RabbitmqBroker(url=_URL, confirm_delivery=True))
else:
    dramatiq.set_broker(RedisBroker(url=_URL))


@dramatiq.actor
def noop(number: int) -> None:
    mark(number)


send = noop.send
