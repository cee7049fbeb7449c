"""Time as acked reads it: two clocks, both replaceable in tests."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where brokers and workers read the time."""

    def now(self) -> float:
        """Wall-clock time in seconds since the epoch. It may jump; due times follow it."""
        ...

    def steady(self) -> float:
        """Seconds that never jump and that every process of this host reads alike.

        Leases are counted on it, so that setting the clock neither ends nor prolongs one.
        """
        ...


# BOOTTIME where there is one (Linux): it also counts while the machine is suspended, so a lease
# held by a laptop that slept has run out when it wakes.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The host's own clocks."""

    def now(self) -> float:
        return time.time()

    def steady(self) -> float:
        return time.clock_gettime(_STEADY)


class ManualClock:
    """A clock for tests: it moves only when told to."""

    def __init__(self, now: float = 1_000_000_000.0, steady: float = 1_000.0) -> None:
        self._now = now
        self._steady = steady

    def now(self) -> float:
        return self._now

    def steady(self) -> float:
        return self._steady

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass on both clocks."""
        self._now += seconds
        self._steady += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock *seconds* forward (or back), as an operator or NTP would."""
        self._now += seconds
