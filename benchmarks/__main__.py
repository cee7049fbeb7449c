"""`python -m benchmarks`: measure, print tables, say which targets are met."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks.machine import facts, file_system
from benchmarks.peers import FIELDS, SQLITE, Field
from benchmarks.plan import Plan, full, quick
from benchmarks.report import Report, show_targets
from benchmarks.sections import drain, enqueue, idle, latency, scheduled
from benchmarks.servers import Servers

SECTIONS: dict[str, Callable[[Plan, Field], Report]] = {
    "drain": drain.measure,
    "enqueue": enqueue.measure,
    "idle": idle.measure,
    "latency": latency.measure,
    "scheduled": scheduled.measure,
}

# Not /tmp, which is memory on many machines, where a flush to disk costs nothing.
_DEFAULT_PARENT = Path("/var/tmp")  # noqa: S108 - a fresh directory of random name is made in it


_PIPED_WIDTH = 124


def main() -> int:
    options = _options()
    # A default SIGTERM would leave the processes that were started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console, progress = Console(), Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    began = time.monotonic()
    with (
        TemporaryDirectory(prefix="acked-bench-", dir=options.dir) as directory,
        Servers(Path(directory)) as servers,
    ):
        # PostgreSQL runs as another user where this runs as root, and has to reach its own.
        Path(directory).chmod(0o711)
        machine = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"} | facts(Path(directory))
        for name, value in machine.items():
            console.print(f"{name:>12}  {value}", highlight=False, soft_wrap=True)
        if file_system(Path(directory)) in ("tmpfs", "ramfs"):
            console.print("This is memory, not a disk: durable writes cost nothing. Use --dir.")
        rounds = options.rounds or (2 if options.quick else 5)
        plan = (quick if options.quick else full)(Path(directory), servers, rounds, progress.print)
        reports: list[Report] = []
        failed: list[str] = []
        for field, name in _chosen(options):
            try:
                reports.append(SECTIONS[name](plan, field))
            # What the other sections find is still worth having.
            except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
                failed.append(f"{name} on {field.name}")
                console.print(f"{failed[-1]} was not measured: {error}", markup=False)
            else:
                reports[-1].show(console)
    show_targets(console, reports)
    minutes = (time.monotonic() - began) / 60
    console.print(f"{rounds} rounds in {minutes:.1f} minutes; medians, in brackets min-max")
    if options.quick:
        console.print("--quick checks the benchmark; its figures mean little")
    if options.json:
        found = {report.title: report.as_json() for report in reports}
        options.json.write_text(json.dumps({"machine": machine, "sections": found}, indent=2))
    if failed:
        console.print(f"Not measured: {', '.join(failed)}", style="red")
    return 1 if failed else 0


def _chosen(options: argparse.Namespace) -> Iterator[tuple[Field, str]]:
    """Which section of which broker. A million scheduled tasks are held in a file alone."""
    for field in FIELDS.values():
        for name in SECTIONS:
            if (
                (not options.broker or field.name in options.broker)
                and (not options.only or name in options.only)
                and (name != "scheduled" or field is SQLITE)
            ):
                yield field, name


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="one section; repeatable")
    parser.add_argument("--broker", action="append", choices=FIELDS, help="one; repeatable")
    parser.add_argument("--rounds", type=int, help="how often each figure is taken (5)")
    parser.add_argument("--json", type=Path, help="also write every figure of every round here")
    parser.add_argument("--dir", type=Path, default=_DEFAULT_PARENT, help="on the disk to measure")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
