"""Every broker, held to every promise of the interface."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from acked.broker import Engine
from acked.brokers.memory import MemoryBroker
from acked.brokers.sqlite import SQLiteBroker
from acked.clock import Clock
from acked.record import Record
from acked.testing import LedgerConformance


class TestMemory(LedgerConformance):
    def make_broker(self, clock: Clock) -> MemoryBroker:
        return MemoryBroker(clock)

    def plant_raw(self, broker: Engine, body: bytes) -> str:
        assert isinstance(broker, MemoryBroker)
        broker._store(Record(id="planted", body=body, tag=next(broker._tags)))
        return "planted"


class TestSQLite(LedgerConformance):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.path = tmp_path / "queue.db"

    def make_broker(self, clock: Clock) -> SQLiteBroker:
        return SQLiteBroker(self.path, clock=clock)

    def plant_raw(self, broker: Engine, body: bytes) -> str:
        """Written by another program, past the broker."""
        with apsw.Connection(str(self.path)) as other:
            other.execute(
                "INSERT INTO task (id, name, queue, priority, state, due, sent, body) "
                "VALUES ('planted', '', 'default', 0, 'QUEUED', 0, 0, ?)",
                (body,),
            )
        other.close()
        return "planted"
