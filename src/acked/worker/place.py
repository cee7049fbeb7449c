"""One task process's place in its worker."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading

from acked.supervision import Death, restart_delay
from acked.worker.section import Section
from acked.worker.wire import Aftermath

logger = logging.getLogger("acked.worker")


class Place:
    """Who is in it, and how its last one died.

    Args:
        index: Its number, and its section's.
        consumer: Name of whoever is in it.
        section: Its part of the presence file.

    Attributes:
        pid: Of the process; None when there is none.
        asked: The fork server was told to start one.
        generation: Of the fork server that was told.
        leaving: It was asked to leave, to be replaced.
        finished: It left since there was nothing to do, and is not replaced.
        started_at: Monotonic time at which its process was started.
        deaf_since: Monotonic time since which its process counts as having lost the broker; None
            while it does not.
        deaths: Monotonic times at which processes died that had only just been started, or could
            not be.
        start_at: Not before this time is another one started.
        death: Why this worker itself killed it.
        unrecovered: How it died, while what it held is still to be given back.
        recover_at: Not before this time is that tried again.
        aftermath: Hooks that the next one is to run.
        lock: Held to kill it, and to say that it is gone.
    """

    def __init__(self, index: int, consumer: str, section: Section) -> None:
        self.index = index
        self.consumer = consumer
        self.section = section
        self.pid: int | None = None
        self.asked = False
        self.generation = 0
        self.leaving = False
        self.finished = False
        self.started_at = 0.0
        self.deaf_since: float | None = None
        self.deaths: list[float] = []
        self.start_at = 0.0
        self.death: Death | None = None
        self.unrecovered: Death | None = None
        self.recover_at = 0.0
        self.aftermath: list[Aftermath] = []
        self.lock = threading.Lock()

    def put_off(self, now: float) -> float:
        """Its process died young, or could not be started: the next start waits, and longer each
        time; how many seconds."""
        self.deaths = [*self.deaths[-20:], now]
        delay = restart_delay(self.deaths, now)
        self.start_at = now + delay
        return delay

    def kill(self, death: Death) -> None:
        """Kill its process for the reason *death* gives; the caller holds `lock`."""
        self.death = death
        if self.pid is not None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            except PermissionError:
                # A task has made it another user's.
                logger.error("process %s, pid %d, may not be killed", self.consumer, self.pid)

    def ask_to_leave(self) -> None:
        """Let its process finish what it runs and end.

        By the section as well as by a signal: a task may have taken SIGTERM for itself.
        """
        self.leaving = True
        self.section.ask_to_leave()
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGTERM)
