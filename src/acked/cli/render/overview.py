"""`acked status` as blocks."""

from __future__ import annotations

from datetime import datetime

from acked.cli.moments import distance, duration
from acked.cli.overview import Overview, QueueView, RunningView, WorkerView
from acked.cli.render.blocks import Block, Grid, Line
from acked.cli.render.task import progress_words
from acked.logs import short_id

RUNNING_ROWS = 20


def overview_blocks(seen: Overview, now: datetime) -> list[Block]:
    """*seen* for people."""
    running = seen.running[:RUNNING_ROWS]
    blocks: list[Block] = [
        Line(f"broker {seen.broker}"),
        Grid(
            "queues",
            (
                "queue", ">scheduled", ">queued", ">running", ">success", ">failure", ">revoked",
                ">oldest waiting", ">workers", "note",
            ),
            [_queue_row(queue) for queue in seen.queues],
            "no tasks yet",
        ),
        Grid(
            "workers",
            ("worker", "host", ">pid", "queues", ">processes", ">claimed", "started", "lease"),
            [_worker_row(worker, now) for worker in seen.workers],
            "none is running; start one with: acked worker MODULE:APP",
        ),
        Grid(
            "running",
            ("id", "task", "queue", "process", ">attempt", "for", "progress"),
            [_running_row(task, now) for task in running],
            "nothing",
        ),
    ]  # fmt: skip
    if (more := seen.running_total - len(running)) > 0:
        blocks.append(Line(f"... and {more} more running; see: acked list --state RUNNING"))
    return blocks


def _queue_row(queue: QueueView) -> tuple[str, ...]:
    oldest = "" if queue.oldest_seconds is None else duration(queue.oldest_seconds)
    counts = (
        queue.scheduled, queue.queued, queue.running, queue.success, queue.failure, queue.revoked,
    )  # fmt: skip
    return (
        queue.queue, *map(str, counts), oldest, str(queue.workers),
        "paused" if queue.paused else "",
    )  # fmt: skip


def _worker_row(worker: WorkerView, now: datetime) -> tuple[str, ...]:
    lease = f"{duration(worker.lease_left)} left" if worker.alive else "dead"
    return (
        worker.worker, worker.host, str(worker.pid), ",".join(worker.queues),
        str(worker.processes), str(worker.claimed), distance(worker.started, now), lease,
    )  # fmt: skip


def _running_row(task: RunningView, now: datetime) -> tuple[str, ...]:
    lasted = "" if task.since is None else duration(max(0.0, (now - task.since).total_seconds()))
    return (
        short_id(task.id), task.task, task.queue, task.process, str(task.attempt), lasted,
        progress_words(task.progress),
    )  # fmt: skip
