"""T27: the wall clock of a host is set while tasks run and wait: of the workers', of a producer's,
of the broker's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from acked.delivery import State
from tests.harness.places import BROKERS, Servers
from tests.harness.workers import ROOT, until
from tests.servers.clock import HostClock
from tests.worker.conftest import Shop, on, on_every_host
from tests.worker.forms import LONG, sizes

pytestmark = pytest.mark.chaos
HOUR = 3600.0
LATE = 1.0 if LONG else 1.5
"""Seconds after its time within which something due starts; more where two files run at once."""

YEARS = 10 * 365 * 24 * HOUR
JUMPS = {"an hour back": -HOUR, "ten years on": YEARS, **({"an hour on": HOUR} if LONG else {})}


class Wall:
    """The wall clock of the workers of one test."""

    def __init__(self, shop: Shop, file: Path) -> None:
        self._file = file
        file.write_text("0")
        shop.environment |= {
            "ACKED_TEST_CLOCK": str(file),
            "ACKED_TEST_PATH": str(ROOT / "tests" / "harness" / "shifted_time"),
            "SHOP_LEASE": "1", "SHOP_HEARTBEAT": "0.2",
        }  # fmt: skip
        shop.open()
        self.true = {"ACKED_TEST_PATH": ""}
        """The environment of a worker whose clock is right."""

    def jump(self, seconds: float) -> None:
        # In one step: a reader must not find the file empty.
        draft = self._file.with_suffix(".new")
        draft.write_text(str(float(self._file.read_text()) + seconds))
        draft.rename(self._file)


@pytest.fixture
def wall(shop: Shop, tmp_path: Path) -> Wall:
    return Wall(shop, tmp_path / "clock")


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS)
@on(*BROKERS, short=("sqlite", "redis"))
def test_a_jump_of_the_clock_redelivers_nothing_that_runs(
    shop: Shop, wall: Wall, seconds: float
) -> None:
    count = sizes(40, 1_000)
    shop.work("--coroutines", str(count // 2))
    # Longer than it takes for all to have started.
    results = shop.tasks.work_async.delay_many([(sizes(2, 15),)] * count)
    until(lambda: len(shop.history("start")) >= count, what=f"{count} running")
    wall.jump(seconds)
    ran_once(shop, [r.id for r in results])


def ran_once(shop: Shop, ids: list[str]) -> None:
    shop.finish(*ids, within=90)
    verdict = shop.check(ids)
    assert verdict.violations == []
    assert verdict.starts == len(ids)


def test_what_is_due_fires_within_a_second_of_the_clock(shop: Shop, wall: Wall) -> None:
    shop.work()
    results = [shop.tasks.work.apply_async((0.0,), countdown=HOUR) for _ in range(sizes(100, 1000))]
    time.sleep(1.5)  # several looks of the worker at what is due, which it must leave alone
    assert shop.history("start") == []
    jumped = time.monotonic()
    wall.jump(HOUR)
    shop.finish(*(r.id for r in results), within=30)
    first = shop.history("start")[0]["at"]
    assert first - jumped <= LATE
    assert {shop.starts(r.id) for r in results} == {1}


def test_a_clock_set_back_makes_nothing_early_and_nothing_stuck(shop: Shop, wall: Wall) -> None:
    shop.work(processes=1)
    soon = shop.tasks.work.apply_async((0.0,), countdown=2)
    wall.jump(-HOUR)
    now = shop.tasks.noop.delay(1)
    assert now.get(timeout=10) == 1
    time.sleep(2.5)  # past its time, had the clock not been set back
    assert shop.record(soon.id).state is State.SCHEDULED, "it is due by the clock, an hour from now"
    wall.jump(HOUR)
    assert shop.finish(soon.id)[0].state is State.SUCCESS


def test_a_clock_set_forward_does_not_delete_results(shop: Shop, wall: Wall) -> None:
    shop.work(processes=1)
    done = shop.tasks.noop.delay(5)
    done.get(timeout=10)
    wall.jump(10 * 365 * 24 * HOUR)
    time.sleep(1.5)  # the upkeep that would delete it comes each second
    shop.finish(shop.tasks.noop.delay(6).id)
    assert done.get(timeout=1) == 5


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["an hour on", "an hour back"])
@on_every_host
def test_a_countdown_is_the_brokers_whatever_the_clock_of_its_sender(
    shop: Shop, wall: Wall, ahead: float
) -> None:
    wall.jump(ahead)
    shop.work(environment=wall.true)
    shop.produce("wrong", 20, countdown=1.5).wait(20)
    sent, _ = shop.produced()
    assert len(sent) == 20
    shop.finish(*sent)
    first = shop.history("start")[0]["at"]
    said = shop.history("sent")[0]
    assert 1.4 <= first - (said["at"] - said["took"]) <= 1.5 + 1.5


@pytest.fixture(params=["redis", "postgres"])
def moved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Shop, HostClock]]:
    """A shop on a server of its own, and the clock of that server's host."""
    clocks: list[HostClock] = []
    servers = Servers(lambda server: clocks.append(HostClock(server)))
    with ExitStack() as stack:
        stack.callback(servers.stop)
        shop = Shop(tmp_path, stack, servers.place(request.param, tmp_path))
        shop.environment |= {"SHOP_LEASE": "1", "SHOP_HEARTBEAT": "0.2"}
        shop.open()
        stack.callback(lambda: shop.app.close())
        yield shop, clocks[0]


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("moved", ["redis", "postgres", "rabbitmq"], indirect=True)
def test_a_jump_of_the_servers_clock_redelivers_nothing_that_runs(
    moved: tuple[Shop, HostClock], seconds: float
) -> None:
    shop, clock = moved
    count = sizes(20, 1_000)
    for _ in range(2):
        shop.work("--coroutines", str(count // 2), processes=1)
    results = shop.tasks.work_async.delay_many([(sizes(2, 15),)] * count)
    until(lambda: len(shop.history("start")) >= count, what=f"{count} running")
    clock.jump_to(seconds)
    ran_once(shop, [r.id for r in results])


def test_what_is_due_by_the_servers_clock_fires_within_a_second(
    moved: tuple[Shop, HostClock],
) -> None:
    shop, clock = moved
    shop.work()
    results = [shop.tasks.work.apply_async((0.0,), countdown=HOUR) for _ in range(sizes(100, 1000))]
    time.sleep(0.5)  # in which a worker that took them for due would have started them
    assert shop.history("start") == []
    jumped = time.monotonic()
    clock.jump_to(HOUR)
    ran_once(shop, [r.id for r in results])
    assert shop.history("start")[0]["at"] - jumped <= LATE


def test_a_servers_clock_set_back_makes_nothing_early_and_nothing_stuck(
    moved: tuple[Shop, HostClock],
) -> None:
    shop, clock = moved
    worker = shop.work(processes=1)
    soon = shop.tasks.work.apply_async((0.0,), countdown=2)
    clock.jump_to(-HOUR)
    assert shop.tasks.noop.delay(1).get(timeout=10) == 1
    running = shop.tasks.work.delay(3.0)
    shop.started(running.id)
    victim = shop.history("start")[-1]["pid"]
    worker.kill_process(victim)
    shop.started(running.id, 2)
    assert shop.record(soon.id).state is State.SCHEDULED, "it is due by the clock, an hour from now"
    clock.jump_to(0)
    shop.finish(soon.id, running.id)
    assert shop.check([soon.id, running.id]).violations == []
