"""Waiting for the write lock, and keeping the write-ahead log short."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import apsw

logger = logging.getLogger("acked.broker")

BUSY_PAUSE = (0.0002, 0.002)
"""Shortest and longest pause in seconds between two tries for the write lock. Longer ones leave it
unused, shorter ones keep the processors busy with trying; measured with eight writers."""

KEPT = 16 * 1024 * 1024
"""Bytes to which the log is cut when it starts anew."""

CHECKPOINT_AFTER = 4000
"""Pages in the log after which SQLite copies them to the database: about `KEPT`. A task that is
stored alone writes three pages, so that SQLite's own 1000 would mean a checkpoint, with two flushes
of its own, for every 333 of them."""

LONG = 32 * 1024 * 1024
"""Bytes beyond which it is made to start anew."""

LOOK_EVERY = 8
"""Operations of a connection between two looks at its length."""

TRY = (0.02, 0.25)
"""Seconds for which one try may hold writers back while it waits for readers, and for which it is
tried again: another thread's checkpoint is often in the way, for a moment."""

PAUSE = (0.05, 2.0)
"""Shortest and longest pause in seconds before that is done once more."""


class Patience:
    """The busy handler of a connection: how long it waits for a lock.

    Args:
        seconds: Until it gives up.

    Attributes:
        until: Monotonic time at which it gives up in any case.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.until = math.inf
        self._end = 0.0

    def __call__(self, tries: int) -> bool:
        """Sleep for a moment; False to give up. *tries* counts from 0 for each lock."""
        now = time.monotonic()
        if tries == 0:
            self._end = min(now + self.seconds, self.until)
        elif now > self._end:
            return False
        shortest, longest = BUSY_PAUSE
        time.sleep(min(longest, shortest * 1.2 ** min(tries, 40)))
        return True


class LogKeeper:
    """Keeps the log of one database short, on behalf of one connection.

    A checkpoint beside other writers never quite catches up with them, and the log starts anew
    only when one has: writers that never pause would let it grow for ever. So once it is long,
    one checkpoint holds the writers back while it copies the rest. It waits for readers no longer
    than ours take: a program that keeps a snapshot open makes the log grow, and waiting for it
    would stop everybody.

    Args:
        database: The database's path.
        patience: The connection's busy handler.

    Attributes:
        is_full: An operation has failed for want of room, and none has succeeded in making some.
    """

    def __init__(self, database: Path, patience: Patience) -> None:
        self._log = database.with_name(f"{database.name}-wal")
        self._patience = patience
        self.is_full = False
        self._operations = 0
        self._pause = PAUSE[0]
        self._next = 0.0

    def operation_done(self, connection: apsw.Connection) -> None:
        """Look after the log now and then; never raises, as the operation itself is durable."""
        self._operations += 1
        if self._operations % LOOK_EVERY:
            return
        now, usual = time.monotonic(), self._patience.seconds
        try:
            if now < self._next or self._log.stat().st_size <= LONG:
                return
            self._next = now + self._pause
            self._pause = min(self._pause * 2, PAUSE[1])
            self._patience.seconds = TRY[0]
            while not self._restart(connection) and time.monotonic() < now + TRY[1]:
                time.sleep(BUSY_PAUSE[1])
        except (apsw.Error, OSError) as error:
            logger.debug("could not shorten %s: %s", self._log, error)
        finally:
            self._patience.seconds = usual

    def begin_anew(self, connection: apsw.Connection) -> None:
        """There was no room: before the log takes what has become free, it is copied, so that it
        can be written over."""
        usual, self._patience.seconds = self._patience.seconds, TRY[0]
        try:
            self.is_full = not self._restart(connection)
        except apsw.Error as error:
            logger.debug("could not make room in %s: %s", self._log, error)
        finally:
            self._patience.seconds = usual

    def _restart(self, connection: apsw.Connection) -> bool:
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            return False
        self._pause, self._next = PAUSE[0], 0.0
        return True
