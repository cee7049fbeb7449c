"""Random histories of every broker beside the pure model."""

from __future__ import annotations

import pytest

from acked.brokers.memory import MemoryBroker
from acked.clock import Clock
from acked.testing import BrokerStateMachine


class MemoryHistories(BrokerStateMachine):
    def make_broker(self, clock: Clock) -> MemoryBroker:
        return MemoryBroker(clock)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
class TestMemoryHistories(MemoryHistories.TestCase):
    pass
