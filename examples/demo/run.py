"""The demo: 200 tasks against a server that misbehaves, while their workers are killed.

    python examples/demo/run.py

Exits with 0 only if every task ended with the right result and the records say how: every kill,
every retry, every task that ran again because its process died. Everything happens in a
temporary directory and on 127.0.0.1.
"""

import argparse
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from audit import Audit, Tally, audit, tally
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from acked import Acked

HERE = Path(__file__).resolve().parent
PROCESSES = 2
STOP_SECONDS = 15.0
LOOK_SECONDS = 0.1
PLAIN_LINE_SECONDS = 2.0


class Worker:
    """``acked worker`` as its own process, and how to kill it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "acked", "worker", "shop:app", "-c", str(PROCESSES)]
        with self._log.open("ab") as output:
            self._top = subprocess.Popen(  # noqa: S603 - our own command line
                command, cwd=HERE, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def task_processes(self) -> list[int]:
        """Process ids of those that run tasks: forked by the fork server, its one child."""
        return [pid for server in children(self._top.pid) for pid in children(server)]

    def kill_a_process(self) -> int:
        """SIGKILL one task process; how many died."""
        crew = self.task_processes()
        return kill([random.choice(crew)]) if crew else 0

    def kill_whole(self) -> int:
        """SIGKILL the worker with all its processes, and start another; how many died."""
        below = [*children(self._top.pid), *self.task_processes()]
        died = kill([self._top.pid, *below])
        self._top.wait()
        self._start()
        return died

    def check_alive(self) -> None:
        status = self._top.poll()
        if status is not None:
            sys.exit(f"the worker ended with status {status}:\n{self.tail()}")

    def tail(self) -> str:
        """The end of what the worker said."""
        return self._log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """In good order; by force where that takes too long."""
        below = [*children(self._top.pid), *self.task_processes()]
        self._top.terminate()
        try:
            self._top.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            kill([self._top.pid, *below])
            self._top.wait()


def children(pid: int) -> list[int]:
    """Process ids of the living children of *pid*."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(map(int, path.read_text().split()))
        except OSError:  # that thread, or the whole process, has just ended
            continue
    return found


def kill(pids: list[int]) -> int:
    """SIGKILL *pids* at once and see them die; how many were alive before."""
    with ExitStack() as stack:
        handles: list[int] = []
        for pid in pids:
            try:
                handles.append(os.pidfd_open(pid))
            except ProcessLookupError:
                continue
            stack.callback(os.close, handles[-1])
        hit: list[int] = []
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                hit.append(handle)
        for handle in hit:
            select.select([handle], [], [], STOP_SECONDS)  # readable once it is dead
        return len(hit)


@contextmanager
def flaky_server(seed: str) -> Generator[str]:
    """The misbehaving server as long as the block runs, and its URL."""
    command = [sys.executable, str(HERE / "flaky_server.py"), seed]
    server = subprocess.Popen(  # noqa: S603 - our own file
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server:  # leaving closes its input, and with that it ends
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"


class Mischief:
    """Kills at even steps of the work: task processes, and halfway the whole worker."""

    def __init__(self, worker: Worker, *, tasks: int, kills: int) -> None:
        self._worker = worker
        self._steps = [tasks * number // (kills + 1) for number in range(kills)]
        self._whole = kills // 2
        self._done = 0
        self.processes_killed = 0
        self.workers_killed = 0

    def consider(self, so_far: Tally) -> None:
        """Kill, if it is time to."""
        if self._done == len(self._steps) or so_far.done < self._steps[self._done]:
            return
        # A third loss would end a task as poison, and rightly so: it is not what is shown here.
        if not so_far.running or so_far.most_losses_running > 1:
            return
        if self._done == self._whole:
            died = self._worker.kill_whole()
            self.workers_killed += 1
        else:
            died = self._worker.kill_a_process()
        self.processes_killed += died
        self._done += died > 0

    @property
    def finished(self) -> bool:
        return self._done == len(self._steps)


class Display:
    """Live progress on a terminal; a plain line now and then elsewhere."""

    def __init__(self, console: Console, tasks: int) -> None:
        self._console = console
        self._tasks = tasks
        self._next_line = 0.0
        self._progress = Progress(
            TextColumn("scanning"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[t]}"), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._bar = self._progress.add_task("", total=tasks, t="")

    def show(self, so_far: Tally, mischief: Mischief) -> None:
        text = (
            f"{so_far.retries} retries, {mischief.processes_killed} processes killed,"
            f" {so_far.losses} losses recovered"
        )
        self._progress.update(self._bar, completed=so_far.done, t=text)
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_LINE_SECONDS
            self._console.print(f"{so_far.done} of {self._tasks} done, {text}")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def main() -> int:
    options = parse()
    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    # A default SIGTERM would leave the processes that were started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="acked-demo-")))
        os.environ["ACKED_BROKER_URL"] = f"sqlite:///{directory}/shop.db"
        from shop import app, scan  # noqa: PLC0415 - it reads the line above

        stack.callback(app.close)
        url = stack.enter_context(flaky_server(options.seed))
        worker = Worker(directory / "worker.log")
        stack.callback(worker.stop)

        expected: dict[str, str] = {}
        for number in range(options.tasks):
            path = f"/site/{number}"
            sent = scan.delay({"url": url + path, "headers": {"Accept": "application/json"}})
            expected[sent.id] = path
        console.print(
            f"Sent {options.tasks} scan tasks; a worker with {PROCESSES} processes runs them"
            " and gets killed."
        )
        mischief = Mischief(worker, tasks=options.tasks, kills=options.kills)
        follow(app, worker, mischief, Display(console, options.tasks), options)
        found = audit(app.records, expected)
        problems = [*found.problems, *unproven(found, mischief)]
        console.print(summary(options.tasks, found, mischief, problems, time.monotonic() - began))
        for problem in problems:
            console.print(f"PROBLEM: {problem}", style="bold red")
        if problems:
            console.print(f"The worker's last words:\n{worker.tail()}")
    return 1 if problems else 0


def unproven(found: Audit, mischief: Mischief) -> list[str]:
    """What did not happen, though the demo is about it."""
    missing: list[str] = []
    if not mischief.finished:
        missing.append(f"only {mischief.processes_killed} processes could be killed")
    if found.losses == 0:
        missing.append("no kill hit a running task, so nothing is proven")
    if found.losses > mischief.processes_killed:
        missing.append("more tasks lost their process than processes were killed")
    if found.retries == 0:
        missing.append("no task retried, so nothing is proven")
    return missing


def follow(
    app: Acked, worker: Worker, mischief: Mischief, display: Display, options: argparse.Namespace
) -> None:
    """Watch the records, and do mischief, until every task has ended or the time is up."""
    deadline = time.monotonic() + options.timeout
    with display:
        while time.monotonic() < deadline:
            so_far = tally(app.records, at_most=options.tasks)
            display.show(so_far, mischief)
            if so_far.ended >= options.tasks:
                return
            worker.check_alive()
            mischief.consider(so_far)
            time.sleep(LOOK_SECONDS)


def summary(
    tasks: int, found: Audit, mischief: Mischief, problems: list[str], seconds: float
) -> Table:
    table = Table("what", "how many", title="What the records say")
    table.columns[1].justify = "right"
    rows = [
        ("tasks sent", tasks),
        ("done, with the right result", found.right),
        ("retries asked for", found.retries),
        ("  of them after the soft time limit", found.soft_limits),
        ("hard time limits", found.hard_limits),
        ("processes killed (SIGKILL)", mischief.processes_killed),
        ("  whole workers among them", mischief.workers_killed),
        ("running tasks that this hit, run again", found.losses),
    ]
    for what, count in rows:
        table.add_row(what, str(count))
    table.add_section()
    table.add_row("nothing lost" if not problems else "NOT ALL IS WELL", f"{seconds:.0f} s")
    return table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--kills", type=int, default=9, help="one of them of the whole worker")
    parser.add_argument("--seed", default="acked", help="of the server's troubles")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds until giving up")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
