"""Real workers for tests: started from the command line, found and killed by process id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.harness import history

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], T], what: str = "", *, within: float = 30.0) -> T:
    """Wait for *condition* to be true, and give its value.

    Raises:
        AssertionError: It was not within *within* seconds.
    """
    deadline = time.monotonic() + within
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or condition}")
        time.sleep(pause)  # between two looks
        pause = min(0.05, pause * 1.5)


def children(pid: int) -> list[int]:
    """Process ids of the children of *pid*, oldest first."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = Path(f"/proc/{name}/stat").read_bytes().rsplit(b")", 1)[1].split()
                if int(fields[1]) == pid and fields[0] != b"Z":
                    found.append(int(name))
    return sorted(found)


def alive(pid: int) -> bool:
    """Whether *pid* is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] != b"Z"
    except OSError:
        return False


def stand_still(pids: Iterable[int]) -> None:
    """Wait until every thread of *pids* has stopped: SIGSTOP is on its way for a moment when it is
    sent, and on a busy machine they go on meanwhile."""
    until(lambda: not any(_runs(pid) for pid in pids), what="they stand still")


def _runs(pid: int) -> bool:
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_bytes().rsplit(b")", 1)[1].split()[0] not in (b"T", b"Z", b"X"):
                return True
    return False


def search_path(environment: dict[str, str]) -> str:
    """Where a worker finds modules: this tree, and what the test puts before it."""
    first = environment.get("ACKED_TEST_PATH", "")
    return ":".join([*([first] if first else []), str(ROOT / "src"), str(ROOT)])


class Worker:
    """One `acked worker` with everything below it.

    Args:
        target: The application.
        environment: Added to the test's own.
        arguments: Of the command line.
        prefix: The command that runs it in its own place, such as ``ip netns exec``.
    """

    def __init__(
        self, target: str, *arguments: str, environment: dict[str, str], log: Path,
        directory: Path = ROOT, prefix: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.log = log
        self._file = log.open("ab")
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "acked", "worker", target, *arguments],
            env={**os.environ, **environment, "PYTHONPATH": search_path(environment)},
            stdout=self._file, stderr=self._file, cwd=directory,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def template(self) -> int | None:
        """The fork server."""
        below = children(self.pid)
        return below[0] if below else None

    @property
    def processes(self) -> list[int]:
        """The task processes."""
        template = self.template
        return children(template) if template else []

    def ready(self, count: int = 1) -> Worker:
        """Wait until *count* task processes are there."""

        def there() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"worker ended: {self.output()}")
            return len(self.processes) >= count

        until(there, what=f"{count} task processes of worker {self.pid}")
        return self

    def kill_process(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Kill one task process, and write it down first."""
        history.note("kill", victim=pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def kill_tree(self) -> None:
        """SIGKILL the supervisor and everything below it, at once."""
        victims = [self.pid, *children(self.pid), *self.processes]
        for pid in victims:
            history.note("kill", victim=pid)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self, number: int = signal.SIGTERM, *, within: float = 40.0) -> int:
        """Send *number* and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(within)

    def output(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill_tree()
        self._file.close()
        if error is not None:
            print(f"--- worker {self.pid} ---\n{self.output()[-6000:]}")
