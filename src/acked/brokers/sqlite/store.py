"""What both halves of the broker stand on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from acked.brokers.sqlite.connection import Database
from acked.brokers.sqlite.waiting import Waiting
from acked.clock import Clock


class Store:
    """A database, the time, and who waits for work."""

    def __init__(self, database: Database, clock: Clock, waiting: Waiting) -> None:
        self._database = database
        self._clock = clock
        self._waiting = waiting


@cache
def this_boot() -> str:
    """Which boot of this host it is: the steady clock starts anew with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
