"""How a thread of this process waits for others, or for a signal: the parts that brokers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue


class Interrupts:
    """How often every wait was to end, and which threads have heard of it: `Broker.interrupt` ends
    each wait of each thread, or its next one."""

    def __init__(self) -> None:
        self._count = 0
        self._heard = threading.local()

    def add(self) -> None:
        """Every thread is to hear of one more. Safe in a signal handler."""
        self._count += 1

    def reached(self) -> bool:
        """Whether there is one that the calling thread has not heard of; now it has."""
        if getattr(self._heard, "count", 0) == self._count:
            return False
        self._heard.count = self._count
        return True


class Bells:
    """The threads that wait. Ringing wakes all of them, to look for themselves.

    One bell for each: `SimpleQueue.put` is the only wake-up in the standard library that a signal
    handler may call at any moment.
    """

    def __init__(self) -> None:
        self._bells: set[SimpleQueue[None]] = set()
        self._interrupts = Interrupts()

    def ring(self) -> None:
        """Wake everybody. Safe in a signal handler."""
        for bell in tuple(self._bells):
            bell.put(None)

    def interrupt(self) -> None:
        """End every wait that may be interrupted, or the next of a thread that is not waiting."""
        self._interrupts.add()
        self.ring()

    def wait(
        self, patience: Callable[[], float], timeout: float, *, interruptible: bool = True
    ) -> None:
        """Sleep until there is no reason to sleep on.

        Args:
            patience: How many seconds more are worth waiting for, infinite where only a ring can
                tell; 0 or less ends the wait. Asked at first and after each ring.
            timeout: Seconds after which the wait ends whatever *patience* says.
            interruptible: Whether `interrupt` ends it.
        """
        deadline = time.monotonic() + timeout
        bell: SimpleQueue[None] = SimpleQueue()
        # Hung up before the question is asked, so that no change falls in between.
        self._bells.add(bell)
        try:
            while not (interruptible and self._interrupts.reached()):
                left = min(patience(), deadline - time.monotonic(), threading.TIMEOUT_MAX)
                if left <= 0:
                    return
                try:
                    bell.get(timeout=left)
                except Empty:
                    return
        finally:
            self._bells.discard(bell)
