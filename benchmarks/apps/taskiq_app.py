"""Taskiq on Redis streams, without results: of its Redis brokers the one that acknowledges."""

from __future__ import annotations

import os

from taskiq_redis import RedisStreamBroker

from benchmarks.marks import mark

broker = RedisStreamBroker(os.environ["BENCH_BROKER_URL"])
connect, close = broker.startup, broker.shutdown


@broker.task
async def noop(number: int) -> None:
    mark(number)


send = noop.kiq
