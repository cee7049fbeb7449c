"""Random histories of every broker beside the pure model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from acked.brokers.memory import MemoryBroker
from acked.brokers.sqlite import SQLiteBroker
from acked.clock import Clock
from acked.testing import BrokerStateMachine


class MemoryHistories(BrokerStateMachine):
    def make_broker(self, clock: Clock) -> MemoryBroker:
        return MemoryBroker(clock)


class SQLiteHistories(BrokerStateMachine):
    def make_broker(self, clock: Clock) -> SQLiteBroker:
        # A file of its own for each history: a fixture would be one for all of them.
        self.directory = tempfile.TemporaryDirectory(prefix="acked-")
        return SQLiteBroker(Path(self.directory.name, "queue.db"), clock=clock)

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


@pytest.mark.chaos
@pytest.mark.timeout(3600)
class TestMemoryHistories(MemoryHistories.TestCase):
    pass


@pytest.mark.chaos
@pytest.mark.timeout(3600)
class TestSQLiteHistories(SQLiteHistories.TestCase):
    pass
