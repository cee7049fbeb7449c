"""Every broker, held to every promise of the interface."""

from __future__ import annotations

from acked.broker import Engine
from acked.brokers.memory import MemoryBroker
from acked.clock import Clock
from acked.record import Record
from acked.testing import BrokerConformance


class TestMemory(BrokerConformance):
    def make_broker(self, clock: Clock) -> MemoryBroker:
        return MemoryBroker(clock)

    def plant_raw(self, broker: Engine, body: bytes) -> str:
        assert isinstance(broker, MemoryBroker)
        broker._store(Record(id="planted", body=body, tag=next(broker._tags)))
        return "planted"
