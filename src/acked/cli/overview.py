"""The state of a broker as `acked status` shows it: queues, workers, what runs."""

from __future__ import annotations

from datetime import datetime

import msgspec

from acked.broker import Broker, Filter, QueueCounts, Records, WorkerRecord
from acked.cli.moments import moment
from acked.cli.story import ProgressView, progress_view
from acked.delivery import State
from acked.record import Record

RUNNING_SHOWN = 200
"""Running tasks that are read; the counts say how many there are."""


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """One queue.

    Args:
        oldest: Since when its longest-waiting task could have been running.
        workers: Live workers that consume it.
    """

    queue: str
    scheduled: int
    queued: int
    running: int
    success: int
    failure: int
    revoked: int
    oldest: datetime | None
    oldest_seconds: float | None
    paused: bool
    workers: int


class RunningView(msgspec.Struct, frozen=True, kw_only=True):
    """A task that runs now."""

    id: str
    task: str
    queue: str
    process: str
    attempt: int
    since: datetime | None
    progress: ProgressView | None


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """One worker. With `lease_left` (seconds) below 0 it counts as dead."""

    worker: str
    host: str
    pid: int
    started: datetime | None
    queues: tuple[str, ...]
    processes: int
    lease_left: float
    alive: bool
    claimed: int


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one moment."""

    broker: str
    at: datetime | None
    queues: list[QueueView]
    workers: list[WorkerView]
    running: list[RunningView]
    running_total: int


def overview(broker: Broker, records: Records, *, now: float) -> Overview:
    """Read it.

    Args:
        now: Wall-clock time in seconds.
    """
    workers = records.workers()
    queues = records.counts()
    running = records.search(Filter(states=(State.RUNNING,)), limit=RUNNING_SHOWN)
    return Overview(
        broker=broker.url,
        at=moment(now),
        queues=[_queue(queue, workers, now) for queue in queues],
        workers=[_worker(worker) for worker in workers],
        running=[_running(record) for record in running],
        running_total=sum(queue.running for queue in queues),
    )


def _queue(counts: QueueCounts, workers: list[WorkerRecord], now: float) -> QueueView:
    consumers = [each for each in workers if counts.queue in each.queues and each.lease_left >= 0]
    return QueueView(
        queue=counts.queue,
        scheduled=counts.scheduled,
        queued=counts.queued,
        running=counts.running,
        success=counts.success,
        failure=counts.failure,
        revoked=counts.revoked,
        oldest=moment(counts.oldest),
        oldest_seconds=None if counts.oldest is None else max(0.0, now - counts.oldest),
        paused=counts.paused,
        workers=len(consumers),
    )


def _worker(worker: WorkerRecord) -> WorkerView:
    return WorkerView(
        worker=worker.worker,
        host=worker.host,
        pid=worker.pid,
        started=moment(worker.started),
        queues=worker.queues,
        processes=worker.processes,
        lease_left=worker.lease_left,
        alive=worker.lease_left >= 0,
        claimed=worker.running,
    )


def _running(record: Record) -> RunningView:
    return RunningView(
        id=record.id,
        task=record.task,
        queue=record.queue,
        process=record.consumer,
        attempt=record.attempt,
        since=moment(record.claimed),
        progress=progress_view(record.progress),
    )
