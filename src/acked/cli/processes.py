"""The processes of this host's workers, so that one can look at the right one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from acked.broker import Records, WorkerRecord, worker_of
from acked.delivery import State
from acked.record import Record
from acked.worker import template

PROC = Path("/proc")


def task_pids(worker: WorkerRecord) -> list[int]:
    """The process ids of those that run the tasks of *worker*, in order.

    Empty where the worker counts as dead, is on another host, or cannot be looked at. Which of them
    runs which task is not to be told from outside.
    """
    if worker.lease_left < 0 or worker.host != socket.gethostname():
        return []
    return sorted(
        pid
        for server in _children(worker.pid)
        if _is_forked_server(server)
        for pid in _children(server)
        # What a dead task process leaves behind becomes a child of the fork server as well; a task
        # process alone leads a group.
        if _is_forked_server(pid) and _leads_group(pid)
    )


def pids_running(records: Records, record: Record) -> list[int]:
    """Of the task processes of the worker that runs *record*, one of which it is."""
    if record.state is not State.RUNNING:
        return []
    holder = worker_of(record.consumer)
    return [pid for each in records.workers() if each.worker == holder for pid in task_pids(each)]


def _children(pid: int) -> list[int]:
    """Those of every thread of *pid*; none where it is gone."""
    found: list[int] = []
    try:
        for thread in (PROC / str(pid) / "task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:
        return found
    return found


def _is_forked_server(pid: int) -> bool:
    """Whether *pid* is a fork server, or forked off one: those have the same command line."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return template.__name__.encode() in words


def _leads_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except OSError:
        return False
