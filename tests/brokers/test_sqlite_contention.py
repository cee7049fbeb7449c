"""T23: eight processes on one file while a reader holds a snapshot (long: ``ACKED_LONG=1``)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from acked.brokers.sqlite import SQLiteBroker
from tests.harness.workers import ROOT

pytestmark = pytest.mark.chaos

LONG = os.environ.get("ACKED_LONG") == "1"
PROCESSES = 8
ROUNDS = 4_200 if LONG else 60
"""Each of a process's rounds is three operations: send, claim, settle."""

HELD = 60.0 if LONG else 2.0
MIB = 1024 * 1024

PROGRAM = f"""
import sys
from acked.brokers.sqlite import SQLiteBroker
from acked.delivery import Settlement
from acked.testing.timeline import message

broker = SQLiteBroker(sys.argv[1], timeout=60.0)
name = sys.argv[2]
for n in range({ROUNDS}):
    broker.send([message(f"{{name}}-{{n}}")])
    for held in broker.claim(f"{{name}}/0", ["default"], 1).deliveries:
        done = Settlement.succeed(held, at=2.0, started=1.0, result=b"1")
        assert not broker.settle([done])
broker.close()
"""


def test_contention_and_a_long_reader_are_no_errors_and_leave_a_short_log(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    broker = SQLiteBroker(path)
    broker.setup()
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM task").fetchall()
    opened = time.monotonic()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), f"w{number}"],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    time.sleep(max(0.0, HELD - (time.monotonic() - opened)))  # how long the snapshot is held
    reader.execute("COMMIT")
    reader.close()
    for process in processes:
        _, errors = process.communicate(timeout=1800)
        assert (process.returncode, errors) == (0, "")

    assert broker.claim("last/0", ["default"], 500).deliveries == []
    (counts,) = broker.counts()
    assert (counts.success, counts.running) == (PROCESSES * ROUNDS, 0)
    log = path.with_name("shop.db-wal").stat().st_size
    assert log <= 64 * MIB
    connection = apsw.Connection(str(path))
    connection.pragma("wal_checkpoint", "TRUNCATE")
    live = connection.execute("SELECT sum(payload) FROM dbstat").get
    size = path.stat().st_size
    connection.close()
    took = time.monotonic() - opened
    print(f"\n{PROCESSES * ROUNDS * 3} operations in {took:.0f} s, reader held {HELD:.0f} s")
    print(f"log {log / MIB:.1f} MiB, file {size / MIB:.1f} MiB, live {live / MIB:.1f} MiB")
    assert size <= 3 * live + MIB
    broker.close()
