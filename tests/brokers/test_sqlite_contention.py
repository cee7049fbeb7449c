"""T23: eight processes on one file, and a reader that holds a snapshot meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from acked.brokers.sqlite import SQLiteBroker
from tests.harness.workers import ROOT, until
from tests.worker.forms import LONG, sizes

pytestmark = pytest.mark.chaos

PROCESSES = 8
ROUNDS = sizes(60, 4_200)
"""Each of a process's rounds is three operations, send, claim, settle. It goes through as many, and
then through more until it is told to stop."""

HELD = 60.0 if LONG else 1.0
"""Seconds for which the reader holds its snapshot, while the log cannot start anew."""

ALONE = 20.0 if LONG else 0.5
"""Seconds without a reader, before that and after it."""

MIB = 1024 * 1024
LONGEST = 64 * MIB
"""Bytes of the log, where no reader is in the way."""

PROGRAM = f"""
import sys
from pathlib import Path
from acked.brokers.sqlite import SQLiteBroker
from acked.delivery import Settlement
from acked.testing.timeline import message

broker, name, stop = SQLiteBroker(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
rounds = 0
while rounds < {ROUNDS} or not stop.exists():
    broker.send([message(f"{{name}}-{{rounds}}")])
    for held in broker.claim(f"{{name}}/0", ["default"], 1).deliveries:
        done = Settlement.succeed(held, at=2.0, started=1.0, result=b"1")
        assert not broker.settle([done])
    rounds += 1
broker.close()
print(rounds)
"""
"""With the default time-out: what waits for longer than that is an error for the user."""


def test_contention_and_a_long_reader_are_no_errors_and_leave_a_short_log(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    log, stop = path.with_name("shop.db-wal"), tmp_path / "stop"
    broker = SQLiteBroker(path)
    broker.setup()
    began = time.monotonic()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), f"w{number}", str(stop)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip

    def size() -> int:
        return log.stat().st_size

    until(lambda: size() > MIB, what="the processes write")
    before = longest(size, ALONE)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM task").fetchall()
    meanwhile = longest(size, HELD)
    reader.execute("COMMIT")
    reader.close()
    # Without bound, as what the reader sees must not be written over. Now it ends.
    until(lambda: size() <= LONGEST / 2, what="the log is short again")
    after = longest(size, ALONE)
    stop.touch()
    rounds = 0
    for process in processes:
        said, errors = process.communicate(timeout=1800)
        assert (process.returncode, errors) == (0, "")
        rounds += int(said)
    took = time.monotonic() - began
    assert max(before, after, size()) <= LONGEST

    assert broker.claim("last/0", ["default"], 500).deliveries == []
    (counts,) = broker.counts()
    assert (counts.success, counts.running) == (rounds, 0)
    connection = apsw.Connection(str(path))
    connection.pragma("wal_checkpoint", "TRUNCATE")
    live = connection.execute("SELECT sum(payload) FROM dbstat").get
    file = path.stat().st_size
    connection.close()
    print(f"\n{rounds * 3} operations in {took:.0f} s, reader held {HELD:.0f} s")
    print(
        f"log: {before / MIB:.1f} MiB before the reader, {meanwhile / MIB:.1f} beside it, "
        f"{after / MIB:.1f} after it; file {file / MIB:.1f} MiB, live {live / MIB:.1f} MiB"
    )
    assert file <= 3 * live + MIB
    broker.close()


def longest(size: Callable[[], int], seconds: float) -> int:
    """The largest *size* within that time."""
    end, most = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        most = max(most, size())
        time.sleep(0.01)  # between two samples
    return most
