"""A fork server that cannot fork, or that ends: what it costs the tasks that run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from acked.delivery import State
from tests.harness.privileges import need_root
from tests.harness.workers import ROOT, Worker, alive, until
from tests.worker.conftest import Shop


@pytest.fixture
def forks(shop: Shop) -> Path:
    """A file that says how forks fail, for as long as it is there."""
    says = shop.directory / "forks"
    shop.environment |= {
        "ACKED_TEST_PATH": str(ROOT / "tests" / "harness" / "failing_forks"),
        "FAILING_FORKS": str(says),
    }
    return says


def kill_idle(worker: Worker, shop: Shop) -> None:
    """Kill the task process that runs nothing."""
    busy = {line["pid"] for line in shop.history("start")}
    idle = next(pid for pid in worker.processes if pid not in busy)
    os.kill(idle, signal.SIGKILL)
    until(lambda: not alive(idle), what="its end")


def test_a_process_that_cannot_be_forked_is_tried_again_and_costs_no_task(
    shop: Shop, forks: Path
) -> None:
    worker = shop.work()
    template, running = worker.template, shop.tasks.work.delay(3.0)
    shop.started(running.id)
    forks.write_text("scarce")
    kill_idle(worker, shop)
    until(lambda: "again in 0.5 s" in worker.output(), what="it is tried ever more slowly")
    forks.unlink()

    until(lambda: len(worker.processes) == 2, what="the process is replaced")
    (record,) = shop.finish(running.id)
    assert (record.state, record.losses, shop.starts(running.id)) == (State.SUCCESS, 0, 1)
    assert worker.template == template


def test_hooks_wait_for_a_process_that_cannot_be_forked(shop: Shop, forks: Path) -> None:
    worker = shop.work(processes=1)
    forks.write_text("scarce")
    result = shop.tasks.hooked.apply_async(("hang",), time_limit=0.5)
    until(lambda: "again in" in worker.output(), what="no process")
    forks.unlink()

    shop.finish(result.id)
    until(lambda: any(x["hook"] == "on_failure" for x in shop.history("hook")), what="the hook")


def test_a_fork_server_that_fails_ends_whatever_threads_it_has(shop: Shop, forks: Path) -> None:
    worker = shop.work()
    template = worker.template
    assert template is not None
    forks.write_text("bug")
    kill_idle(worker, shop)
    until(lambda: not alive(template), what="the end of the fork server")
    forks.unlink()

    assert shop.tasks.noop.delay(4).get(timeout=20) == 4


def test_a_stop_does_not_wait_for_a_fork_server_that_hangs(shop: Shop, forks: Path) -> None:
    worker = shop.work()
    template, running = worker.template, shop.tasks.work.delay(60.0)
    assert template is not None
    shop.started(running.id)
    forks.write_text("hang")
    kill_idle(worker, shop)
    until(lambda: "to fail: hang" in worker.output(), what="the fork that hangs")

    assert worker.stop(signal.SIGQUIT, within=25) == 0
    assert not alive(template)
    assert shop.record(running.id).state is State.QUEUED


def test_a_stop_does_not_wait_for_an_application_that_is_imported(shop: Shop) -> None:
    worker = shop.work(wait=False, environment={"SHOP_IMPORTS_FOR": "60"})
    template = until(lambda: worker.template, what="the fork server")
    assert template is not None
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 5, "well before the patience of 10 s"
    assert not alive(template)


WITHOUT_THE_RIGHT = ("setpriv", "--bounding-set", "-kill")
"""To kill what runs as another user, as a worker that is not root."""


def test_a_program_that_may_not_be_killed_keeps_nobody_from_working(shop: Shop) -> None:
    need_root("run a program as another user")
    worker = shop.work(processes=1, prefix=WITHOUT_THE_RIGHT)
    limited = shop.tasks.runs_as_another.delay(60.0)
    (line,) = until(lambda: shop.history("spawned"), what="the program")
    try:
        assert shop.finish(limited.id)[0].state is State.FAILURE
        assert shop.tasks.noop.delay(4).get(timeout=10) == 4
        assert worker.stop() == 0
        assert alive(line["child"])
        assert worker.output().count("may not be killed") == 1
    finally:
        os.kill(line["child"], signal.SIGKILL)


def test_limits_hold_beside_a_process_that_may_not_be_killed(shop: Shop) -> None:
    need_root("make a process another user's")
    shop.work(prefix=WITHOUT_THE_RIGHT)
    foreign = shop.tasks.becomes_another.delay(60.0)
    shop.started(foreign.id)
    (line,) = shop.history("start")
    try:
        limited = shop.tasks.overruns.delay("sleep")
        assert shop.finish(limited.id)[0].state is State.FAILURE
    finally:
        os.kill(line["pid"], signal.SIGKILL)
