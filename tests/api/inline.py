"""A worker of one thread, in the test's own process: the worker's steps, one attempt at a time."""

from __future__ import annotations

import asyncio

from acked import Acked
from acked.clock import ManualClock
from acked.delivery import Settlement
from acked.execute import prepare
from acked.record import Record


def run_next(app: Acked, *, queue: str = "default") -> Settlement:
    """Claim one task that is due, run it, settle it."""
    (held,) = app.broker.claim("inline/0", [queue], 1).deliveries
    attempt = prepare(held, app.tasks, app.records, "inline/0", now=app.clock.now())
    if isinstance(attempt, Settlement):
        settlement = attempt
    else:
        attempt.begin()
        try:
            value = attempt.call()
            if attempt.task.is_async:
                value = asyncio.run(value)
        except BaseException as error:
            attempt.failed(error)
        else:
            attempt.returned(value)
        settlement = attempt.finish()
    assert app.broker.settle([settlement]) == []
    return settlement


def run_to_end(app: Acked, clock: ManualClock, task_id: str) -> Record:
    """Run attempts of the task, moving the clock on to each, until it has ended."""
    while True:
        record = record_of(app, task_id)
        if record.is_final:
            return record
        clock.advance(max(0.0, record.due - clock.now()))
        run_next(app, queue=record.queue)


def record_of(app: Acked, task_id: str) -> Record:
    record = app.records.get(task_id)
    assert record is not None
    return record
