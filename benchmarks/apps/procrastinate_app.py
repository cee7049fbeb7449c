"""Procrastinate with psycopg: finished jobs stay, with an event for each of their states."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks.marks import mark

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_BROKER_URL"]))


@app.task(name="noop")
async def noop(number: int) -> None:
    mark(number)


async def prepare() -> None:
    await app.open_async()
    await app.schema_manager.apply_schema_async()
    await app.close_async()


async def connect() -> None:
    await app.open_async()


async def close() -> None:
    await app.close_async()


async def send(number: int) -> None:
    await noop.defer_async(number=number)


async def send_all(numbers: Sequence[int]) -> None:
    await noop.batch_defer_async(*(dict[str, Any](number=number) for number in numbers))
