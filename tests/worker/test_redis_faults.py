"""What only Redis can do to its workers: run out of memory, forget its scripts, fail over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from acked.delivery import State
from acked.errors import BrokerError
from tests.harness.places import Place
from tests.harness.workers import until
from tests.servers.redis import RedisSentinel, RedisServer
from tests.worker.conftest import Shop
from tests.worker.forms import report, sizes

pytestmark = pytest.mark.chaos
on_redis = pytest.mark.parametrize("shop", ["redis"], indirect=True)


@pytest.fixture
def server(shop: Shop) -> Iterator[RedisServer]:
    """The server that all tests share, as it was before, afterwards."""
    server = shop.place.running
    assert isinstance(server, RedisServer)
    yield server
    server.ask("CONFIG", "SET", "maxmemory", "0")
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


@on_redis
@pytest.mark.timeout(600)
def test_a_full_redis_refuses_sends_and_lets_workers_finish(
    shop: Shop, server: RedisServer
) -> None:
    """T19: the limit is reached with tasks waiting; then there is room again, with no restart."""
    count = sizes(1_000, 10_000)
    ids = [r.id for r in shop.tasks.keep.delay_many([("x" * 500,)] * count)]
    server.ask("CONFIG", "SET", "maxmemory", "1mb")
    for _ in range(sizes(5, 100)):
        began = time.monotonic()
        with pytest.raises(BrokerError, match="no memory left"):
            shop.tasks.keep.delay("one too many")
        assert time.monotonic() - began < 5.0
    shop.work()
    for record in shop.finish(*ids, within=120):
        assert record.state is State.SUCCESS
    assert sum(c.success for c in shop.app.records.counts()) == count, "what raised is not there"
    server.ask("CONFIG", "SET", "maxmemory", "0")
    assert shop.tasks.noop.delay(3).get(timeout=10) == 3


@on_redis
def test_a_redis_that_would_evict_tasks_is_refused_by_workers(
    shop: Shop, server: RedisServer
) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "1gb")
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    worker = shop.work(wait=False)
    assert worker.process.wait(20) == 1
    assert "noeviction" in worker.output()


@on_redis
def test_scripts_that_are_forgotten_all_the_time_cost_nothing(
    shop: Shop, server: RedisServer
) -> None:
    """T22: SCRIPT FLUSH under load."""
    shop.work()
    producer = shop.produce("steady", sizes(300, 3_000), pause=0.004)
    flushes = 0
    while producer.process.poll() is None:
        server.ask("SCRIPT", "FLUSH")
        flushes += 1
        time.sleep(0.05)  # between two flushes
    shop.drain(within=10)
    sent, unsure = shop.produced()
    verdict = shop.check(sent)
    report(f"{flushes} script flushes", verdict)
    assert verdict.violations == []
    assert unsure == []
    assert flushes >= 10


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[RedisSentinel]:
    with RedisSentinel(tmp_path / "sentinel") as sentinel:
        yield sentinel


@pytest.mark.parametrize("wait_replicas", ["0", *["1"] * sizes(1, 20)])
@pytest.mark.timeout(180)
def test_workers_follow_a_failover(
    sentinel: RedisSentinel, tmp_path: Path, wait_replicas: str
) -> None:
    """T21: the primary is killed under load. What it had acknowledged and not yet replicated is
    the loss that Redis documents; none where sends wait for the replica."""
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack, Place("redis", sentinel.fresh()))
        shop.open()
        stack.callback(lambda: shop.app.close())
        shop.work()
        # The replica, once it is the primary, has nobody who could confirm: sends raise then.
        url = shop.place.url + f"&wait_replicas={wait_replicas}"
        producer = shop.produce("load", 1_000_000, environment={"SHOP_URL": url})
        until(lambda: len(shop.history("sent")) > 300, what="sends before the failover")
        sentinel.primary.kill()
        until(lambda: sentinel.replica.ask("ROLE")[0] == b"master", what="the promotion")
        promoted = time.monotonic()
        until(
            lambda: [x for x in shop.history("start") if x["at"] > promoted] or _send(shop),
            within=5.0, what="workers follow within 5 s",
        )  # fmt: skip
        producer.process.kill()
        before = [x["at"] for x in shop.history("sent") if x["at"] < promoted]
        shop.drain(within=20)
        sent, _ = shop.produced()
        stored = {task for task in sent if shop.app.records.get(task) is not None}
        ran = {line["task"] for line in shop.history("start")}
        lost = [task for task in sent if task not in stored and task not in ran]
        rate = len(before) / (before[-1] - before[0])
        report(
            f"failover, wait_replicas={wait_replicas}",
            f"{len(lost)} of {len(sent)} lost, {rate:.0f} sends/s until then",
        )
        if wait_replicas == "1":
            assert lost == []
        for task in stored:
            assert shop.record(task).state is State.SUCCESS


def _send(shop: Shop) -> bool:
    """Give the workers something to show that they are there."""
    with suppress(BrokerError):
        shop.tasks.work.delay(0.0)
    return False
