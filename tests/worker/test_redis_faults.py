"""What only Redis can do to its workers: run out of memory, forget its scripts, fail over."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from acked import Acked
from acked.delivery import State
from acked.errors import BrokerError, BrokerRefused
from acked.record import Record
from tests.harness.places import Place
from tests.harness.workers import until
from tests.servers.redis import Pair, RedisSentinel, RedisServer, ReplicatedCluster
from tests.worker.conftest import Shop
from tests.worker.forms import LONG, SHORT_LEASE, report, sizes

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
def test_a_worker_that_has_no_rights_for_a_while_goes_on(shop: Shop, server: RedisServer) -> None:
    """As when an operator changes the user's rights, or a server comes back without its users."""
    shop.environment |= {"SHOP_LEASE": "20"}
    shop.open()
    worker = shop.work("--threads", "1")
    long = shop.tasks.work.delay(6.0)
    shop.started(long.id)
    short = [shop.tasks.work.delay(0.05).id for _ in range(10)]
    server.ask("ACL", "SETUSER", "default", "-evalsha", "-eval")
    try:
        with pytest.raises(BrokerRefused, match="not stored") as refused:
            shop.tasks.noop.delay(1)
        assert refused.value.nothing_stored
        until(lambda: "heartbeat failed" in worker.output(), what="a heartbeat is refused")
        time.sleep(2.0)  # for what ends meanwhile, and cannot be settled
    finally:
        server.ask("ACL", "SETUSER", "default", "+@all")
    for record in shop.finish(long.id, *short):
        assert (record.state, record.losses) == (State.SUCCESS, 0)
    assert worker.process.poll() is None


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
        with pytest.raises(BrokerError, match="no memory left") as full:
            shop.tasks.keep.delay("one too many")
        assert time.monotonic() - began < 5.0
        assert full.value.nothing_stored
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


@on_redis
@pytest.mark.timeout(300)
def test_a_token_that_is_taken_away_costs_a_second_at_most(shop: Shop, server: RedisServer) -> None:
    """T22: the token that is to wake a worker is gone before anybody has it."""
    client = shop.app.broker._client
    shop.work(processes=1)
    shop.finish(shop.tasks.noop.delay(0).id)
    exchange = client.exchange
    thefts = 0

    def without_token(commands: list[Any], deadline: float, script: Any = None) -> list[Any]:
        """Who waits for a list is served once a transaction is over: by then it is empty."""
        nonlocal thefts
        theft = ("DEL", f"{client.base}wake:default")
        replies = exchange([("MULTI",), *commands, theft, ("EXEC",)], deadline)[-1]
        thefts += replies.pop()
        return list(replies)

    delays = []
    for _ in range(sizes(10, 100)):
        client.exchange = without_token
        task = shop.tasks.work.delay(0.0).id
        client.exchange = exchange
        began = time.monotonic()
        shop.started(task)
        delays.append(time.monotonic() - began)
    delays.sort()
    report(
        f"{thefts} tokens taken away",
        f"from send to start p50 {delays[len(delays) // 2]:.3f} s, max {delays[-1]:.3f} s",
    )
    assert thefts == len(delays)
    assert delays[-1] <= 1.0


class Load:
    """Several threads that send tasks in bulk, as many each second as are offered or as they can.

    Args:
        url: Of an application of their own: what they send waits for replicas, and what workers
            and the test do does not.
        name: Of the task.
        rate: Tasks offered per second.
    """

    THREADS, BULK = 4, 25
    TIMEOUT = 1.0
    """Seconds for one send. There may be nobody who could confirm it."""

    def __init__(self, url: str, name: str, rate: float) -> None:
        self._app = Acked("load", broker=url, send_timeout=self.TIMEOUT)
        self._calls = [self._app.signature(name, (0,))] * self.BULK
        self._pause = self.THREADS * self.BULK / rate
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(self.THREADS)]
        self.offered: list[float] = []
        """When each bulk was."""
        self.refused = 0
        """Bulks whose sending raised."""
        self.acknowledged: list[tuple[float, str]] = []
        """When, and which task."""

    def _send(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            # What was missed while sends failed is not made up for.
            due = max(due + self._pause, time.monotonic())
            self.offered.append(time.monotonic())
            try:
                results = self._app.send_many(self._calls)
            except BrokerError:
                self.refused += 1
            else:
                now = time.monotonic()
                self.acknowledged += [(now, each.id) for each in results]

    def since(self, moment: float) -> int:
        """How many tasks were acknowledged since *moment*."""
        return sum(at > moment for at, _ in tuple(self.acknowledged))

    def until(self, moment: float) -> str:
        """How fast it was, before *moment*."""
        seconds = moment - self.offered[0]
        offered = sum(at < moment for at in self.offered) * self.BULK
        acknowledged = sum(at < moment for at, _ in self.acknowledged)
        return f"{offered / seconds:.0f}/s offered, {acknowledged / seconds:.0f}/s acknowledged"

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._over.set()
        for each in self._threads:
            each.join()
        self._app.close()


RATE = 5_000.0
PAIRS = {"sentinel": RedisSentinel, "cluster": ReplicatedCluster}
SHORT = [("cluster", "killed", 1)]
FAILOVERS = [
    *itertools.product(PAIRS, ("killed", "demoted"), [0] * 2),
    *itertools.product(PAIRS, ("killed",), [1] * 20),
    *itertools.product(PAIRS, ("demoted",), [1] * 3),
]


@pytest.mark.parametrize(("kind", "how", "wait_replicas"), FAILOVERS if LONG else SHORT)
@pytest.mark.timeout(180)
def test_workers_follow_a_failover(tmp_path: Path, kind: str, how: str, wait_replicas: int) -> None:
    """T21: under load, the primary is killed, or told to be the replica from now on, after which
    it answers READONLY or MOVED. What it had acknowledged and not yet replicated is the loss that
    Redis documents; none where sends wait for the replica."""
    with ExitStack() as stack:
        pair: Pair = stack.enter_context(PAIRS[kind](tmp_path / kind))
        shop = Shop(tmp_path, stack, Place("redis", pair.fresh()))
        # What a lost answer has leased waits for its lease.
        lease, heartbeat = SHORT_LEASE
        shop.environment |= {"SHOP_LEASE": str(lease), "SHOP_HEARTBEAT": str(heartbeat)}
        shop.open()
        stack.callback(lambda: shop.app.close())
        shop.work()
        url = f"{shop.place.url}&wait_replicas={wait_replicas}"
        with Load(url, shop.tasks.noop.name, RATE) as load:
            until(lambda: len(load.acknowledged) > RATE / 2, what="sends before the failover")
            ended = time.monotonic()
            if how == "killed":
                pair.primary.kill()
            else:
                pair.demote()
            # A Sentinel takes ten seconds to tell a primary that is well.
            until(
                lambda: pair.replica.role() == "master" != pair.primary.role(), what="the promotion"
            )
            promoted = time.monotonic()
            until(
                lambda: [x for x in shop.history("start") if x["at"] > promoted] or _send(shop),
                within=5.0, what="workers follow within 5 s",
            )  # fmt: skip
            followed = time.monotonic() - promoted
            # The replica, once it is the primary, has nobody who could confirm, unless the old
            # one lives.
            if how == "demoted" or not wait_replicas:
                until(lambda: load.since(promoted), what="sends after the failover")
        shop.drain(within=2 * lease + 10)
        states = [_state(shop, task) for _, task in load.acknowledged]
        lost = states.count(None)
        report(
            f"{kind}, primary {how}, wait_replicas={wait_replicas}",
            f"{lost} of {len(states)} lost; until then {load.until(ended)}; "
            f"changed after {promoted - ended:.2f} s, workers followed {followed:.2f} s later",
        )
        if wait_replicas:
            assert lost == 0
        assert {*states} <= {State.SUCCESS, None}


def _state(shop: Shop, task: str) -> State | None:
    record: Record | None = shop.app.records.get(task)
    return record and record.state


def _send(shop: Shop) -> bool:
    """Give the workers something to show that they are there, before the rest of the load."""
    with suppress(BrokerError):
        shop.tasks.work.apply_async((0.0,), priority=9)
    return False
