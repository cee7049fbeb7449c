"""The broker dies, its connections are reset, its network is half broken: what was sent still runs,
once.

``make test`` runs short forms; ``ACKED_LONG=1`` (``make chaos``) the long ones.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from acked.brokers.rabbitmq.mending import NEW
from acked.delivery import State
from acked.errors import BrokerError
from tests.harness.checker import Verdict
from tests.harness.places import SERVERS, Servers, sever
from tests.harness.workers import Worker, children, until
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from tests.servers.server import Server
from tests.worker.conftest import Shop, address, on, on_every_server
from tests.worker.forms import LEASE, LONG, report, sizes

pytestmark = pytest.mark.chaos
on_every_pair = on(*SERVERS, "rabbitmq+redis", "rabbitmq+postgres", short=SERVERS)
"""Also where RabbitMQ's records are in a server, which has its faults as well."""

KILLS = sizes(2, 20)
NOISE = 0.5
"""Seconds that the scheduler of a busy machine adds to a call that ends at its timeout."""

CALL = 5.0 + NOISE
"""Seconds a call may take at most."""


def ledger(shop: Shop) -> str:
    """The server that keeps the records of a broker that does not; empty where there is none."""
    kinds = {"redis": "redis", "postgresql": "postgres"}
    return kinds.get(urlsplit(shop.place.results or "").scheme, "")


def named(shop: Shop) -> str:
    return "+".join(filter(None, [shop.place.kind, ledger(shop)]))


@pytest.fixture
def engines(shop: Shop, servers: Servers) -> list[Server]:
    """The servers of the shop: the broker, and what keeps its records."""
    kind = ledger(shop)
    return [shop.place.running, *([servers.get(kind)] if kind else [])]


def groups(engines: list[Server]) -> list[list[Server]]:
    """Which of them have a fault at once, in turn: each alone, then all."""
    return [*([each] for each in engines), *([engines] if len(engines) > 1 else [])]


def patience(shop: Shop) -> float:
    """Seconds in which everything is drained after the last fault."""
    # RabbitMQ may have a task in the ledger alone, and finds that out after 15 s.
    return 2 * LEASE + (30 if shop.place.kind == "rabbitmq" else 10)


def judge(shop: Shop, name: str, *more: str) -> Verdict:
    sent, unsure = shop.produced()
    verdict = shop.check([*sent, *more], unsure=unsure)
    calls = [x["took"] for x in shop.history() if x["event"] in {"sent", "unsent"}]
    report(
        f"{name}, {named(shop)}", f"{verdict}; {len(sent)} sent, {len(unsure)} failed, "
        f"longest call {max(calls):.2f} s"
    )  # fmt: skip
    assert verdict.violations == []
    assert max(calls) <= CALL
    return verdict


def first_start_after(shop: Shop, moment: float) -> float | None:
    return next((x["at"] for x in shop.history("start") if x["at"] > moment), None)


@pytest.fixture
def _flushing(engines: list[Server]) -> Iterator[None]:
    """A Redis that has on disk what it answered. With ``everysec`` it puts writes off while its
    disk is busy, and a kill costs what was answered meanwhile."""
    with ExitStack() as stack:
        for server in engines:
            if isinstance(server, RedisServer):
                stack.callback(_flush, server, server.options["appendfsync"])
                _flush(server, "always")
        yield


def _flush(server: RedisServer, when: str) -> None:
    server.options["appendfsync"] = when  # for each start
    if server.answers():  # not where a test that failed has left it killed
        server.ask("CONFIG", "SET", "appendfsync", when)


@pytest.mark.kills
@on_every_pair
@pytest.mark.usefixtures("_flushing")
@pytest.mark.timeout(900 if LONG else 120)
def test_a_broker_killed_while_it_is_sent_to_loses_and_doubles_nothing(
    shop: Shop, engines: list[Server]
) -> None:
    """T13: kill -9 and restart; two producers, two workers."""
    roll = random.Random(os.urandom(4))
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
    for victims in itertools.islice(itertools.cycle(groups(engines)), KILLS):
        time.sleep(roll.uniform(0.3, 1.0))
        for each in victims:
            each.kill()
        time.sleep(roll.uniform(0.0, 0.3))
        for each in victims:
            each.start()
        answered = time.monotonic()
        if any(producer.process.poll() is None for producer in producers):
            at = until(
                lambda: first_start_after(shop, answered), within=15, what="a task after a restart"
            )
            assert at is not None
            resumed.append(at - answered)
    for producer in producers:
        producer.wait(300 if LONG else 60)
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


@on_every_pair
@pytest.mark.timeout(300 if LONG else 120)
def test_a_storm_of_resets_silences_no_worker(shop: Shop, engines: list[Server]) -> None:
    """T14: 200 resets in 60 s, by the network and by the server, in bursts of three and alone."""
    detour = shop.detour()
    workers = [shop.work(processes=1, environment=detour.environment) for _ in range(2)]
    warm = [shop.tasks.work.delay(0.05).id for _ in range(20)]
    shop.finish(*warm)
    footprint = Footprint(*workers)
    before = footprint.now()
    rounds = sizes(2, 50)
    # More than both can do meanwhile, so that something waits for each of them all the time.
    count = int(len(workers) * (1.5 * rounds + 0.6) / BUSY)
    backlog = [result.id for result in shop.tasks.work.delay_many([(BUSY,)] * count)]
    resets = 0
    producer = shop.produce("steady", sizes(400, 3_000), pause=sizes(4, 20) / 1000)
    began = time.monotonic()
    for round_ in range(rounds):
        for each in engines:
            sever(replace(shop.place, server=each))
        time.sleep(0.6)  # a reset alone, then a burst of three in less than a second
        for _ in range(3):
            detour.reset_all()
            resets += 1
            time.sleep(0.2)  # long enough to connect again, and too short to recover
        resets += 1
        assert producer.process.poll() is None or round_ > 0
    ended = time.monotonic()
    until(lambda: time.monotonic() > ended + SILENCE or _all_started(shop, workers, ended))
    assert shop.waiting() > 0, "else nothing tells a worker that is silent from an idle one"
    over = time.monotonic()
    silences = [_silence(shop, worker, began, over) for worker in workers]
    print(f"\nlongest silence of each worker: {[round(each, 2) for each in silences]} s")
    assert max(silences) <= SILENCE
    assert _all_started(shop, workers, ended)
    producer.wait(120)
    # One of the workers alone could do what is left.
    shop.drain(within=2 * LEASE + 10 + shop.waiting() * BUSY)
    judge(shop, f"{resets} resets", *warm, *backlog)
    for worker in workers:
        assert worker.process.poll() is None

    def back() -> bool:
        return all(
            now[0] <= was[0] + OPENED_ONCE and now[1] <= was[1]
            for now, was in zip(footprint.now(), before, strict=True)
        )

    until(back, what=f"files and threads as at the start: {before}, now {footprint.now()}")


OPENED_ONCE = 7
"""Files that a process opens when it first needs them, perhaps in the storm: five for waking others
where the records are in SQLite, two for a second connection there. Eight resets that each leave one
would be more."""

SILENCE = 2.0
"""Seconds for which a worker may start nothing while tasks wait."""

BUSY = 0.02
"""Seconds that a task of a storm takes."""


def _starts(shop: Shop, worker: Worker) -> list[float]:
    """When *worker* started a task, with the processes it has."""
    processes = set(worker.processes)
    return [line["at"] for line in shop.history("start") if line["pid"] in processes]


def _silence(shop: Shop, worker: Worker, began: float, over: float) -> float:
    """The longest time between two starts of *worker*."""
    starts = [at for at in _starts(shop, worker) if began < at < over]
    return max(b - a for a, b in itertools.pairwise([began, *starts, over]))


def _all_started(shop: Shop, workers: list[Worker], since: float) -> bool:
    return all(any(at > since for at in _starts(shop, worker)) for worker in workers)


SPOILED = {
    "latency": {"latency": 0.2, "jitter": 0.1},
    "one byte at a time": {"slices": 1},
    "black hole": {"black_hole": True},
    "closed in mid-message": {"closes_after": 3_000},
    "slow": {"rate": 10_000.0},
}


@on_every_pair
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


class Refusals:
    """What came of `delay` where it had to raise.

    Args:
        timeout: Seconds that the application gives a send.
    """

    def __init__(self, shop: Shop, timeout: float) -> None:
        self._shop = shop
        self._timeout = timeout
        self._errors: dict[str, BrokerError] = {}
        self._waits: list[float] = []

    def send(self, match: str | None = None) -> None:
        began = time.monotonic()
        with pytest.raises(BrokerError, match=match) as caught:
            self._shop.tasks.noop.delay(0)
        self._waits.append(time.monotonic() - began)
        text = str(caught.value)
        assert "guest:guest" not in text
        found = re.search(r"noop\[([^]]+)\]", text)
        assert found, f"names the task and its id: {text}"
        self._errors[found[1]] = caught.value

    def judge(self, what: str) -> None:
        """Once there is nothing left to do."""
        states = {}
        for task in self._errors:
            record = self._shop.app.records.get(task)
            states[task] = record and record.state
        sure = [task for task, error in self._errors.items() if error.nothing_stored]
        stored = [task for task, state in states.items() if state]
        report(
            f"{what}, {named(self._shop)}",
            f"{len(self._waits)} errors, the longest after {max(self._waits):.2f} s; "
            f"nothing stored said {len(sure)}, {len(stored)} were stored",
        )
        assert len(self._errors) == len(self._waits)
        assert max(self._waits) <= self._timeout + NOISE
        assert {*sure} & {*stored} == set(), "what is said not to be stored is not"
        assert {*states.values()} <= {State.SUCCESS, None}, "whole, or not at all"


@dataclass(frozen=True)
class Way:
    """To a server, through a network that can be spoiled."""

    server: Server
    proxy: Proxy


@pytest.fixture
def ways(engines: list[Server]) -> Iterator[list[Way]]:
    """To each server of the shop."""
    with ExitStack() as stack:
        yield [Way(each, stack.enter_context(Proxy(each.port))) for each in engines]


@on_every_pair
@pytest.mark.usefixtures("_flushing")
@pytest.mark.timeout(1200 if LONG else 120)
def test_a_send_to_a_broker_that_is_away_raises_in_time_and_stores_nothing_by_half(
    shop: Shop, engines: list[Server], ways: list[Way]
) -> None:
    """Down, and in a black hole; what raised is there as a whole later, or not at all."""
    timeout = 5.0 if LONG else 1.0
    way = shop.place.through({each.server.port: each.proxy.port for each in ways})
    shop.environment |= {**address(way), "SHOP_SEND_TIMEOUT": str(timeout)}
    shop.open()
    first = shop.tasks.noop.delay(0).id
    down, black_hole = Refusals(shop, timeout), Refusals(shop, timeout)
    turns = groups(engines)
    for number, victims in enumerate(turns):
        for each in victims:
            each.kill()
        for _ in range(-(-sizes(5, 100) // len(turns))):
            down.send()
        for each in victims:
            each.start()
        until(lambda: sent(shop, f"between-{number}"), what="a send that returns again")
    for victims in itertools.islice(itertools.cycle(turns), sizes(2, 100)):
        spoiled = [each.proxy for each in ways if each.server in victims]
        for proxy in spoiled:
            proxy.set(black_hole=True)
        black_hole.send()
        for proxy in spoiled:
            proxy.heal()
            proxy.reset_all()
    last = until(lambda: sent(shop, "after"), what="a send that returns again")
    shop.environment |= address(shop.place)
    shop.open()
    shop.work()
    shop.finish(first, last)
    shop.drain(within=patience(shop))
    down.judge("down")
    black_hole.judge("in a black hole")


@on("rabbitmq", "rabbitmq+redis", "rabbitmq+postgres", short=("rabbitmq",))
@pytest.mark.timeout(900 if LONG else 120)
def test_a_send_to_a_rabbitmq_without_memory_raises_in_time_and_stores_nothing_by_half(
    shop: Shop,
) -> None:
    """A Redis without memory: see T19."""
    server = shop.place.running
    assert isinstance(server, RabbitServer)
    timeout = 5.0 if LONG else 1.0
    shop.environment["SHOP_SEND_TIMEOUT"] = str(timeout)
    shop.open()
    first = shop.tasks.noop.delay(0).id
    refusals = Refusals(shop, timeout)
    server.alarm(True)
    try:
        for _ in range(sizes(5, 100)):
            refusals.send(match="memory")
    finally:
        server.alarm(False)
    last = until(lambda: sent(shop, "after"), what="a send that returns again")
    shop.work()
    shop.finish(first, last)
    shop.drain(within=patience(shop))
    refusals.judge("without memory")


def sent(shop: Shop, name: str) -> str | None:
    """The id of a task, once a send returns."""
    try:
        return str(shop.tasks.noop.apply_async((0,), task_id=name).id)
    except BrokerError:
        return None


LATE = 1.0
"""Seconds after its time in which a task starts, where the broker is there."""

WEIGHT, MANY = 500_000, sizes(30, 200)
"""Bytes of a task that is put off, and how many of them there are."""


@on(*SERVERS, short=("redis", "postgres"))
@pytest.mark.usefixtures("_flushing")
@pytest.mark.timeout(300 if LONG else 120)
def test_etas_survive_the_broker_and_fire_once(shop: Shop) -> None:
    """T28: the broker is killed before tasks are due, and again and again while they are. None of
    those that wait is in the memory of a worker."""
    server = shop.place.running
    worker = shop.work()
    warm = [shop.tasks.work.delay(0.0).id for _ in range(20)]
    shop.finish(*warm)
    empty = _resident(worker)
    count = sizes(50, 1_000)
    least, most = (3 * LEASE, 40.0) if LONG else (2.0, 5.0)
    kills = (3.0, 14.0, 18.0, 22.0, 26.0) if LONG else (1.0, 2.7)
    began = time.monotonic()
    heavy = [shop.tasks.keep.apply_async(("x" * WEIGHT,), countdown=most).id for _ in range(MANY)]
    due: dict[str, float] = {}
    for number in range(count):
        at = began + least + (most - least) * number / count
        task = shop.tasks.work.apply_async((0.0,), countdown=at - time.monotonic()).id
        moment = shop.record(task).due
        assert moment is not None
        due[task] = moment
    resident, killed, answered = [], [], []
    for at in kills:
        time.sleep(max(0.0, began + at - time.monotonic()))  # in which some become due
        resident.append(_resident(worker))
        killed.append(time.time())
        server.kill()
        server.start()
        answered.append(time.time())
    shop.drain(within=most + patience(shop))
    verdict = shop.check([*due, *heavy, *warm])
    starts = {x["task"]: x["wall"] for x in shop.history("start")}
    outages = [
        (away, min(at for at in starts.values() if at > there))
        for away, there in zip(killed, answered, strict=True)
    ]
    early = min(starts[task] - at for task, at in due.items())
    late = max(starts[task] - at for task, at in due.items())
    # Of what an outage has caught: what an answer that was lost has leased waits for that lease;
    # what RabbitMQ has in the ledger alone, until it finds that out.
    after = (20.0, 20.0) if shop.place.kind == "rabbitmq" else (LEASE + 2.0, LATE)
    unexplained = max(starts[task] - _latest(at, outages, *after) for task, at in due.items())
    calm = max((starts[task] - at for task, at in due.items() if at > outages[-1][1]), default=0.0)
    grown = max(resident) - empty
    report(
        f"ETAs, {shop.place.kind}",
        f"{verdict}; late by at most {late:.2f} s, after the last restart {calm:.2f} s; "
        f"workers grew by {grown / 1e6:.1f} MB while {MANY * WEIGHT / 1e6:.0f} MB waited",
    )
    assert verdict.violations == []
    assert verdict.starts == count + len(warm), "each once"
    assert any(at < killed[-1] for at in due.values()), "some are due while it is killed"
    assert early >= -0.05
    assert unexplained <= 0.0
    assert grown <= MANY * WEIGHT / 2


def _latest(due: float, outages: list[tuple[float, float]], leased: float, waiting: float) -> float:
    """When a task starts at the latest that is *due* at a time, the broker being away at others,
    each until a task started again: so many seconds after that if it may have been *leased*, and
    so many if it was still *waiting*."""
    latest = due + LATE
    for away, back in outages:
        if away < latest:
            latest = max(latest, back + (leased if due <= away else waiting))
    return latest


def _resident(worker: Worker) -> int:
    """Bytes of memory that *worker* and every process below it have to themselves."""
    pids = [worker.pid, *children(worker.pid), *worker.processes]
    return sum(
        1024 * int(line.split()[1])
        for pid in pids
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.startswith("Private_")
    )


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
    shop.drain(within=patience(shop))
    assert delays[-1] <= (1.0 if LONG else 1.5)


def resent(shop: Shop) -> str | None:
    """Send a task; its own connection may just have been closed, too."""
    try:
        return str(shop.tasks.work.delay(0.0).id)
    except BrokerError:
        return None
