"""What `acked worker` is started with."""

from __future__ import annotations

import os

import msgspec


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker runs. Names are those of Celery's worker options where it has them.

    Args:
        queues: What to consume, earlier ones first; none stands for the app's default queue.
        concurrency: Task processes.
        threads: Threads in each process for synchronous tasks; 0 runs them in its main thread,
            one at a time.
        coroutines: How many `async def` tasks run at once in each process.
        grace: Seconds that running tasks are given at a stop, before they are interrupted and put
            back in the queue.
        max_tasks_per_child: Tasks after which a process is replaced.
        max_memory_per_child: Resident memory in KiB above which a process is replaced, between
            tasks.
        loglevel: Of `logging`, by name.
        log_format: ``text`` or ``json``.
        hostname: Names the worker; the host's name otherwise.
        burst: Stop once the queues are empty.
    """

    queues: tuple[str, ...] = ()
    concurrency: int = msgspec.field(default_factory=lambda: os.cpu_count() or 1)
    threads: int = 0
    coroutines: int = 100
    grace: float = 25.0
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    loglevel: str = "WARNING"
    log_format: str = "text"
    hostname: str | None = None
    burst: bool = False
