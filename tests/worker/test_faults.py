"""Fault cases: real workers, real SIGKILLs, judged by the seven rules of the checker.

``make test`` runs short forms; ``ACKED_LONG=1`` (``make chaos``) the long ones.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from acked.delivery import State
from acked.worker.memory import resident_kib
from acked.worker.template import MARK
from tests.harness import history
from tests.harness.memory_limit import memory_group
from tests.harness.places import BROKERS
from tests.harness.workers import Worker, alive, until
from tests.worker.conftest import Shop, on, on_every_broker
from tests.worker.forms import LEASE, LONG, report, sizes
from tests.worker.test_clock import Wall

pytestmark = pytest.mark.chaos


def send_work(shop: Shop, count: int, seed: int = 1) -> list[str]:
    """Tasks of 1 to 20 ms."""
    roll = random.Random(seed)
    calls = [(roll.uniform(0.001, 0.02),) for _ in range(count)]
    return [r.id for r in shop.tasks.work.delay_many(calls)]


def cut_short(shop: Shop) -> set[str]:
    """Tasks that began in a process that was killed, and did not come to their end in it."""
    lines = shop.history()
    killed = {line["victim"] for line in lines if line["event"] == "kill"}
    begun = {(x["task"], x["pid"]) for x in lines if x["event"] == "start"}
    ended = {(x["task"], x["pid"]) for x in lines if x["event"] == "end"}
    return {task for task, pid in begun - ended if pid in killed}


def see_them_end(pids: Sequence[int]) -> None:
    """Wait until none of *pids* is there, and write down until when each of them was."""

    def gone() -> bool:
        left = False
        for pid in pids:
            looked = time.monotonic()
            if alive(pid):
                history.note("lives", victim=pid, at=looked)
                left = True
        return not left

    until(gone, within=LEASE, what="their end")


@pytest.mark.kills
@on_every_broker
def test_killing_task_processes_at_random_loses_and_doubles_nothing(shop: Shop) -> None:
    """T01: kill -9 one of two task processes every 0.5 to 2 s while tasks drain."""
    roll = random.Random(os.urandom(4))
    shop.environment |= history.NOTED
    worker = shop.work()
    ids = send_work(shop, sizes(600, 20_000))
    kills = 0
    # As often as it takes for some kills to fall into the short form.
    longest = 2.0 if LONG else 0.8
    while shop.waiting() > 20 or kills < 3 or not cut_short(shop):
        if shop.waiting() <= 20:
            ids += send_work(shop, 200)
        time.sleep(roll.uniform(longest / 4, longest))
        if below := worker.processes:
            worker.kill_process(roll.choice(below))
            kills += 1
    shop.drain(within=2 * LEASE + 10)
    verdict = shop.check(ids)
    report(f"kill storm, {kills} kills, {shop.place.kind}", verdict)
    assert verdict.violations == []
    assert sizes(1, kills // 5) <= verdict.duplicates <= kills, "kills hit what runs"
    assert max(verdict.recovered_after) <= 2.0
    if LONG:
        assert verdict.p99 <= 1.0


@pytest.mark.kills
@on_every_broker
def test_killing_whole_workers_loses_and_doubles_nothing(shop: Shop) -> None:
    """T02: kill -9 supervisor and children at once; a second supervisor lives."""
    roll = random.Random(os.urandom(4))
    shop.environment |= history.NOTED
    workers = [shop.work(processes=1), shop.work(processes=1)]
    ids = send_work(shop, sizes(700, 10_000))
    kills = 0
    while kills < sizes(3, 30) or not cut_short(shop):
        if shop.waiting() <= 100:
            ids += send_work(shop, 200)
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
    assert len(verdict.recovered_after) >= sizes(1, kills // 5), "kills hit what runs"
    assert max(verdict.recovered_after) <= 2.0, shop.slow_restarts(2.0)
    if LONG:
        assert verdict.p99 <= 1.0, shop.slow_restarts(1.0)


@on(*BROKERS, short=("sqlite", "postgres"))
def test_a_lease_is_kept_whatever_a_task_does_to_its_process(shop: Shop) -> None:
    """T05: tasks that hold the GIL in C, block the event loop, burn CPU at nice 19, for five
    leases, beside busy processes. A second worker, which has nothing else to do, would take over
    at once what has no lease."""
    # The long form keeps the cores full for long, so that a beat now and then is very late.
    lease, heartbeat = float(sizes(1, 2)), 0.1
    shop.environment |= {"SHOP_LEASE": str(lease), "SHOP_HEARTBEAT": str(heartbeat)}
    shop.open()
    elsewhere = shop.directory / "elsewhere"
    elsewhere.mkdir()
    shop.work(
        "-Q", "another", processes=1, environment={"ACKED_RUNTIME_DIR": str(elsewhere)}
    )  # fmt: skip
    (idle,) = (each.worker for each in shop.app.records.workers())
    shop.work(processes=8)
    ids = []
    for _ in range(sizes(1, 25)):
        ids += [
            shop.tasks.hog.delay("gil", 5 * lease).id,
            shop.tasks.hog_loop.delay(5 * lease).id,
            shop.tasks.nice_hog.delay(5 * lease).id,
            shop.tasks.hog.delay("loop", 5 * lease).id,
        ]
    left: list[float] = []
    behind: list[float] = []

    def ended() -> bool:
        leases = {each.worker: each.lease_left for each in shop.app.records.workers()}
        beside = leases.pop(idle, None)
        left.extend(leases.values())
        if beside is not None:  # else it was so late itself that its lease was taken away
            behind.extend(beside - each for each in leases.values())
        return all(c.queued == c.running == 0 for c in shop.app.records.counts())

    until(ended, within=120 if not LONG else 900, what="the end of all")
    verdict = shop.check(ids)
    behind.sort()
    usual = behind[len(behind) * 9 // 10]
    report(
        f"GIL hog, {shop.place.kind}, {min(left):.2f} s of a lease left at the least, {usual:.2f} "
        "s less than an idle worker's at 9 of 10 looks or less", verdict,
    )  # fmt: skip
    assert verdict.violations == []
    assert verdict.starts == len(ids)
    # What keeps the beats of both is the machine; what keeps only the busy one's are its tasks.
    assert usual < 4 * heartbeat, "renewals come with each heartbeat"


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
        *_, last = (x["pid"] for x in shop.history("dies") if x["task"] == one)
        assert f"signal 9 (SIGKILL), pid {last}" in shop.record(one).reason
    for one in ids:
        record = shop.record(one)
        assert (record.losses, record.retries, record.attempt) == (0, 0, 1)


MEMORY = 32 * 1024 * 1024
"""Half of what a task takes that dies of it."""

WAYS = {
    "SIGKILL": (State.FAILURE, "WorkerLostError"),
    "SIGSEGV": (State.FAILURE, "WorkerLostError"),
    "SIGABRT": (State.FAILURE, "WorkerLostError"),
    "SIGTERM": (State.SUCCESS, ""),
    "os._exit": (State.FAILURE, "WorkerLostError"),
    "sys.exit": (State.FAILURE, "SystemExit"),
    "MemoryError": (State.FAILURE, "MemoryError"),
    "out of memory": (State.FAILURE, "WorkerLostError"),
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
    """T08: sixteen ways to end; the worker serves the next task within a second."""
    with memory_group(MEMORY) if way == "out of memory" else nullcontext() as limit:
        if limit is not None:
            shop.environment["SHOP_MEMORY_GROUP"] = str(limit.processes)
        killed = die(shop, way)
        if way == "out of memory":
            report(way, "by the kernel" if limit else "acted: no memory group can be made here")
        if limit is not None:
            assert limit.kills() == killed


def die(shop: Shop, way: str) -> int:
    """Let tasks end in this way, and look at what comes of it; how many processes it took."""
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
    return len(shop.history("dies"))


@pytest.mark.kills
@on(*BROKERS, short=("sqlite", "postgres"))
def test_rolling_restarts_lose_and_double_nothing(shop: Shop) -> None:
    """T09: SIGTERM restarts under load; then some whose grace is cut short by SIGKILL."""
    shop.environment |= history.NOTED
    ids = send_work(shop, sizes(600, 20_000))
    keeper = shop.work(processes=1)
    for _ in range(sizes(2, 50)):
        if shop.waiting() <= 100:
            ids += send_work(shop, 200)
        worker = shop.work(processes=1)
        time.sleep(0.3)  # of work before the next restart
        assert worker.stop() == 0
    verdict_so_far = shop.history("start")
    assert len({line["task"] for line in verdict_so_far}) == len(verdict_so_far)
    cut: set[str] = set()
    for _ in range(sizes(1, 10)):
        worker = shop.work(processes=1)
        # One for the keeper, one for this worker, and before whatever else is waiting.
        long = [shop.tasks.work.apply_async((1.5,), priority=9).id for _ in range(2)]
        ids += long
        (process,) = worker.processes
        until(lambda: runs(shop, process) in long, what="a task that it will not finish in time")
        worker.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping, 25 s for running tasks" in worker.output(), what="its word")
        worker.kill_tree()
        cut |= cut_short(shop)
    if LONG:
        shop.work()  # the keeper alone would take minutes for what is left
    shop.drain(within=300 if LONG else 60)
    verdict = shop.check(ids)
    report(f"rolling restart, {len(cut)} tasks cut short, {shop.place.kind}", verdict)
    assert verdict.violations == []
    assert verdict.duplicates == len(cut) == sizes(1, 10)
    for one in set(ids) - cut:
        assert shop.record(one).losses == 0, "a restart is no loss"
    keeper.stop()


def runs(shop: Shop, pid: int) -> str | None:
    """What process *pid*, which does one thing at a time, is doing."""
    lines = history.read(shop.history_file, last=100_000)
    own = [x for x in lines if x["pid"] == pid and x["event"] in ("start", "end")]
    return own[-1]["task"] if own and own[-1]["event"] == "start" else None


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
    shop.environment |= history.NOTED
    shop.work(processes=1)
    ids = send_work(shop, sizes(400, 6_000))
    kills = 0
    while kills < sizes(2, 30) or not cut_short(shop):
        if shop.waiting() <= 200:
            ids += send_work(shop, 200)
        victim = shop.work(processes=2)
        time.sleep(0.2)  # of work before its supervisor dies
        below = [*victim.processes, victim.template or 0]
        # They die of it, in their own time.
        for pid in below:
            history.note("kill", victim=pid)
        os.kill(victim.pid, signal.SIGKILL)
        kills += 1
        see_them_end(below)
        victim.process.wait(10)
    shop.drain(within=180 if LONG else 60)
    verdict = shop.check(ids)
    report(f"supervisor death, {kills} kills, {shop.place.kind}", verdict)
    assert verdict.violations == []
    assert len(verdict.recovered_after) >= sizes(1, kills // 5), "the deaths hit what runs"


def test_a_worker_that_was_stopped_and_woken_cannot_settle(shop: Shop) -> None:
    """SIGSTOP for longer than the lease: others take over, and the late outcome is refused."""
    shop.environment |= {"SHOP_LEASE": "1", "SHOP_HEARTBEAT": "0.2", **history.NOTED}
    shop.open()
    frozen = shop.work(processes=1)
    result = shop.tasks.work.delay(1.0)
    shop.started(result.id)
    whole = [frozen.pid, frozen.template, *frozen.processes]
    for process in frozen.processes:
        history.note("cut", victim=process)
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
    late = [each for line in shop.history("settled") for each in line["refused"]]
    assert [task for task, *_ in late] == [result.id]
    assert shop.check([result.id], lease=0.8).violations == []


DAY = 24 * 3600.0
LUGGAGE = 10 * 1024
"""KiB that all the tasks together have with them."""


def test_long_etas_survive_restarts_and_fire_once(shop: Shop, tmp_path: Path) -> None:
    """T28: ETAs of three leases to a day, the clock set forward from one to the next, and whoever
    had the file open killed all the while."""
    wall = Wall(shop, tmp_path / "clock")
    count, parts = sizes(100, 1000), 5
    least = 3 * float(shop.environment["SHOP_LEASE"])
    due = [least + (DAY - least) * n / (count - 1) for n in range(count)]
    worker = shop.work(processes=1)
    before = memory(worker)
    luggage = "x" * (LUGGAGE * 1024 // count)
    sent = time.monotonic()
    tasks = [shop.tasks.work_with.s(luggage).set(countdown=each) for each in due]
    ids = [result.id for result in shop.app.send_many(tasks)]
    held, ahead = 0, 0.0
    for part in range(1, parts + 1):
        shop.finish(shop.tasks.noop.delay(part).id)  # it has looked at what there is
        held = max(held, memory(worker) - before)
        ready = ids[: count * part // parts]
        # Halfway to the next one: what the test takes meanwhile makes nothing due.
        target = due[len(ready) - 1] + (DAY - least) / (count - 1) / 2
        step = target - (time.monotonic() - sent) - ahead
        wall.jump(step)
        ahead += step
        shop.finish(*ready)
        assert {line["task"] for line in shop.history("start")} == set(ready)
        worker.kill_tree()
        worker = shop.work(processes=1)
    shop.drain(within=60)
    verdict = shop.check(ids)
    report(f"long ETA, {held} KiB more in the worker with {LUGGAGE} KiB waiting", verdict)
    assert verdict.violations == []
    assert verdict.starts == count
    assert held < LUGGAGE / 2


def memory(worker: Worker) -> int:
    """Resident memory of the supervisor, the fork server and the processes together, KiB."""
    below = [worker.pid, worker.template or 0, *worker.processes]
    return sum(resident_kib(pid) for pid in below)
