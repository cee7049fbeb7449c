"""Writing what running tasks say of themselves, from one thread of the process.

A task that reports never waits for a disk and never sees an error of the broker: `Line.put` keeps
the latest report, and the thread writes it, at most one per task and interval. Whatever is left is
written by `Line.flush` before the attempt is settled.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from acked.broker import Records
from acked.errors import AckedError
from acked.progress import Throttle
from acked.record import Progress

logger = logging.getLogger("acked.progress")


class Line:
    """The reports of one attempt.

    Args:
        records: Where they are written.
        task_id, token: Whose they are; with a stale token the broker refuses them.
    """

    __slots__ = ("_latest", "_records", "_task_id", "_throttle", "_token", "_writing")

    def __init__(self, records: Records, task_id: str, token: int) -> None:
        self._records = records
        self._task_id = task_id
        self._token = token
        self._latest: Progress | None = None
        self._throttle = Throttle()
        self._writing = threading.Lock()

    def put(self, progress: Progress) -> None:
        """Keep *progress*, to be written soon; it replaces one that was not written yet."""
        waiting = self._latest is not None
        self._latest = progress
        if not waiting:
            _writer.add(self)

    def wait(self, now: float) -> float:
        """Seconds until this line may be written again."""
        return self._throttle.wait(now)

    def flush(self) -> None:
        """Write what is left, if anything is. Never raises for the broker."""
        # The lock is held while writing, so that an older report cannot overtake a newer one
        # and nothing is under way any more when this returns.
        with self._writing:
            progress, self._latest = self._latest, None
            if progress is None:
                return
            self._throttle.wrote(time.monotonic())
            try:
                self._records.report(self._task_id, self._token, progress)
            except AckedError as error:
                logger.warning("progress of %s could not be written: %s", self._task_id, error)


class _Writer:
    """The thread, started with the first report."""

    def __init__(self) -> None:
        self._lines: set[Line] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, line: Line) -> None:
        with self._changed:
            self._lines.add(line)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="acked-progress", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            for line in self._ready():
                try:
                    line.flush()
                except Exception:
                    logger.exception("progress could not be written")

    def _ready(self) -> list[Line]:
        """The lines that may be written now; waits until there is one."""
        with self._changed:
            while True:
                now = time.monotonic()
                waits = {line: line.wait(now) for line in self._lines}
                ready = [line for line, wait in waits.items() if wait == 0]
                if ready:
                    self._lines.difference_update(ready)
                    return ready
                self._changed.wait(min(waits.values(), default=None))


_writer = _Writer()


def _start_afresh() -> None:
    """A forked child has the lines of its parent's tasks and not the thread."""
    global _writer  # noqa: PLW0603 - one thread per process
    _writer = _Writer()


os.register_at_fork(after_in_child=_start_afresh)
