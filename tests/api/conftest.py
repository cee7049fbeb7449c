from __future__ import annotations

import time

import pytest

from acked import Acked
from acked.brokers.memory import MemoryBroker
from acked.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    # Some tests compare with the host's own clock, so this one starts with it.
    return ManualClock(now=float(int(time.time())))


@pytest.fixture
def app(clock: ManualClock) -> Acked:
    return Acked("shop", broker=MemoryBroker(clock), clock=clock)
