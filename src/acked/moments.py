"""Times as data for scripts (UTC datetimes) and as words for people."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: float | None) -> datetime | None:
    """*at*, wall-clock seconds, as a datetime in UTC; None for none.

    A time beyond what a datetime holds becomes its last one: any client can send such an eta.
    """
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def duration(seconds: float) -> str:
    """A length of time in at most two units: ``4 ms``, ``3.2 s``, ``2 min 5 s``, ``3 h``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, smaller_size, smaller_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def distance(at: datetime | None, now: datetime) -> str:
    """*at* seen from *now*: ``3.0 s ago``, ``in 5 min``; empty for none."""
    if at is None:
        return ""
    seconds = (at - now).total_seconds()
    if seconds > 0:
        return f"in {duration(seconds)}"
    return f"{duration(-seconds)} ago"


def clock_time(at: datetime | None, *, with_offset: bool = True) -> str:
    """*at* by this host's clock, to the millisecond, and its offset from UTC; empty for none."""
    if at is None:
        return ""
    try:
        local = at.astimezone()
    except OverflowError:
        local = at
    text = local.isoformat(sep=" ", timespec="milliseconds")
    return text if with_offset else text[: len("2026-11-23 12:01:02.123")]
