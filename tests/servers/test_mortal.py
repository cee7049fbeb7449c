"""No server outlives the session that started it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.places import SERVERS
from tests.harness.workers import ROOT, alive, until

SESSION = """
import sys, time
from pathlib import Path
from tests.harness.places import Servers
server = Servers().get(sys.argv[1])
print(server.process.pid, server.directory.parent, flush=True)
time.sleep(60)
"""


def removed(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_session_that_is_killed_takes_its_server_with_it(kind: str) -> None:
    session = subprocess.Popen(
        [sys.executable, "-c", SESSION, kind], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert session.stdout is not None
    with session.stdout:
        pid, _, directory = session.stdout.readline().strip().partition(" ")
    assert alive(int(pid))
    session.send_signal(signal.SIGKILL)
    session.wait(10)
    until(lambda: not alive(int(pid)), what=f"the end of {kind}")
    # What it started for itself ends a moment later.
    until(lambda: removed(Path(directory)), what="its directory to be removed")
