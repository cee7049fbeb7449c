"""Lines of text to a reader who may stall, without ever waiting for it.

Whoever reads a worker's standard error can stand still: Ctrl-S, a pager, a collector that hangs.
Once the pipe is full, write(2) waits for as long as that lasts, and a supervisor that waits renews
no lease.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque

MOST = 1024 * 1024
"""Bytes that may wait for the reader; what comes on top is dropped, and counted."""

LAST_WORDS = 1.0
"""Seconds for which the end of a process waits until its lines are out."""

logger = logging.getLogger("acked.worker")


class LineWriter:
    """A stream for `logging` whose lines a thread writes.

    Args:
        descriptor: Where to; standard error unless given. A copy is used.
    """

    def __init__(self, descriptor: int = 2) -> None:
        try:
            self._descriptor = os.dup(descriptor)
        except OSError:  # closed: nobody reads it
            self._descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="acked-lines", daemon=True).start()

    def write(self, text: str) -> None:
        """Have *text* written soon."""
        line = text.encode(errors="backslashreplace")
        with self._changed:
            if self._size + len(line) > MOST:
                self._dropped += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            self._changed.notify_all()

    def drain(self, within: float) -> None:
        """Wait until everything is written, *within* seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, within)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                line = self._waiting[0]
            self._put(line)
            with self._changed:
                self._waiting.popleft()
                self._size -= len(line)
                dropped = 0
                if not self._waiting:
                    dropped, self._dropped = self._dropped, 0
                self._changed.notify_all()
            if dropped:
                logger.warning("%d lines dropped: nobody read standard error", dropped)

    def _put(self, line: bytes) -> None:
        try:
            while line:
                # Another program may have made it non-blocking for all who share it.
                select.select([], [self._descriptor], [])
                try:
                    line = line[os.write(self._descriptor, line) :]
                except BlockingIOError:
                    continue
        except (OSError, ValueError):
            pass  # A full disk or a closed pipe: the line is lost, the worker goes on.
