"""The state of a broker as `acked status` shows it: queues, workers, what runs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import msgspec

from acked.broker import Broker, Filter, QueueCounts, Records, WorkerRecord
from acked.cli.finding import UNKNOWN_TASK
from acked.cli.processes import task_pids
from acked.delivery import State
from acked.moments import moment
from acked.record import Record
from acked.story import ProgressView, progress_view

UNKNOWN_LOOKED = 200
"""Scheduled tasks, the newest ones, of which those are counted that no worker knows."""

RUNNING_SHOWN = 200
"""Running tasks that are read; the counts say how many there are."""


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """One queue.

    Args:
        oldest: Since when its longest-waiting task could have been running.
        workers: Live workers that consume it.
        unknown: Tasks that no worker knows, among the newest scheduled ones of all queues.
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
    unknown: int


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
    """One worker. With `lease_left` (seconds) below 0 it counts as dead.

    Args:
        pid: Of its supervisor.
        task_pids: Of the processes that run its tasks, where it is on this host.
    """

    worker: str
    host: str
    pid: int
    started: datetime | None
    queues: tuple[str, ...]
    processes: int
    lease_left: float
    alive: bool
    claimed: int
    task_pids: list[int]


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
    unknown: Counter[str] = Counter()
    if any(queue.scheduled for queue in queues):
        scheduled = records.search(Filter(states=(State.SCHEDULED,)), limit=UNKNOWN_LOOKED)
        unknown.update(each.queue for each in scheduled if each.reason.startswith(UNKNOWN_TASK))
    return Overview(
        broker=broker.url,
        at=moment(now),
        queues=[_queue(queue, workers, unknown[queue.queue], now) for queue in queues],
        workers=[_worker(worker) for worker in workers],
        running=[_running(record) for record in running],
        running_total=sum(queue.running for queue in queues),
    )


def _queue(counts: QueueCounts, workers: list[WorkerRecord], unknown: int, now: float) -> QueueView:
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
        unknown=unknown,
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
        task_pids=task_pids(worker),
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
