"""The broker dies, its connections are reset, its network is half broken: what was sent still runs,
once.

``make test`` runs short forms; ``ACKED_LONG=1`` (``make chaos``) the long ones.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterator

import pytest

from acked.brokers.rabbitmq.mending import NEW
from acked.delivery import State
from acked.errors import BrokerError
from tests.harness.checker import Verdict
from tests.harness.places import SERVERS, sever
from tests.harness.workers import Worker, until
from tests.servers.redis import RedisServer
from tests.worker.conftest import Shop, address, on, on_every_server
from tests.worker.forms import LEASE, LONG, report, sizes

pytestmark = pytest.mark.chaos
KILLS = sizes(2, 20)
CALL = 5.0 + 1.0
"""Seconds a call may take at most: its timeout, and what a busy machine adds."""


def judge(shop: Shop, name: str, *more: str) -> Verdict:
    sent, unsure = shop.produced()
    verdict = shop.check([*sent, *more], unsure=unsure)
    calls = [x["took"] for x in shop.history() if x["event"] in {"sent", "unsent"}]
    report(
        f"{name}, {shop.place.kind}", f"{verdict}; {len(sent)} sent, {len(unsure)} failed, "
        f"longest call {max(calls):.2f} s"
    )  # fmt: skip
    assert verdict.violations == []
    assert max(calls) <= CALL
    return verdict


def first_start_after(shop: Shop, moment: float) -> float | None:
    return next((x["at"] for x in shop.history("start") if x["at"] > moment), None)


@pytest.fixture
def _flushing(shop: Shop) -> Iterator[None]:
    """A Redis that has on disk what it answered. With ``everysec`` it puts writes off while its
    disk is busy, and a kill costs what was answered meanwhile."""
    server = shop.place.running
    if not isinstance(server, RedisServer):
        yield
        return
    before = server.options["appendfsync"]
    server.options["appendfsync"] = "always"  # for each start
    server.ask("CONFIG", "SET", "appendfsync", "always")
    yield
    server.options["appendfsync"] = before
    server.ask("CONFIG", "SET", "appendfsync", before)


@pytest.mark.kills
@on_every_server
@pytest.mark.usefixtures("_flushing")
@pytest.mark.timeout(900 if LONG else 120)
def test_a_broker_killed_while_it_is_sent_to_loses_and_doubles_nothing(shop: Shop) -> None:
    """T13: kill -9 and restart; two producers, two workers."""
    roll = random.Random(os.urandom(4))
    server = shop.place.running
    for _ in range(2):
        shop.work(processes=1)
    warm = shop.tasks.work.delay(0.0).id
    shop.finish(warm)
    if shop.place.kind == "rabbitmq":
        # Of a queue it has made just now, it forgets half when it is killed; mending that takes
        # longer than 5 s, and has a test of its own.
        time.sleep(NEW)
    count = sizes(500, 10_000)
    producers = [shop.produce(name, count, pause=0.004) for name in ("a", "b")]
    resumed = []
    for _ in range(KILLS):
        time.sleep(roll.uniform(0.3, 1.0))
        server.kill()
        time.sleep(roll.uniform(0.0, 0.3))
        server.start()
        answered = time.monotonic()
        if any(each.process.poll() is None for each in producers):
            at = until(
                lambda: first_start_after(shop, answered), within=15, what="a task after a restart"
            )
            resumed.append(at - answered)
    for each in producers:
        each.wait(300 if LONG else 60)
    shop.drain(within=2 * LEASE + 10)
    print(f"\nworking again after the port answers: {[round(x, 2) for x in sorted(resumed)]}")
    judge(shop, f"broker killed {KILLS} times", warm)
    assert max(resumed, default=0.0) <= 5.0


class Footprint:
    """Open files and threads of every process of some workers."""

    def __init__(self, *workers: Worker) -> None:
        self._pids = [pid for w in workers for pid in (w.pid, *w.processes)]

    def now(self) -> list[tuple[int, int]]:
        return [
            (len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))
            for pid in self._pids
        ]


@on_every_server
@pytest.mark.timeout(300 if LONG else 120)
def test_a_storm_of_resets_silences_no_worker(shop: Shop) -> None:
    """T14: 200 resets in 60 s, by the network and by the server, in bursts of three and alone."""
    detour = shop.detour()
    workers = [shop.work(processes=1, environment=detour.environment) for _ in range(2)]
    warm = [shop.tasks.work.delay(0.05).id for _ in range(20)]
    shop.finish(*warm)
    footprint = Footprint(*workers)
    before = footprint.now()
    resets = 0
    producer = shop.produce("steady", sizes(900, 12_000), pause=0.004)
    for round_ in range(sizes(3, 50)):
        sever(shop.place)
        time.sleep(0.6)  # a reset alone, then a burst of three in less than a second
        for _ in range(3):
            detour.reset_all()
            resets += 1
            time.sleep(0.2)
        resets += 1
        assert producer.process.poll() is None or round_ > 0
    producer.wait(120)
    shop.drain(within=2 * LEASE + 10)
    verdict = judge(shop, f"{resets} resets", *warm)
    last_sent = max(x["at"] for x in shop.history("sent"))
    # Later on nothing may be left but what a lost answer has leased: that waits for its lease.
    starts = [x["at"] for x in shop.history("start") if x["at"] < last_sent]
    silent = max(b - a for a, b in itertools.pairwise([*starts, last_sent]))
    print(f"longest silence of all workers {silent:.2f} s")
    assert silent <= 2.0
    assert verdict.starts >= len(warm)
    for worker in workers:
        assert worker.process.poll() is None

    def back() -> bool:
        return all(
            now[0] <= was[0] + 2 and now[1] <= was[1]
            for now, was in zip(footprint.now(), before, strict=True)
        )

    until(back, what=f"files and threads as at the start: {before}, now {footprint.now()}")


SPOILED = {
    "latency": {"latency": 0.2, "jitter": 0.1},
    "one byte at a time": {"slices": 1},
    "black hole": {"black_hole": True},
    "closed in mid-message": {"closes_after": 3_000},
    "slow": {"rate": 10_000.0},
}


@on_every_server
@pytest.mark.timeout(400 if LONG else 120)
def test_a_half_broken_network_loses_and_doubles_nothing(shop: Shop) -> None:
    """T15: each kind of bad weather in turn."""
    detour = shop.detour()
    workers = [shop.work(processes=1, environment=detour.environment) for _ in range(2)]
    spells = [*SPOILED.values()]
    producers = [
        shop.produce(name, sizes(250, 4_000), pause=0.02, environment=detour.environment)
        for name in "ab"
    ]
    for weather in spells:
        detour.set(**weather)
        time.sleep(20 if LONG else 1.5)  # how long the network is like that
        detour.heal()
        time.sleep(0.3)  # of good weather in between
    for each in producers:
        each.wait(300)
    shop.drain(within=2 * LEASE + 10)
    judge(shop, "half-broken network")
    for worker in workers:
        assert worker.process.poll() is None


@on_every_server
@pytest.mark.usefixtures("_flushing")
@pytest.mark.timeout(900 if LONG else 120)
def test_a_send_to_a_broker_that_is_away_raises_in_time_and_stores_nothing_by_half(
    shop: Shop,
) -> None:
    """Down, and in a black hole; what raised is there as a whole later, or not at all."""
    server = shop.place.running
    timeout = 5.0 if LONG else 1.0
    detour = shop.detour()
    shop.environment |= {**detour.environment, "SHOP_SEND_TIMEOUT": str(timeout)}
    shop.open()
    first = shop.tasks.noop.delay(0).id
    outcomes: dict[str, list[str]] = {"down": [], "black hole": []}
    waits = []

    def send(name: str, number: int) -> None:
        task = f"{name}-{number}".replace(" ", "-")
        outcomes[name].append(task)
        began = time.monotonic()
        with pytest.raises(BrokerError) as caught:
            shop.tasks.noop.apply_async((number,), task_id=task)
        waits.append(time.monotonic() - began)
        assert "guest:guest" not in str(caught.value)

    server.kill()
    for number in range(sizes(5, 100)):
        send("down", number)
    server.start()
    until(lambda: sent(shop, "between"), what="a send that returns again")
    for number in range(sizes(2, 100)):
        detour.set(black_hole=True)
        send("black hole", number)
        detour.heal()
        detour.reset_all()
    last = until(lambda: sent(shop, "after"), what="a send that returns again")
    shop.environment |= address(shop.place)
    shop.open()
    shop.work()
    shop.finish(first, last)
    # RabbitMQ may have a task in the ledger alone, and finds that out after 15 s.
    shop.drain(within=30)
    print(f"\nlongest send to {shop.place.kind} away: {max(waits):.2f} s")
    assert max(waits) <= timeout + 1.0
    for task in itertools.chain(*outcomes.values()):
        record = shop.app.records.get(task)
        assert record is None or record.state is State.SUCCESS, "whole, or not at all"


def sent(shop: Shop, name: str) -> str | None:
    """The id of a task, once a send returns."""
    try:
        return str(shop.tasks.noop.apply_async((0,), task_id=name).id)
    except BrokerError:
        return None


@on(*SERVERS, short=("redis", "postgres"))
@pytest.mark.timeout(300 if LONG else 120)
def test_etas_survive_the_broker_and_fire_once(shop: Shop) -> None:
    """T28: the broker killed again and again while tasks wait for their time."""
    server = shop.place.running
    shop.work()
    count, least = sizes(50, 1_000), sizes(2, 3 * int(LEASE))
    countdowns = [least + (n % 40) / 20 for n in range(count)]
    due = {shop.tasks.work.apply_async((0.0,), countdown=each).id: each for each in countdowns}
    for _ in range(sizes(2, 5)):
        server.kill()
        server.start()
        time.sleep(0.2)  # in which some become due
    shop.drain(within=90)
    verdict = shop.check(list(due))
    report(f"ETAs, {shop.place.kind}", verdict)
    assert verdict.violations == []
    assert verdict.starts == count
    for task, countdown in due.items():
        record = shop.record(task)
        assert record.claimed is not None
        assert record.claimed >= record.sent + countdown - 0.05, "never early"


@on_every_server
@pytest.mark.timeout(300 if LONG else 120)
def test_a_wake_up_that_is_lost_costs_a_second_at_most(shop: Shop) -> None:
    """T22: whoever listens for new tasks loses his connection, again and again."""
    shop.work(processes=1)
    shop.finish(shop.tasks.noop.delay(0).id)
    delays = []
    for _ in range(sizes(10, 100)):
        sever(shop.place)
        result = until(lambda: resent(shop), what="a send that returns")
        began = time.monotonic()
        shop.started(result)
        delays.append(time.monotonic() - began)
    delays.sort()
    print(
        f"\n{shop.place.kind}: from send to start after the listener was killed, p50 "
        f"{delays[len(delays) // 2]:.3f} s, max {delays[-1]:.3f} s"
    )
    # RabbitMQ may have a task in the ledger alone, and finds that out after 15 s.
    shop.drain(within=30)
    assert delays[-1] <= (1.0 if LONG else 1.5)


def resent(shop: Shop) -> str | None:
    """Send a task; its own connection may just have been closed, too."""
    try:
        return str(shop.tasks.work.delay(0.0).id)
    except BrokerError:
        return None
