"""Running a task in the calling process: `Task.apply`, and every send while ``task_always_eager``.

It is the worker's own way through an attempt, with the same decisions, hooks and signals. Only the
waiting between attempts is left out, and time limits, which need a process that can be killed.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from acked.brokers.memory import MemoryBroker
from acked.clock import ManualClock
from acked.delivery import Settlement
from acked.execute import Attempt, prepare
from acked.message import Message
from acked.result import EagerResult, RecordStore
from acked.task import Task

MOST_ATTEMPTS = 1_000
"""A task that retries for ever would never give its caller an answer."""

_CONSUMER = "eager/0"


def run(app: RecordStore, task: Task[..., Any], message: Message) -> EagerResult[Any]:
    """Run *message* until it ends.

    Raises:
        RuntimeError: It asked to run again `MOST_ATTEMPTS` times.
    """
    # A broker of its own, whose clock moves on when the task waits.
    clock = ManualClock(now=app.clock.now())
    broker = MemoryBroker(clock)
    broker.send([message])
    attempt: Attempt | None = None
    for _ in range(MOST_ATTEMPTS):
        record = broker.get(message.id)
        assert record is not None, "this broker is nobody else's"
        if record.is_final:
            value, error = (attempt.value, attempt.raised) if attempt else (None, None)
            return EagerResult(app, record, broker.attempts(record.id), value, error)
        clock.advance(max(0.0, record.due - clock.now()))
        for held in broker.claim(_CONSUMER, [record.queue], 1).deliveries:
            ready = prepare(held, {task.name: task}, broker, _CONSUMER, now=app.clock.now())
            if isinstance(ready, Attempt):
                attempt = ready
                ready = _perform(attempt)
            broker.settle([ready])
    raise RuntimeError(
        f"{task.name} asked to run again {MOST_ATTEMPTS} times while it ran eagerly. Give it "
        "max_retries, or run it in a worker."
    )


def _perform(attempt: Attempt) -> Settlement:
    attempt.request.is_eager = True
    attempt.begin()
    try:
        value = attempt.call()
        if attempt.task.is_async:
            value = _wait_for(value)
    except KeyboardInterrupt:
        raise  # for this process, not for the task
    except BaseException as error:
        attempt.failed(error)
    else:
        attempt.returned(value)
    return attempt.finish()


def _wait_for(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run *coroutine* to its end, in a thread where this one's event loop is busy."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(context.run, asyncio.run, coroutine).result()
