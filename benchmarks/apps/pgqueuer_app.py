"""PgQueuer with asyncpg, its quickest driver: durable tables, a log line kept for each job.

`python -m benchmarks.apps.pgqueuer_app BATCH` is one worker process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import asyncpg
import uvloop
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job

from benchmarks.marks import mark

_queries: list[Queries] = []


async def _driver() -> AsyncpgDriver:
    return AsyncpgDriver(await asyncpg.connect(os.environ["BENCH_BROKER_URL"]))


async def _worker() -> PgQueuer:
    queue = PgQueuer(await _driver())

    @queue.entrypoint("noop")
    async def noop(job: Job) -> None:
        assert job.payload is not None
        mark(int(job.payload))

    return queue


async def prepare() -> None:
    await Queries(await _driver()).install()


async def connect() -> None:
    _queries.append(Queries(await _driver()))


async def send(number: int) -> None:
    await _queries[0].enqueue("noop", b"%d" % number)


async def send_all(numbers: Sequence[int]) -> None:
    count = len(numbers)
    await _queries[0].enqueue(["noop"] * count, [b"%d" % number for number in numbers], [0] * count)


async def _run(batch_size: int) -> None:
    await (await _worker()).run(batch_size=batch_size)


if __name__ == "__main__":
    # What `pgq run` does, which as of 1.6.0 fails where it sets its log level; with uvloop, too.
    uvloop.run(_run(int(sys.argv[1])))
