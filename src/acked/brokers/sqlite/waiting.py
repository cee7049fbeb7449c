"""How a thread waits for work, and how it is told of some: `Broker.wait`, `Broker.interrupt`."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from acked.bells import Interrupts
from acked.brokers.sqlite.connection import Database, fetch
from acked.brokers.sqlite.placement import check_directory
from acked.brokers.sqlite.wake import EVERYONE, Waiter, Wakeups, mask_of
from acked.clock import Clock
from acked.errors import ConfigurationError

logger = logging.getLogger("acked.broker")

POLL = 0.02
"""Seconds between two looks where no wake-up can come."""

FIND_WORK = """
SELECT max(EXISTS (SELECT 1 FROM task WHERE state = 'QUEUED' AND queue = wanted.value)),
       min((SELECT min(due) FROM task WHERE state = 'SCHEDULED' AND queue = wanted.value))
FROM json_each(?) AS wanted
WHERE NOT EXISTS (SELECT 1 FROM pause WHERE pause.queue = wanted.value)
"""


class Waiting:
    """Who waits for work in one database.

    Args:
        database: Where the work is.
        clock: What due times are read against.
        directory: What `Broker.presence_dir` gives; the wake-ups are in there as well.
    """

    def __init__(self, database: Database, clock: Clock, directory: Path) -> None:
        self.directory = directory
        self._database = database
        self._clock = clock
        self._wakeups: Wakeups | None = None
        self._local = threading.local()
        self._interrupts = Interrupts()
        self._complained = False
        # Replaced, never changed: a signal handler may read it at any moment.
        self._slots: frozenset[int] = frozenset()
        self._adding = threading.Lock()

    def set_up(self) -> None:
        """Make the directory, for this user alone.

        Raises:
            ConfigurationError: It is there and belongs to somebody else.
        """
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(mode=0o700)
        check_directory(self.directory)

    def next_work(self, queues: Sequence[str]) -> float | None:
        """When there will be something to claim in *queues*: -inf for now, else the wall-clock
        time at which the next scheduled task is due; None when nothing waits. Reads only."""
        names = msgspec.json.encode(queues).decode()
        with self._database.session() as connection:
            ready, due = fetch(connection, FIND_WORK, (names,))[0]
        return -math.inf if ready else due

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        waiter = self._waiter()
        if self._interrupts.reached():
            return
        # From here on nothing escapes it: who stores a task sees that it sleeps, or it sees the
        # task.
        before: object = None
        if waiter is not None:
            waiter.park(mask_of(queues), self._clock.now() + timeout)
        else:
            before = self._database.version()
        try:
            due = self.next_work(queues)
            seconds = timeout if due is None else min(timeout, due - self._clock.now())
            if seconds <= 0 or self._interrupts.reached():
                return
            if waiter is None:
                self._poll(seconds, before)
            else:
                waiter.park(mask_of(queues), self._clock.now() + seconds)
                waiter.sleep(seconds)
        finally:
            if waiter is not None:
                waiter.unpark()

    def interrupt(self) -> None:
        self._interrupts.add()
        wakeups = self._wakeups
        if wakeups is not None:
            for slot in self._slots:
                wakeups.ring(slot)

    def anyone(self) -> bool:
        """Whether anybody waits at all."""
        wakeups = self._shared()
        return wakeups is not None and wakeups.anyone()

    def wake(self, mask: int, count: int = EVERYONE, *, due: float = -math.inf) -> None:
        """Wake up to *count* waiters for queues of *mask* that mean to sleep beyond *due*."""
        wakeups = self._shared()
        if wakeups is not None:
            wakeups.wake(mask, count, due=due)

    def close(self) -> None:
        """Give the slots back; a thread that waits keeps its own until it returns."""
        self.interrupt()
        self._local = threading.local()
        self._slots = frozenset()
        self._wakeups = None

    def _shared(self) -> Wakeups | None:
        wakeups = self._wakeups
        if wakeups is None or wakeups.pid != os.getpid():
            self._slots = frozenset()
            try:
                self.set_up()
                wakeups = self._wakeups = Wakeups(self.directory)
            except (OSError, ConfigurationError) as error:
                self._complain(error)
                return None
        return wakeups

    def _waiter(self) -> Waiter | None:
        """The calling thread's; None where it has to poll."""
        wakeups = self._shared()
        waiter: Waiter | None = getattr(self._local, "waiter", None)
        if waiter is not None and waiter.wakeups is wakeups:
            return waiter
        if wakeups is None:
            return None
        try:
            waiter = self._local.waiter = Waiter(wakeups)
        except OSError as error:
            self._complain(error)
            return None
        with self._adding:
            self._slots |= {waiter.slot}
        return waiter

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            logger.warning("no wake-ups through %s, polling instead: %s", self.directory, error)

    def _poll(self, seconds: float, before: object) -> None:
        """Sleep until the database is no longer the version *before*, or for *seconds*."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._interrupts.reached():
            time.sleep(min(POLL, left))
            if self._database.version() != before:
                return
