"""Redis, held to every promise of the interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from acked.broker import Engine
from acked.brokers.redis import RedisBroker, scripts
from acked.clock import Clock
from acked.testing import BrokerStateMachine, LedgerConformance
from acked.testing.timeline import message
from tests.servers.redis import RedisServer
from tests.servers.redis_monitor import Monitor, listed, master_list, names, unlisted


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def monitor(server: RedisServer) -> Iterator[Monitor]:
    monitor = Monitor(server)
    yield monitor
    monitor.close()


class TestRedis(LedgerConformance):
    """Every promise; and no script touches a key that its file does not list."""

    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer, monitor: Monitor) -> Iterator[None]:
        self.address = server.fresh()
        yield
        assert unlisted(monitor.touched()) == []

    def make_broker(self, clock: Clock) -> RedisBroker:
        return RedisBroker(self.address, clock=clock)

    def plant_raw(self, broker: Engine, body: bytes) -> str:
        assert isinstance(broker, RedisBroker)
        row = ["planted", "", "default", 0, False, 0.0]
        broker._run(scripts.SEND, row, stored=[body])
        return "planted"


def test_what_a_script_touches_is_seen(server: RedisServer, monitor: Monitor) -> None:
    monitor.touched()
    RedisBroker(server.fresh()).send([message("a")])

    seen = monitor.touched()

    assert {("send", ("id", "hash")), ("send", ("tag", "string"))} <= seen
    assert unlisted({each._replace(script="time") for each in seen}) == [
        f"time.lua: {name} ({kind})" for _, (name, kind) in sorted(seen)
    ]


@pytest.mark.parametrize("name", names())
def test_every_key_that_a_script_lists_is_in_the_list_of_all(name: str) -> None:
    assert listed(name) <= master_list()
    assert bool(listed(name)) is (name not in {"common", "time"})


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
