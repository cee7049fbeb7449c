"""Fault cases: real workers, real SIGKILLs, judged by the seven rules of the checker.

``make test`` runs short forms; ``ACKED_LONG=1`` (``make chaos``) the long ones.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from acked.delivery import State
from acked.worker.template import MARK
from tests.harness import history
from tests.harness.places import BROKERS
from tests.harness.workers import alive, until
from tests.worker.conftest import Shop, on, on_every_broker
from tests.worker.forms import LEASE, LONG, report, sizes

pytestmark = pytest.mark.chaos


def send_work(shop: Shop, count: int, seed: int = 1) -> list[str]:
    """Tasks of 1 to 20 ms."""
    roll = random.Random(seed)
    calls = [(roll.uniform(0.001, 0.02),) for _ in range(count)]
    return [r.id for r in shop.tasks.work.delay_many(calls)]


@pytest.mark.kills
@on_every_broker
def test_killing_task_processes_at_random_loses_and_doubles_nothing(shop: Shop) -> None:
    """T01: kill -9 one of two task processes every 0.5 to 2 s while tasks drain."""
    roll = random.Random(os.urandom(4))
    worker = shop.work()
    ids = send_work(shop, sizes(600, 20_000))
    kills = 0
    # As often as it takes for some kills to fall into the short form.
    longest = 2.0 if LONG else 0.8
    while shop.waiting() > 20:
        time.sleep(roll.uniform(longest / 4, longest))
        if below := worker.processes:
            worker.kill_process(roll.choice(below))
            kills += 1
    shop.drain(within=2 * LEASE + 10)
    verdict = shop.check(ids)
    report(f"kill storm, {kills} kills, {shop.place.kind}", verdict)
    assert verdict.violations == []
    assert kills >= 3
    assert verdict.duplicates <= kills
    assert max(verdict.recovered_after, default=0.0) <= 2.0
    if LONG:
        assert verdict.p99 <= 1.0


@pytest.mark.kills
@on_every_broker
def test_killing_whole_workers_loses_and_doubles_nothing(shop: Shop) -> None:
    """T02: kill -9 supervisor and children at once; a second supervisor lives."""
    roll = random.Random(os.urandom(4))
    workers = [shop.work(processes=1), shop.work(processes=1)]
    ids = send_work(shop, sizes(700, 10_000))
    kills = 0
    while shop.waiting() > 50 and kills < sizes(3, 30):
        time.sleep(roll.uniform(0.3, 0.8))
        victim, survivor = workers
        survivor.ready()
        victim.kill_tree()
        kills += 1
        workers = [survivor, shop.work(processes=1, wait=False)]
    shop.drain(within=60 + 2 * LEASE + 10)
    verdict = shop.check(ids)
    report(f"tree kill, {kills} kills, {shop.place.kind}", verdict)
    assert verdict.violations == []
    assert kills >= 3
    assert max(verdict.recovered_after, default=0.0) <= 2.0, shop.slow_restarts(2.0)
    if LONG:
        assert verdict.p99 <= 1.0, shop.slow_restarts(1.0)


@on(*BROKERS, short=("sqlite", "postgres"))
def test_a_lease_is_kept_whatever_a_task_does_to_its_process(shop: Shop) -> None:
    """T05: tasks that hold the GIL in C, block the event loop, burn CPU at nice 19, for five
    leases, beside busy processes."""
    shop.environment |= {"SHOP_LEASE": "0.6", "SHOP_HEARTBEAT": "0.15"}
    shop.open()
    shop.work(processes=8)
    ids = []
    for _ in range(sizes(1, 25)):
        ids += [
            shop.tasks.hog.delay("gil", 3.0).id,
            shop.tasks.hog_loop.delay(3.0).id,
            shop.tasks.nice_hog.delay(3.0).id,
            shop.tasks.hog.delay("loop", 3.0).id,
        ]
    shop.drain(within=120 if not LONG else 900)
    verdict = shop.check(ids)
    report(f"GIL hog, {shop.place.kind}", verdict)
    assert verdict.violations == []
    assert verdict.starts == len(ids)


@pytest.mark.kills
@on_every_broker
def test_poison_is_stopped_and_innocents_are_not_charged(shop: Shop) -> None:
    """T07: five tasks that SIGKILL their process among innocents, 8 threads in each process."""
    shop.work("--threads", "8")
    poison: list[str] = []
    ids: list[str] = []
    for part in range(5):
        ids += send_work(shop, sizes(60, 200), seed=part)
        poison.append(shop.tasks.kill_own_process.delay().id)
    shop.drain(within=60)
    verdict = shop.check(ids + poison, poison=frozenset(poison))
    report(f"poison, {shop.place.kind}", verdict)
    assert verdict.violations == []
    for one in poison:
        assert shop.starts(one) == 3
        assert "SIGKILL" in shop.record(one).reason
    for one in ids:
        record = shop.record(one)
        assert (record.losses, record.retries, record.attempt) == (0, 0, 1)


WAYS = {
    "SIGKILL": (State.FAILURE, "WorkerLostError"),
    "SIGSEGV": (State.FAILURE, "WorkerLostError"),
    "SIGABRT": (State.FAILURE, "WorkerLostError"),
    "SIGTERM": (State.SUCCESS, ""),
    "os._exit": (State.FAILURE, "WorkerLostError"),
    "sys.exit": (State.FAILURE, "SystemExit"),
    "MemoryError": (State.FAILURE, "MemoryError"),
    "SIGKILL with much memory": (State.FAILURE, "WorkerLostError"),
    "RecursionError": (State.FAILURE, "RecursionError"),
    "BaseException": (State.FAILURE, "BaseException"),
    "CancelledError": (State.FAILURE, "CancelledError"),
    "bad __str__": (State.FAILURE, "BadText"),
    "100 MiB text": (State.FAILURE, "ValueError"),
    "unserialisable": (State.FAILURE, "NotSendable"),
    "stdout closed": (State.SUCCESS, ""),
    "thread left": (State.SUCCESS, ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_die_ends_in_the_state_the_table_names(shop: Shop, way: str) -> None:
    """T08: sixteen ways to end; the worker serves the next task within a second.

    One of them is what the kernel does to a process that has too much memory, done by the task
    itself: a limit of real memory is the machine's to set, by cgroups of one version or the other.
    """
    worker = shop.work(processes=1)
    wanted, failure = WAYS[way]
    ids: list[str] = []
    waits: list[float] = []
    for _ in range(sizes(2, 50)):
        result = shop.tasks.die.delay(way)
        (record,) = shop.finish(result.id, within=40)
        assert record.state is wanted, record.reason
        if failure:
            assert record.failure is not None
            assert failure in record.failure.type
            assert len(record.failure.message) < 20_000
        ids.append(result.id)
        following = time.monotonic()
        shop.tasks.noop.delay(1).get(timeout=10)
        waits.append(time.monotonic() - following)
    lost = frozenset(ids if failure == "WorkerLostError" else ())
    verdict = shop.check(ids, expect=wanted, poison=lost)
    report(f"{way}, the next task after {max(waits):.3f} s at most", verdict)
    assert verdict.violations == []
    assert max(waits) <= (1.0 if LONG else 10.0)
    assert worker.process.poll() is None


@pytest.mark.kills
@on(*BROKERS, short=("sqlite", "postgres"))
def test_rolling_restarts_lose_and_double_nothing(shop: Shop) -> None:
    """T09: SIGTERM restarts under load; then some whose grace is cut short by SIGKILL."""
    ids = send_work(shop, sizes(600, 20_000))
    keeper = shop.work(processes=1)
    for _ in range(sizes(2, 50)):
        worker = shop.work(processes=1)
        time.sleep(0.3)  # of work before the next restart
        assert worker.stop() == 0
    verdict_so_far = shop.history("start")
    assert len({line["task"] for line in verdict_so_far}) == len(verdict_so_far)
    for _ in range(sizes(1, 10)):
        worker = shop.work("--grace", "0.01", processes=1)
        time.sleep(0.3)  # as above
        for pid in worker.processes:
            history.note("kill", victim=pid)
        worker.stop()
    shop.drain(within=300 if LONG else 60)
    verdict = shop.check(ids)
    report(f"rolling restart, {shop.place.kind}", verdict)
    assert verdict.violations == []
    for one in ids:
        assert shop.record(one).losses == 0, "a restart is no loss"
    keeper.stop()


@pytest.mark.parametrize("how", ["plain", "session", "daemon"])
@pytest.mark.parametrize("end", ["limit", "kill"])
def test_what_a_task_started_dies_with_it(shop: Shop, how: str, end: str) -> None:
    """T11: descendants, even in a session of their own or daemonized, are gone within 2 s."""
    worker = shop.work(processes=1)
    for _ in range(sizes(2, 34)):
        result = shop.tasks.spawns.apply_async((how,), time_limit=0 if end == "kill" else 1.0)
        (spawned, *_) = until(
            lambda: [x for x in shop.history("spawned") if x["task"] == result.id],
            what="descendant",
        )
        process = spawned["pid"]
        descendants = until(lambda: _sleepers(process), what="a descendant that sleeps")
        if end == "kill":
            worker.kill_process(process)
            result.revoke()
        else:
            until(lambda: not alive(process), what="the limit")
        until(
            lambda: not [pid for pid in descendants if alive(pid)], within=2.0,
            what="no descendants",
        )  # fmt: skip
        shop.finish(result.id)


def _sleepers(process: int) -> list[int]:
    """Every process that a task of *process* has started to sleep, wherever it stands by now."""
    mark = f"{MARK}={process}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                if b"time.sleep(60" in command and mark in environment:
                    found.append(int(name))
    return found


@pytest.mark.kills
@on(*BROKERS, short=("sqlite", "redis"))
def test_the_death_of_the_supervisor_alone_leaves_no_second_owner(shop: Shop) -> None:
    """T12: kill -9 the supervisor; its processes end at once and another worker takes over."""
    shop.work(processes=1)
    ids = send_work(shop, sizes(400, 6_000))
    for _ in range(sizes(2, 30)):
        victim = shop.work(processes=2)
        time.sleep(0.2)  # of work before its supervisor dies
        below = [*victim.processes, victim.template]
        for pid in below:
            history.note("kill", victim=pid)
        os.kill(victim.pid, signal.SIGKILL)
        victim.process.wait(10)
        until(
            lambda: not any(alive(pid) for pid in below if pid), within=LEASE, what="children end"
        )
    shop.drain(within=180 if LONG else 60)
    verdict = shop.check(ids)
    report(f"supervisor death, {shop.place.kind}", verdict)
    assert verdict.violations == []


def test_a_worker_that_was_stopped_and_woken_cannot_settle(shop: Shop) -> None:
    """SIGSTOP for longer than the lease: others take over, and the late outcome is refused."""
    shop.environment |= {"SHOP_LEASE": "1", "SHOP_HEARTBEAT": "0.2"}
    shop.open()
    frozen = shop.work(processes=1)
    result = shop.tasks.work.delay(1.0)
    shop.started(result.id)
    whole = [frozen.pid, frozen.template, *frozen.processes]
    for pid in whole:
        os.kill(pid or 0, signal.SIGSTOP)
    shop.work(processes=1)
    (record,) = shop.finish(result.id)
    token = record.token
    for pid in whole:
        os.kill(pid or 0, signal.SIGCONT)
    until(lambda: "lease lost" in frozen.output(), what="the late settlement is refused")
    assert shop.record(result.id).token == token
    assert shop.starts(result.id) == 2
    assert "its lease ran out" in shop.app.records.attempts(result.id)[0].reason


def test_long_etas_survive_restarts_and_fire_once(shop: Shop) -> None:
    """T28: ETAs of many leases, and the worker restarted all the while."""
    shop.environment |= {"SHOP_LEASE": "0.6", "SHOP_HEARTBEAT": "0.15"}
    shop.open()
    sent = [
        shop.tasks.work.apply_async((0.0,), countdown=2 + (n % 40) / 10).id
        for n in range(sizes(100, 1000))
    ]
    for _ in range(5):
        worker = shop.work(processes=1)
        time.sleep(0.4)  # in which some become due
        worker.kill_tree()
    shop.work()
    shop.drain(within=60)
    verdict = shop.check(sent)
    report(f"long ETA, {shop.place.kind}", verdict)
    assert verdict.violations == []
