"""Redis, held to every promise of the interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from acked.broker import Engine
from acked.brokers.redis import RedisBroker, scripts
from acked.clock import Clock
from acked.testing import BrokerStateMachine, LedgerConformance
from tests.servers.redis import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class TestRedis(LedgerConformance):
    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        self.address = server.fresh()

    def make_broker(self, clock: Clock) -> RedisBroker:
        return RedisBroker(self.address, clock=clock)

    def plant_raw(self, broker: Engine, body: bytes) -> str:
        assert isinstance(broker, RedisBroker)
        row = ["planted", "", "default", 0, False, 0.0]
        broker._run(scripts.SEND, row, stored=[body])
        return "planted"


class RedisHistories(BrokerStateMachine):
    server: RedisServer

    def make_broker(self, clock: Clock) -> RedisBroker:
        return RedisBroker(self.server.fresh(), clock=clock)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
class TestRedisHistories(RedisHistories.TestCase):
    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        RedisHistories.server = server
