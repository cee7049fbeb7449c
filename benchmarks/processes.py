"""A command started by the benchmark, with all it starts: its CPU time, its memory, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 15.0


class _Stat(NamedTuple):
    parent: int
    ticks: int
    """User and system time, its own and that of the children it has waited for."""
    started: int
    """In ticks since boot; with the pid it names a process for ever."""


class ProcessTree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def pids(self) -> list[int]:
        """The process and all its descendants that are alive."""
        return list(self._living())

    def cpu_seconds(self) -> float:
        """CPU time the whole tree has used, ended and waited-for children included."""
        return sum(stat.ticks for stat in self._living().values()) / _TICKS

    def rss_bytes(self) -> int:
        """Resident memory, added up over the processes; pages they share count in each."""
        return sum(_kib(Path(f"/proc/{pid}/status"), "VmRSS:") for pid in self.pids()) * 1024

    def pss_bytes(self) -> int:
        """Resident memory with shared pages divided among those that share them."""
        return sum(_kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in self.pids()) * 1024

    def _living(self) -> dict[int, _Stat]:
        everyone = {
            int(entry.name): stat
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None
        }
        found: dict[int, _Stat] = {}
        front = {self._pid} & everyone.keys()
        while front:
            found.update((pid, everyone[pid]) for pid in front)
            front = {pid for pid, stat in everyone.items() if stat.parent in front} - found.keys()
        return found


class RunningCommand(ProcessTree):
    """A command that was started, and its descendants.

    Args:
        command: What to start.
        environment: Its whole environment.
        log: Where its output goes.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._top = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        super().__init__(self._top.pid)

    def check_alive(self) -> None:
        """Raises:
        RuntimeError: It has ended; the text has the end of its output.
        """
        status = self._top.poll()
        if status is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._top.args!r} ended with status {status}:\n{tail}")

    def stop(self) -> None:
        """SIGTERM, time to end in good order, then SIGKILL to what is left of the tree."""
        tree = self._living()
        if self._top.poll() is None:
            self._top.send_signal(signal.SIGTERM)
            try:
                self._top.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{self._top.args!r} did not stop and was killed", file=sys.stderr)
        for pid, stat in tree.items():
            now = _stat(pid)
            if now is not None and now.started == stat.started:
                os.kill(pid, signal.SIGKILL)
        self._top.wait()


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Generator[RunningCommand]:
    """The command runs as long as the block."""
    tree = RunningCommand(command, environment, log)
    try:
        yield tree
    finally:
        tree.stop()


def wait_until(
    condition: Callable[[], bool], *, seconds: float, what: str, tree: RunningCommand
) -> None:
    """Wait until *condition* holds, while *tree* lives.

    Raises:
        RuntimeError: It did not within *seconds*, or the tree ended.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        tree.check_alive()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":
        return None
    return _Stat(int(fields[1]), sum(map(int, fields[11:15])), int(fields[19]))


def _kib(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)
