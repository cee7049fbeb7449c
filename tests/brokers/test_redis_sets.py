"""Servers that are one to their clients: a Redis Cluster, and a primary with a replica."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from acked.broker import Engine, Filter
from acked.brokers.redis import RedisBroker, scripts
from acked.brokers.redis.address import parse
from acked.clock import Clock
from acked.delivery import Settlement, State
from acked.errors import BrokerError, BrokerRefused, BrokerUnavailable, ConfigurationError
from acked.testing import BrokerStateMachine, LedgerConformance
from acked.testing.timeline import Background, message
from tests.harness.workers import until
from tests.servers.redis import (
    Pair,
    RedisCluster,
    RedisSentinel,
    RedisServer,
    ReplicatedCluster,
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSentinel]:
    with RedisSentinel(tmp_path_factory.mktemp("sentinel")) as sentinel:
        yield sentinel


@pytest.fixture(params=[RedisSentinel, ReplicatedCluster])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    with request.param(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


class TestRedisCluster(LedgerConformance):
    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: RedisCluster) -> None:
        self.address = cluster.fresh()

    def make_broker(self, clock: Clock) -> RedisBroker:
        return RedisBroker(self.address, clock=clock)

    def plant_raw(self, broker: Engine, body: bytes) -> str:
        assert isinstance(broker, RedisBroker)
        broker._run(scripts.SEND, ["planted", "", "default", 0, False, 0.0], stored=[body])
        return "planted"


class ClusterHistories(BrokerStateMachine):
    cluster: RedisCluster

    def make_broker(self, clock: Clock) -> RedisBroker:
        return RedisBroker(self.cluster.fresh(), clock=clock)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
class TestClusterHistories(ClusterHistories.TestCase):
    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: RedisCluster) -> None:
        ClusterHistories.cluster = cluster


def test_prefixes_spread_over_a_cluster(cluster: RedisCluster) -> None:
    for _ in range(12):
        RedisBroker(cluster.fresh()).send([message("a")])

    assert all(node.ask("DBSIZE") > 0 for node in cluster.nodes)


def test_a_broker_follows_its_slot_to_another_node(cluster: RedisCluster) -> None:
    broker = RedisBroker(cluster.fresh())
    broker.send([message("a")])
    slot = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", broker._client.base)
    (old,) = [node for node in cluster.nodes if node.ask("CLUSTER", "COUNTKEYSINSLOT", slot)]
    new = next(node for node in cluster.nodes if node is not old)
    names = {node: node.ask("CLUSTER", "MYID") for node in cluster.nodes}
    new.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[old])
    old.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[new])
    keys = old.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    old.ask("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
    for node in (new, old):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", names[new])

    broker.send([message("b")])

    assert [held.id for held in broker.claim("w1/0", ["default"], 10).deliveries] == ["a", "b"]


def test_a_node_that_cannot_say_who_serves_is_passed_over(cluster: RedisCluster) -> None:
    busy = cluster.nodes[0]
    url = next(
        url
        for url in (cluster.fresh() for _ in itertools.count())
        if not _serves(busy, parse(url).prefix)
    )
    busy.ask("CONFIG", "SET", "busy-reply-threshold", 10)
    running = Background(lambda: busy.agrees("EVAL", "while true do end", 0))
    try:
        until(lambda: not busy.agrees("PING"), "its refusal")

        RedisBroker(url).send([message("a")])
    finally:
        busy.ask("SCRIPT", "KILL")
        running.answer()


def test_a_cluster_that_wants_a_password_refuses_who_has_none(cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "requirepass", "hush")
        node.options["requirepass"] = "hush"
    try:
        with pytest.raises(BrokerRefused, match="refuses this user"):
            RedisBroker(cluster.fresh()).send([message("a")])
    finally:
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "requirepass", "")
            del node.options["requirepass"]


def _serves(node: RedisServer, key: str) -> bool:
    slot = node.ask("CLUSTER", "KEYSLOT", key)
    return any(
        first <= slot <= last and members[0][1] == node.port
        for first, last, *members in node.ask("CLUSTER", "SLOTS")
    )


def test_a_server_that_is_no_cluster_is_named_so(sentinel: RedisSentinel) -> None:
    broker = RedisBroker(f"redis+cluster://127.0.0.1:{sentinel.primary.port}")

    with pytest.raises(ConfigurationError, match="is no node of a Redis Cluster.*redis://"):
        broker.send([message("a")])


def test_a_failover_loses_no_confirmed_task_and_work_goes_on(sentinel: RedisSentinel) -> None:
    broker = RedisBroker(sentinel.fresh(wait_replicas="1"), timeout=2)
    broker.setup()
    broker.send([message(f"task-{number}") for number in range(50)])
    held = broker.claim("w1/0", ["default"], 10).deliveries
    now = broker.clock.now()
    broker.settle([Settlement.succeed(each, at=now, started=now, result=b"1") for each in held])
    waiting = Background(lambda: broker.wait(["mail"], 60))

    sentinel.primary.kill()

    until(lambda: sentinel.replica.role() == "master")
    promoted = time.monotonic()
    # The replica that has become the primary has none of its own.
    broker = RedisBroker(broker.address.replace("wait_replicas=1", "wait_replicas=0"), timeout=2)
    until(lambda: _sends(broker, "after"), within=5)
    assert time.monotonic() - promoted < 5
    assert len(broker.search(Filter(), limit=100)) == 51
    assert len(broker.search(Filter(states=(State.SUCCESS,)), limit=100)) == 10
    with pytest.raises(BrokerUnavailable):
        waiting.answer()


def test_an_open_broker_finds_the_new_primary(sentinel: RedisSentinel) -> None:
    broker = RedisBroker(sentinel.fresh(), timeout=2)
    broker.send([message("before")])
    until(lambda: sentinel.replica.ask("EXISTS", f"{broker._client.base}id") == 1)

    sentinel.primary.freeze()

    with pytest.raises(BrokerUnavailable):
        broker.send([message("lost")])
    until(lambda: sentinel.replica.role() == "master")
    until(lambda: _sends(broker, "after"), within=5)
    assert broker.get("before") is not None


def test_a_primary_that_has_become_a_replica_is_left_for_the_new_one(
    sentinel: RedisSentinel,
) -> None:
    broker = RedisBroker(sentinel.fresh())
    broker.send([message("before")])
    until(lambda: sentinel.replica.ask("EXISTS", f"{broker._client.base}id") == 1)

    sentinel.demote()

    until(lambda: sentinel.replica.role() == "master")
    until(lambda: sentinel.primary.role() == "slave")
    until(lambda: _sends(broker, "after"), within=5)
    assert sentinel.replica.ask("HEXISTS", f"{broker._client.base}id", "after") == 1


def test_a_process_that_only_reads_follows_the_primary_too(sentinel: RedisSentinel) -> None:
    reader = RedisBroker(sentinel.fresh())
    assert reader.get("a") is None

    sentinel.demote()
    until(lambda: sentinel.replica.role() == "master")
    until(lambda: sentinel.primary.role() == "slave")

    assert reader.get("a") is None
    assert reader._client._primary is not None
    assert reader._client._primary.port == sentinel.replica.port


def test_a_primary_that_comes_back_takes_nothing_of_who_remembers_it(
    sentinel: RedisSentinel,
) -> None:
    """It believes that it still is one, until the Sentinels tell it."""
    idle, busy = RedisBroker(sentinel.fresh()), RedisBroker(sentinel.fresh())
    idle.send([message("before")])
    until(lambda: sentinel.replica.ask("EXISTS", f"{idle._client.base}id") == 1)
    sentinel.primary.kill()
    until(lambda: sentinel.replica.role() == "master")
    until(lambda: _sends(busy, "elsewhere"))

    sentinel.primary.start()
    assert sentinel.primary.role() == "master"
    idle.send([message("after")])

    assert sentinel.replica.ask("HEXISTS", f"{idle._client.base}id", "after") == 1


def test_a_write_that_too_few_replicas_confirm_is_an_error_until_they_do(pair: Pair) -> None:
    broker = RedisBroker(pair.fresh(wait_replicas="1"), timeout=1)
    until(lambda: _sends(broker, "a"))  # A busy host may need more than one try.
    pair.replica.freeze()
    reader = RedisBroker(broker.address, timeout=1)
    assert reader.get("a") is not None

    # The first stores it. The others find that done: on its connection, and on one that has only
    # read.
    for each in (broker, broker, reader):
        with pytest.raises(BrokerError, match="0 of 1 replicas confirmed") as late:
            each.send([message("b")])
        assert not late.value.nothing_stored

    pair.replica.thaw()
    until(lambda: _sends(broker, "b"))
    assert [held.id for held in broker.claim("w1/0", ["default"], 10).deliveries] == ["a", "b"]


def test_what_is_set_up_is_told(sentinel: RedisSentinel) -> None:
    port = sentinel.primary.port
    few = RedisBroker(f"redis://127.0.0.1:{port}?wait_replicas=3").conditions()
    one = RedisBroker(f"redis://127.0.0.1:{port}?wait_replicas=1").conditions()
    none = RedisBroker(f"redis://127.0.0.1:{port}").conditions()

    levels = [
        next(each.level for each in found if each.subject == "replication")
        for found in (few, one, none)
    ]
    assert levels == ["warn", "ok", "info"]


def test_a_sentinel_that_does_not_know_the_name_says_so(sentinel: RedisSentinel) -> None:
    broker = RedisBroker(f"redis+sentinel://127.0.0.1:{sentinel.sentinel.port}/other", timeout=1)

    with pytest.raises(BrokerUnavailable, match="knows no 'other'"):
        broker.send([message("a")])


def _sends(broker: RedisBroker, task_id: str) -> bool:
    try:
        broker.send([message(task_id)])
    except BrokerError:
        return False
    return True
