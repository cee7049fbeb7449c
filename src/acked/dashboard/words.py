"""Numbers, times and data as the pages write them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from acked.moments import duration, moment

NONE = "\u2013"
"""What stands where there is nothing."""

# What would show text as another one: JSON has escapes for it, which a form can send back.
_MISLEADING = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

LONGEST_DATA = 200_000
"""Characters of arguments or a result that a page shows."""


def number(value: float) -> str:
    """``12 345``, with a thin space, which no language takes for a point."""
    return f"{value:,.0f}".replace(",", "\u202f")


def size(value: float) -> str:
    """``512 B``, ``3.4 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def span(seconds: float | None) -> str:
    """A length of time, or a dash for none."""
    return NONE if seconds is None else duration(max(0.0, seconds))


def as_datetime(at: datetime | float | None) -> datetime | None:
    """A time of either kind as a datetime in UTC."""
    return at if isinstance(at, datetime) or at is None else moment(at)


def relative(at: datetime | float | None, now: float) -> str:
    """``3 s ago``, ``in 5 min``; a dash for no time."""
    when = as_datetime(at)
    if when is None:
        return NONE
    seconds = when.timestamp() - now
    if abs(seconds) < 1:
        return "now"
    told = _roughly(abs(seconds))
    return f"in {told}" if seconds > 0 else f"{told} ago"


def _roughly(seconds: float) -> str:
    """A length of time in one unit, of which there are at least two."""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def iso(at: datetime | float | None) -> str:
    """A time for programs: ISO 8601 in UTC, to the millisecond."""
    when = as_datetime(at)
    return "" if when is None else when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(at: datetime | float | None) -> str:
    """A time for people: ``2026-11-23 12:01:02 UTC``."""
    when = as_datetime(at)
    return "" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def data(value: Any) -> str:
    """JSON data, indented, every digit of its numbers kept; cut where it is very long."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    text = _MISLEADING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    if len(text) <= LONGEST_DATA:
        return text
    return f"{text[:LONGEST_DATA]}\n… ({len(text) - LONGEST_DATA} characters left out)"


def counted(count: int, noun: str) -> str:
    """``1 task``, ``3 tasks``."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"
