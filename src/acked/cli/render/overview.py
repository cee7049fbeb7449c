"""`acked status` as blocks."""

from __future__ import annotations

from datetime import datetime

from acked.cli.overview import Overview, QueueView, RunningView, WorkerView
from acked.cli.render.blocks import Block, Grid, Line
from acked.cli.render.task import progress_words
from acked.cli.wording import counted
from acked.logs import short_id
from acked.moments import duration

RUNNING_ROWS = 20


def overview_blocks(seen: Overview, now: datetime) -> list[Block]:
    """*seen* for people."""
    running = seen.running[:RUNNING_ROWS]
    blocks: list[Block] = [
        Line(f"broker {seen.broker}"),
        Grid(
            "queues",
            (
                "queue", ">sched", ">wait", ">run", ">ok", ">failed", ">revoked", ">oldest",
                ">workers", "note",
            ),
            [_queue_row(queue) for queue in seen.queues],
            "no tasks yet",
            prose=True,
            sparse=frozenset({">sched", ">failed", ">revoked"}),
        ),
        Grid(
            "workers",
            ("worker", ">pid", "queues", ">procs", ">claimed", ">up", ">lease", "task pids"),
            [_worker_row(worker, now) for worker in seen.workers],
            "none is running; start one with: acked worker MODULE:APP",
            prose=True,
        ),
        Grid(
            "running",
            ("id", "task", "process", ">try", ">for", "progress"),
            [_running_row(task, now) for task in running],
            "",
            prose=True,
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
        queue.queue, *map(str, counts), oldest, str(queue.workers), "; ".join(_notes(queue)),
    )  # fmt: skip


def _notes(queue: QueueView) -> list[str]:
    notes = ["paused"] if queue.paused else []
    if queue.unknown:
        notes.append(f"{counted(queue.unknown, 'task')} no worker knows; see acked list")
    return notes


def _worker_row(worker: WorkerView, now: datetime) -> tuple[str, ...]:
    up = "" if worker.started is None else duration(_since(worker.started, now))
    return (
        worker.worker, str(worker.pid), ",".join(worker.queues), str(worker.processes),
        str(worker.claimed), up, duration(worker.lease_left) if worker.alive else "dead",
        " ".join(map(str, worker.task_pids)),
    )  # fmt: skip


def _running_row(task: RunningView, now: datetime) -> tuple[str, ...]:
    lasted = "" if task.since is None else duration(_since(task.since, now))
    return (
        short_id(task.id), task.task, task.process, str(task.attempt), lasted,
        progress_words(task.progress),
    )  # fmt: skip


def _since(at: datetime, now: datetime) -> float:
    return max(0.0, (now - at).total_seconds())
