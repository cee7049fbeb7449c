"""Nobody reads a worker's standard error: leases go on, and what was said comes out later."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from acked.delivery import State
from acked.worker.lines import MOST, LineWriter
from tests.harness.workers import ROOT, children, search_path, until
from tests.worker.conftest import TARGET, Shop


class Pipe:
    """A standard error whose reader stands still.

    Attributes:
        end: Where to write.
    """

    def __init__(self) -> None:
        self._read, self.end = os.pipe()
        self._filled = 0

    def fill(self) -> None:
        """Leave no room in it, for whoever shares `end`."""
        os.set_blocking(self.end, False)
        for size in (4096, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._filled += os.write(self.end, b"x" * size)
        os.set_blocking(self.end, True)

    def read_on(self) -> bytes:
        """Read until nobody can write to it any more; what was written besides the filling."""
        os.close(self.end)
        parts = list(iter(lambda: os.read(self._read, 1 << 16), b""))
        os.close(self._read)
        return b"".join(parts).replace(b"x" * self._filled, b"")


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture
def worker(shop: Shop, pipe: Pipe) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of two processes that logs to the pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "acked", "worker", TARGET, "-c", "2"], stderr=pipe.end, cwd=ROOT,
        env={**os.environ, **shop.environment, "PYTHONPATH": search_path(shop.environment)},
    )  # fmt: skip
    yield process
    process.kill()
    process.wait()


def test_a_reader_that_stalls_costs_no_task_its_lease_and_misses_no_line(
    shop: Shop, pipe: Pipe, worker: subprocess.Popen[bytes]
) -> None:
    running = shop.tasks.work.delay(8.0)
    shop.started(running.id)
    pipe.fill()
    (template,) = children(worker.pid)
    (busy,) = {line["pid"] for line in shop.history("start")}
    idle = until(lambda: [x for x in children(template) if x != busy], what="the other process")[0]
    os.kill(idle, signal.SIGKILL)
    shop.work(processes=1)

    (record,) = shop.finish(running.id)
    assert (record.state, record.losses, shop.starts(running.id)) == (State.SUCCESS, 0, 1)
    worker.send_signal(signal.SIGTERM)
    reader: list[bytes] = []
    reading = threading.Thread(target=lambda: reader.append(pipe.read_on()))
    reading.start()
    assert worker.wait(20) == 0
    reading.join(10)
    said = reader[0].decode()
    assert "ready" in said
    assert f"pid {idle}" in said
    assert "stopping" in said


def test_a_worker_whose_reader_stalls_can_be_stopped(
    shop: Shop, pipe: Pipe, worker: subprocess.Popen[bytes]
) -> None:
    shop.finish(shop.tasks.work.delay().id)
    pipe.fill()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


HUNG = """
import logging, time
from acked.worker import lines, logs
from acked.worker.guard import Guard
writer = lines.LineWriter()
logs.configure("WARNING", "text", writer)
logging.getLogger("acked.worker").warning("into the full pipe")
guard = Guard([], 0, patience=0.2, lines=writer)
guard.start()
print("hangs", flush=True)
time.sleep(60)
"""


def test_the_guard_ends_a_hung_supervisor_also_when_its_reader_stalls(pipe: Pipe) -> None:
    pipe.fill()
    ended = subprocess.run(
        [sys.executable, "-c", HUNG], stdout=subprocess.PIPE, stderr=pipe.end, timeout=20,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, b"hangs\n")


def test_lines_that_find_no_room_are_counted(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    pipe.fill()
    writer = LineWriter(pipe.end)
    line = "y" * 1023 + "\n"
    for _ in range(MOST // len(line) + 7):
        writer.write(line)
    drained = threading.Thread(target=pipe.read_on, daemon=True)
    drained.start()

    writer.drain(10.0)

    until(lambda: "7 lines dropped" in caplog.text, what="the count")
