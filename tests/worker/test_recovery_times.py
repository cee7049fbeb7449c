"""P3: how soon what was running runs again, measured on every broker and printed."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.harness import history
from tests.harness.places import BROKERS
from tests.harness.workers import Worker, until
from tests.worker.conftest import HOSTS, Shop, on
from tests.worker.forms import LEASES, LONG, SHORT_LEASE, report, sizes

pytestmark = pytest.mark.chaos
BOUND = 1.0
"""Seconds from a kill on this host to the new start."""

BUSY = 1.0


def restarts(shop: Shop, name: str, waits: list[float], *, bound: float) -> None:
    waits.sort()
    report(
        f"{name}, {shop.place.kind}",
        f"{len(waits)} kills, to restart p50 {waits[len(waits) // 2]:.3f} s, "
        f"p99 {waits[len(waits) * 99 // 100]:.3f} s, max {waits[-1]:.3f} s",
    )
    assert waits[len(waits) * 99 // 100] <= bound
    assert waits[-1] <= 2 * bound


def beat_often(shop: Shop) -> None:
    """Let revocations, with which each round ends, arrive soon."""
    shop.environment |= {"SHOP_LEASE": "10", "SHOP_HEARTBEAT": "0.2"}
    shop.open()


def starts_again(shop: Shop, task_id: str, times: int) -> float:
    """When *task_id* started for the time number *times*."""
    shop.started(task_id, times)
    return [x["at"] for x in shop.history("start") if x["task"] == task_id][times - 1]


@on(*BROKERS, short=("sqlite", "postgres"))
def test_the_task_of_a_killed_process_runs_again_within_a_second(shop: Shop) -> None:
    beat_often(shop)
    worker = shop.work()
    waits = []
    for _ in range(sizes(5, 100)):
        result = shop.tasks.work.delay(60.0)
        first = starts_again(shop, result.id, 1)
        victim = next(x["pid"] for x in shop.history("start") if x["task"] == result.id)
        worker.kill_process(victim)
        killed = shop.history("kill")[-1]["at"]
        waits.append(starts_again(shop, result.id, 2) - killed)
        assert killed > first
        result.revoke(terminate=True)
        shop.finish(result.id)
    restarts(shop, "killed process", waits, bound=BOUND)


@on(*BROKERS, short=("sqlite", "rabbitmq"))
def test_the_task_of_a_killed_worker_runs_again_within_a_second(shop: Shop) -> None:
    """On one host: the kernel drops the lock of its presence file."""
    beat_often(shop)
    waits = []
    survivor = shop.work(processes=1)
    for _ in range(sizes(2, 30)):
        result = shop.tasks.work.delay(60.0)
        shop.started(result.id)
        spare = shop.work(processes=1)
        survivor.kill_tree()
        killed = shop.history("kill")[-1]["at"]
        waits.append(starts_again(shop, result.id, 2) - killed)
        result.revoke(terminate=True)
        shop.finish(result.id)
        survivor = spare
    restarts(shop, "killed worker", waits, bound=BOUND)


@on(*BROKERS, short=("redis", "postgres"))
def test_the_task_of_the_only_worker_runs_again_within_a_second_of_another_being_ready(
    shop: Shop,
) -> None:
    """How soon a new worker is ready is the machine's and the application's to say: counted is
    from its own word."""
    beat_often(shop)
    waits = []
    worker = shop.work(processes=1)
    for _ in range(sizes(1, 30)):
        result = shop.tasks.work.delay(60.0)
        shop.started(result.id)
        worker.kill_tree()
        worker = shop.work(processes=1, wait=False)
        shop.started(result.id, 2)
        again = [x["wall"] for x in shop.history("start") if x["task"] == result.id][1]
        waits.append(again - said_ready(worker))
        result.revoke(terminate=True)
        shop.finish(result.id)
    restarts(shop, "killed worker, another one started", waits, bound=BOUND)


def said_ready(worker: Worker) -> float:
    """When *worker* said that it is, wall clock."""
    said = until(
        lambda: [x for x in worker.output().splitlines() if " ready: app " in x], what="its word"
    )
    date, moment, *_ = said[0].split()
    return datetime.fromisoformat(f"{date} {moment}").timestamp()


@on(*HOSTS, short=("redis",))
@pytest.mark.timeout(900 if LONG else 120)
def test_the_task_of_a_vanished_host_runs_again_within_its_lease_and_a_heartbeat(
    shop: Shop,
) -> None:
    lease, heartbeat = LEASES.get(shop.place.kind, SHORT_LEASE)
    shop.environment |= {"SHOP_LEASE": str(lease), "SHOP_HEARTBEAT": str(heartbeat)}
    shop.open()
    elsewhere = shop.directory / "elsewhere"
    elsewhere.mkdir()
    waits = []
    for _ in range(sizes(1, 10)):
        detour = shop.detour()
        vanishing = shop.work(
            processes=1,
            environment={**detour.environment, "ACKED_RUNTIME_DIR": str(elsewhere)},
        )  # fmt: skip
        result = shop.tasks.work.delay(60.0)
        shop.started(result.id)
        rescuer = shop.work(processes=1)
        (victim,) = vanishing.processes
        history.note("cut", victim=victim)
        detour.set(black_hole=True)
        cut = shop.history("cut")[-1]["at"]
        waits.append(starts_again(shop, result.id, 2) - cut)
        vanishing.kill_tree()
        result.revoke(terminate=True)
        shop.finish(result.id)
        rescuer.stop()
        until(lambda: not rescuer.processes, what="the end of the rescuer")
    restarts(shop, "vanished host", waits, bound=lease + heartbeat + BUSY)
