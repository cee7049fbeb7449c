"""What surrounds a task fails: who collects its log, its fork server, the worker's files."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acked.delivery import State
from acked.errors import SoftTimeLimitExceeded
from acked.worker.limits import with_soft_limit
from acked.worker.presence import Presence
from tests.harness.workers import Worker, alive, until
from tests.worker.conftest import Shop
from tests.worker.test_faults import _sleepers


@pytest.mark.parametrize("how", ["group", "wait_for"])
def test_what_a_coroutine_waits_for_ends_with_its_soft_limit(how: str) -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(60)  # until it is cancelled
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def body() -> None:
        if how == "wait_for":
            await asyncio.wait_for(child(), 50)
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    async def run() -> None:
        async def limited() -> None:
            await with_soft_limit(body(), lambda: True)

        task = asyncio.ensure_future(limited())
        await asyncio.sleep(0.05)  # in which it begins to wait
        task.cancel()
        with pytest.raises(SoftTimeLimitExceeded):
            await task
        assert ended == ["cancelled"]

    asyncio.run(run())


PULSES = """
import time
from acked.worker import lines
from acked.worker.guard import Guard
guard = Guard([], 0, patience=0.5, lines=lines.LineWriter())
guard.start()
print("runs", flush=True)
while True:
    time.sleep(0.1)
    guard.pulse()
"""


def test_a_worker_that_was_stopped_and_woken_is_not_taken_for_hung() -> None:
    process = subprocess.Popen([sys.executable, "-c", PULSES], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline()
        for _ in range(8):
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.0)  # twice the guard's patience
            process.send_signal(signal.SIGCONT)
            time.sleep(0.4)  # in which the guard would end it
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


COLLECTED = """
import logging, os
from pathlib import Path
from acked import Acked, signals
runs = Path(os.environ["RUNS"])
app = Acked("collected", broker=os.environ["SHOP_URL"])
class Collector(logging.Handler):
    def emit(self, record):
        raise ConnectionRefusedError("the collector is down")
@signals.setup_logging.connect
def setup(**_):
    logging.basicConfig(level=logging.INFO)
    logging.getLogger().addHandler(Collector())
@app.task(name="pay")
def pay():
    with runs.open("a") as file:
        file.write("x")
@app.task(name="apay")
async def apay():
    with runs.open("a") as file:
        file.write("x")
"""


@pytest.mark.parametrize("name", ["pay", "apay"])
def test_a_log_handler_that_raises_decides_nothing(shop: Shop, tmp_path: Path, name: str) -> None:
    (tmp_path / "collected_app.py").write_text(COLLECTED)
    runs = tmp_path / "runs"
    environment = {
        **shop.environment,
        "ACKED_TEST_PATH": str(tmp_path),
        "RUNS": str(runs),
        "SHOP_URL": shop.place.url,
    }
    result = shop.app.send_task(name)
    log = shop.directory / "collected.log"
    with Worker("collected_app:app", "-c", "1", environment=environment, log=log):
        (record,) = shop.finish(result.id)
    assert record.state is State.SUCCESS
    assert runs.read_text() == "x"


def test_what_a_task_started_dies_with_its_fork_server(shop: Shop) -> None:
    worker = shop.work(processes=1)
    result = shop.tasks.spawns.apply_async(("plain",), time_limit=0)
    (spawned, *_) = until(
        lambda: [x for x in shop.history("spawned") if x["task"] == result.id], what="descendant"
    )
    descendants = until(lambda: _sleepers(spawned["pid"]), what="a descendant that sleeps")
    result.revoke()
    template = worker.template
    assert template is not None
    os.kill(template, signal.SIGKILL)
    try:
        until(lambda: not any(alive(pid) for pid in descendants), what="their end")
    finally:
        for pid in descendants:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_a_fork_server_finds_a_presence_whose_file_was_deleted(tmp_path: Path) -> None:
    first = Presence.create(tmp_path, "w", sections=1, slots=1)
    first.path.unlink()
    second = Presence(first.path, os.dup(first.descriptor))
    first.sections[0].begin(0, 7, 0.0)
    assert [entry.token for entry in second.sections[0].running()] == [7]
    second.close()
    first.close()
