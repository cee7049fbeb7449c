"""Checks of this host: its clocks and its limits."""

from __future__ import annotations

import time
from collections.abc import Iterator

from acked.broker import Filter, Records
from acked.cli.checks.finding import Finding, info, ok, warn
from acked.clock import Clock
from acked.moments import duration

EARLIEST = 1_704_067_200.0
"""The first second of 2024: acked did not exist before."""

CLOCK_WATCH = 0.1
STEP_TOLERATED = 0.02
AHEAD_TOLERATED = 5.0
OPEN_FILES = 1024


def clock(host: Clock, records: Records | None) -> Iterator[Finding]:
    """Whether the wall clock tells the time, and keeps pace with the steady one.

    Args:
        host: Watched for `CLOCK_WATCH` seconds.
        records: Their newest task tells what time its sender's clock showed.
    """
    wall, steady = host.now(), host.steady()
    time.sleep(CLOCK_WATCH)
    step = (host.now() - wall) - (host.steady() - steady)
    newest = records.search(Filter(), limit=1) if records is not None else []
    yield clock_finding(wall, step=step, newest=newest[0].sent if newest else None)


def clock_finding(now: float, *, step: float, newest: float | None) -> Finding:
    """What to say of the wall clock.

    Args:
        now: What it shows, seconds since the epoch.
        step: Seconds it jumped ahead of the steady clock while it was watched.
        newest: When the newest task was sent, by its sender's clock.
    """
    if now < EARLIEST:
        return warn(
            "clock",
            f"the clock of this host shows {time.strftime('%Y-%m-%d', time.gmtime(now))}",
            "set it: delayed tasks and retries start when it says so",
        )
    if abs(step) > STEP_TOLERATED:
        return warn(
            "clock",
            f"the clock of this host was set by {step:+.3f} s while it was watched",
            "let a time service slew it; delayed tasks start early or late by each step",
        )
    if newest is not None and newest - now > AHEAD_TOLERATED:
        return warn(
            "clock",
            f"the newest task was sent {duration(newest - now)} in the future",
            "set the clock of this host, or of the sender; one of them is wrong",
        )
    return ok("clock", "plausible and steady")


def open_files(soft: int, hard: int) -> Finding:
    """Whether a worker may open enough files: *soft* and *hard* are RLIMIT_NOFILE."""
    if 0 <= soft < OPEN_FILES:
        return warn(
            "open files",
            f"a process may open {soft} files",
            f"raise it to {OPEN_FILES} or more (ulimit -n; LimitNOFILE= in a systemd unit): each "
            "connection of a task is one",
        )
    return info("open files", f"a process may open {soft if soft >= 0 else hard} files")
