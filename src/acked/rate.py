"""How often a task may start: its rate, and the line of those that ask.

The workers of a task agree on two times, which they keep with the broker: from when the next start
is free, and where the line of those ends that were sent away. Whoever asks too early is told when
to ask again, and waits in the queue meanwhile, not in a worker. This is the generic cell rate
algorithm (ITU-T I.371) with a small tolerance, so starts are spread evenly, none are saved up.

Nothing is promised to who waits. A place in the line is an estimate: when those before it are
revoked or purged, nobody has to be told, and what asks next may start at once.
"""

from __future__ import annotations

import math
from typing import Self, cast

import msgspec

from acked.errors import ConfigurationError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

SLOWEST = 1e-9
"""Starts in a unit of time, of which fewer are a mistake."""

LATE = 0.1
"""Seconds within which starts that came late are made up for: a task is taken up a little after its
time, and the rate would suffer."""

FARTHEST = 300.0
"""Seconds after which everybody asks again, however long the line and the interval: those before it
may not be there any more, and the rate may be another."""

UNUSED = 1.0
"""When a start has been free for so many seconds, or for an interval where that is longer, nobody
has come for it: the line is empty."""


class Rate(msgspec.Struct, frozen=True):
    """At most one start in each *interval* (seconds) on average; *text* is how it was written."""

    text: str
    interval: float

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """The rate that *value* means, as in Celery: ``10`` and ``"10/s"`` are ten a second,
        ``"100/m"`` and ``"5/h"`` a hundred a minute and five an hour. None and 0 are no limit.

        Raises:
            ConfigurationError: It is none.
        """
        if value is None:
            return None
        number, _, unit = value.partition("/") if isinstance(value, str) else (value, "", "")
        try:
            count, seconds = float(cast("str", number)), UNITS[unit.strip() or "s"]
        except (ValueError, TypeError, KeyError, OverflowError):
            count, seconds = math.nan, 1.0
        if isinstance(value, bool) or not 0 <= count < math.inf or 0 < count < SLOWEST:
            raise ConfigurationError(
                f"rate_limit={value!r} is no rate. Write how many may start in a second, a minute "
                'or an hour: "10/s", "100/m", "5/h".'
            )
        if count == 0:
            return None
        return cls(value if isinstance(value, str) else f"{count:g}/s", seconds / count)


class Line(msgspec.Struct, frozen=True, array_like=True):
    """What the workers know. Wall-clock seconds.

    Args:
        free: From when the next start is free.
        place: The next place in the line: until when the next one that is sent away waits.
    """

    free: float
    place: float


def ask(
    line: Line | None, interval: float, *, now: float, roll: float
) -> tuple[Line, float | None]:
    """Ask to start.

    Args:
        line: What is known; None where nobody has asked before.
        interval: Of the rate, seconds.
        now: Wall-clock time, seconds.
        roll: At random from 0.0 to 1.0.

    Returns:
        What is known now; and None to start, else the time at which to ask again.
    """
    if line is None or line.free + max(interval, UNUSED) <= now:
        line = Line(now, now)
    # Who asks again only after a while is late by so much, too.
    late = LATE if interval <= FARTHEST else FARTHEST
    # Neither is further ahead than this, unless the clock was set back.
    free = min(max(line.free, now - late), now + interval)
    place = line.place if line.place <= now + FARTHEST + interval else free
    if free <= now:
        return Line(free + interval, place), None
    place = max(place, free)
    if place > now + FARTHEST:
        return Line(free, place), now + FARTHEST * (0.5 + roll / 2)
    return Line(free, place + interval), place
