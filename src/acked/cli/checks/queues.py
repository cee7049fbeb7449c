"""Checks of what waits, and whether anybody will run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from acked.broker import QueueCounts, Records, WorkerRecord
from acked.cli.checks.finding import Finding, fail, info, ok, warn
from acked.cli.finding import UNKNOWN_HINT, UNKNOWN_TASK, Query, find
from acked.cli.wording import counted, few
from acked.delivery import WAITING
from acked.moments import duration

LOOKED_THROUGH = 5_000
"""Waiting tasks, the newest ones, that are looked through for unknown names."""


def check_workers(
    workers: Sequence[WorkerRecord], queues: Sequence[QueueCounts], *, now: float
) -> Iterator[Finding]:
    """Whether a live worker consumes every queue in which tasks wait."""
    alive = [worker for worker in workers if worker.lease_left >= 0]
    consumed = {queue for worker in alive for queue in worker.queues}
    if alive:
        yield ok("workers", f"{len(alive)} alive")
    else:
        yield info("workers", "none is running; start one with: acked worker MODULE:APP")
    if dead := [worker.worker for worker in workers if worker.lease_left < 0]:
        yield warn(
            "workers",
            f"{few(dead)}: died, and no other worker has taken over what was running there",
            "start a worker: it does so at once",
        )
    for queue in queues:
        if not queue.queued:
            continue
        since = (
            "" if queue.oldest is None else f", the oldest {duration(max(0.0, now - queue.oldest))}"
        )
        tasks = counted(queue.queued, "task", "waiting")
        if queue.paused:
            yield warn(
                "queues",
                f"{queue.queue!r} is paused, with {tasks}{since}",
                f"acked resume {queue.queue}",
            )
        elif queue.queue not in consumed:
            yield fail(
                "queues",
                f"no worker consumes {queue.queue!r}: {tasks}{since}",
                f"acked worker MODULE:APP -Q {queue.queue}",
            )
        else:
            yield ok("queues", f"{queue.queue!r}: {tasks}{since}")


def check_routes(
    routes: Mapping[str, Sequence[str]], workers: Sequence[WorkerRecord]
) -> Iterator[Finding]:
    """Whether the live workers consume every queue that tasks are sent to.

    Args:
        routes: Queue -> the tasks that name it.
    """
    alive = [worker for worker in workers if worker.lease_left >= 0]
    if not alive:
        return
    consumed = {queue for worker in alive for queue in worker.queues}
    for queue, names in sorted(routes.items()):
        if queue not in consumed:
            yield warn(
                "routes",
                f"{few(sorted(names))}: sent to queue {queue!r}, which no running worker consumes",
                f"add it: acked worker MODULE:APP -Q {','.join(sorted(consumed | {queue}))}",
            )


def check_unknown(records: Records) -> Iterator[Finding]:
    """Whether tasks wait that no worker knows."""
    names: dict[str, int] = {}
    query = Query(states=tuple(state.value for state in WAITING))
    for looked, record in enumerate(find(records, query)):
        if looked >= LOOKED_THROUGH:
            break
        if record.reason.startswith(UNKNOWN_TASK):
            names[record.task] = names.get(record.task, 0) + 1
    if names:
        listed = few([f"{name} ({count})" for name, count in sorted(names.items())])
        yield warn(
            "unknown tasks",
            f"put off since no worker knows them: {listed}",
            f"start a worker whose app has them ({UNKNOWN_HINT}), or discard them",
        )
