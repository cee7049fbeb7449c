"""The broker that lives in this process: for tests and for running tasks inline.

It is `acked.record` under one lock, and the shortest answer to what a broker does. Nothing
outlives the process, and no other process sees it. `store` says what it keeps; `queue`, `records`
and `ledger` are the protocols of `acked.broker`.
"""

from __future__ import annotations

from pathlib import Path

from acked.broker import Capabilities, Condition
from acked.brokers.memory.ledger import TaskLedger
from acked.brokers.memory.records import TaskRecords
from acked.clock import Clock, SystemClock

__all__ = ["MemoryBroker"]


class MemoryBroker(TaskLedger, TaskRecords):
    """`Broker`, `Records` and `Ledger` in this process's memory.

    Args:
        clock: Where it reads the time; the host's clocks unless a test gives its own.
    """

    url = "memory://"
    address = url
    records_url = url
    capabilities = Capabilities(shared=False, durable=False, host_local=True)
    presence_dir: Path | None = None

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock if clock is not None else SystemClock())

    @property
    def clock(self) -> Clock:
        return self._clock

    def setup(self) -> None:
        """Nothing to make."""

    def conditions(self) -> list[Condition]:
        """Nothing is set up."""
        return []

    def connection_conditions(self) -> list[Condition]:
        """There is no way to it."""
        return []

    def close(self) -> None:
        """Nothing to let go of; the tasks stay."""
