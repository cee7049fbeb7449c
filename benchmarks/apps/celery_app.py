"""Celery as it comes: prefork, early acknowledgement; results where a place is given for them."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.marks import mark

app = Celery(
    "benchmarks.apps.celery_app",
    broker=os.environ["BENCH_BROKER_URL"],
    backend=os.environ.get("BENCH_RESULTS_URL"),
)


@app.task  # type: ignore[untyped-decorator]  # it ships no types
def noop(number: int) -> int:
    mark(number)
    return number


send = noop.delay
