"""Time as acked reads it: two clocks, both replaceable in tests."""

from __future__ import annotations

import math
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

JUMP = 1.0
"""Seconds by which a server's clock must differ from what this host expects to count as set: more
than a slow answer explains, less than any lease."""


class SystemClock:
    """The host's own clocks."""

    def now(self) -> float:
        return time.time()

    def steady(self) -> float:
        return time.clock_gettime(_STEADY)


class ServerClock:
    """The clock of a broker's server, read from this host between two answers of the server.

    Every answer that carries the server's time is told to `sync`; in between, this host's
    monotonic clock goes on from there. So neither a wrong wall clock here nor one that jumps
    moves a due time. Until the first answer it is this host's own.

    Both readings are the server's wall clock: servers have no other that every host could read.
    That one may jump as well; `since_jump` tells.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._jumped_at = -math.inf

    def sync(self, server_now: float) -> None:
        """The server says that it is *server_now*, seconds since the epoch."""
        here = time.clock_gettime(_STEADY)
        offset = server_now - here
        if self._offset is not None and abs(offset - self._offset) > JUMP:
            self._jumped_at = here
        self._offset = offset

    def now(self) -> float:
        expected = self.expected
        return time.time() if expected is None else expected

    def steady(self) -> float:
        return self.now()

    @property
    def expected(self) -> float | None:
        """What the server's clock says now, unless it was set since its last answer; None before
        the first. A lease has run out only by the server's clock and by this one: so it does not
        while nobody has noticed yet that the server's was set forward."""
        offset = self._offset
        return None if offset is None else time.clock_gettime(_STEADY) + offset

    @property
    def since_jump(self) -> float:
        """Seconds since the server's clock was last seen to jump; infinite where it never was."""
        return time.clock_gettime(_STEADY) - self._jumped_at


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
