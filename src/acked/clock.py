"""Time as acked reads it: two clocks, both replaceable in tests."""

from __future__ import annotations

import logging
import math
import time
from typing import Protocol

logger = logging.getLogger("acked.broker")


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
"""Seconds by which a server's clock must differ from what this host expects to count as set, beyond
what a slow answer explains: less than any lease."""


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

    When between question and answer the server read its clock is not known, so each answer allows
    a range of offsets between the two clocks, and what is known is where the ranges meet (the
    intersection of intervals of Marzullo and Owicki, 1983). A slow answer says little, and is no
    sign of a clock that was set.

    Both readings are the server's wall clock: servers have no other that every host could read.
    That one may jump as well; `since_jump` tells.
    """

    def __init__(self) -> None:
        self._least: float | None = None  # of the offsets that the answers allow
        self._most = 0.0
        self._jumped_at = -math.inf

    @staticmethod
    def here() -> float:
        """This host's clock, by which `sync` is told when the server was asked."""
        return time.clock_gettime(_STEADY)

    def sync(self, server_now: float, asked: float) -> None:
        """The server says that it is *server_now*, seconds since the epoch; it was asked at
        *asked*, of `here`."""
        here = self.here()
        least, most = server_now - here, server_now - asked
        if self._least is not None:
            if least - JUMP > self._most or most + JUMP < self._least:
                moved = most - self._least if most < self._least else least - self._most
                logger.warning("the server's clock was set by %+.1f s: leases begin anew", moved)
                self._jumped_at = here
            elif least <= self._most and most >= self._least:
                least, most = max(least, self._least), min(most, self._most)
        self._least, self._most = least, most

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
        return None if self._least is None else self.here() + self._least

    @property
    def since_jump(self) -> float:
        """Seconds since the server's clock was last seen to jump; infinite where it never was."""
        return self.here() - self._jumped_at


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
