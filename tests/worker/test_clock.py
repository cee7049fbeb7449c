"""T27: the wall clock of the host is set while tasks run and wait."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from acked.delivery import State
from tests.harness.workers import ROOT, until
from tests.worker.conftest import Shop
from tests.worker.forms import sizes

pytestmark = pytest.mark.chaos
HOUR = 3600.0


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

    def jump(self, seconds: float) -> None:
        # In one step: a reader must not find the file empty.
        draft = self._file.with_suffix(".new")
        draft.write_text(str(float(self._file.read_text()) + seconds))
        draft.rename(self._file)


@pytest.fixture
def wall(shop: Shop, tmp_path: Path) -> Wall:
    return Wall(shop, tmp_path / "clock")


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, 10 * 365 * 24 * HOUR])
def test_a_jump_of_the_clock_redelivers_nothing_that_runs(
    shop: Shop, wall: Wall, seconds: float
) -> None:
    shop.work("--threads", "20")
    results = shop.tasks.work.delay_many([(4.0,)] * sizes(40, 200))
    until(lambda: len(shop.history("start")) >= 40, what="40 running")
    wall.jump(seconds)
    shop.finish(*(r.id for r in results), within=90)
    verdict = shop.check([r.id for r in results])
    assert verdict.violations == []
    assert verdict.starts == len(results)


def test_what_is_due_fires_within_a_second_of_the_clock(shop: Shop, wall: Wall) -> None:
    shop.work()
    results = [shop.tasks.work.apply_async((0.0,), countdown=HOUR) for _ in range(sizes(100, 1000))]
    time.sleep(1.5)
    assert shop.history("start") == []
    jumped = time.monotonic()
    wall.jump(HOUR)
    shop.finish(*(r.id for r in results), within=30)
    first = shop.history("start")[0]["at"]
    assert first - jumped <= 1.5
    assert {shop.starts(r.id) for r in results} == {1}


def test_a_clock_set_back_makes_nothing_early_and_nothing_stuck(shop: Shop, wall: Wall) -> None:
    shop.work(processes=1)
    soon = shop.tasks.work.apply_async((0.0,), countdown=2)
    wall.jump(-HOUR)
    now = shop.tasks.noop.delay(1)
    assert now.get(timeout=10) == 1
    time.sleep(2.5)
    assert shop.record(soon.id).state is State.SCHEDULED, "it is due by the clock, an hour from now"
    wall.jump(HOUR)
    assert shop.finish(soon.id)[0].state is State.SUCCESS


def test_a_clock_set_forward_does_not_delete_results(shop: Shop, wall: Wall) -> None:
    shop.work(processes=1)
    done = shop.tasks.noop.delay(5)
    done.get(timeout=10)
    wall.jump(10 * 365 * 24 * HOUR)
    time.sleep(1.5)
    shop.finish(shop.tasks.noop.delay(6).id)
    assert done.get(timeout=1) == 5
