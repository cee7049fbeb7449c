"""How a thread waits for a message, and how it is told of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue


class Bells:
    """The threads that wait. Ringing wakes all of them, to look for themselves.

    One bell for each: `SimpleQueue.put` is the only wake-up in the standard library that a signal
    handler may call at any moment.
    """

    def __init__(self) -> None:
        self._bells: set[SimpleQueue[None]] = set()
        self._interrupts = 0
        self._thread = threading.local()

    def ring(self) -> None:
        """Wake everybody."""
        for bell in tuple(self._bells):
            bell.put(None)

    def interrupt(self) -> None:
        """End every wait, or the next one of a thread that is not waiting now."""
        self._interrupts += 1
        self.ring()

    def wait(self, is_over: Callable[[], bool], timeout: float) -> None:
        """Sleep until *is_over*, which is asked after each ring, or for *timeout* seconds."""
        deadline = time.monotonic() + timeout
        bell: SimpleQueue[None] = SimpleQueue()
        # Hung up before the question is asked, so that no change falls in between.
        self._bells.add(bell)
        try:
            while True:
                if self._interrupted() or is_over():
                    return
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                try:
                    bell.get(timeout=min(left, threading.TIMEOUT_MAX))
                except Empty:
                    return
        finally:
            self._bells.discard(bell)

    def _interrupted(self) -> bool:
        if getattr(self._thread, "interrupts", 0) == self._interrupts:
            return False
        self._thread.interrupts = self._interrupts
        return True
