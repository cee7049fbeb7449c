"""Progress as data: when a report may be written, and what Celery's `meta` says of it. Pure."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

INTERVAL = 0.1
"""Seconds between two written reports of one task. The latest always wins."""


class Throttle:
    """Lets the first report through at once, and then one per interval.

    Args:
        interval: Seconds.
    """

    __slots__ = ("_interval", "_next")

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._next = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until the next report may be written; 0 when it may be now.

        Args:
            now: Steady-clock time, seconds.
        """
        return max(0.0, self._next - now)

    def wrote(self, now: float) -> None:
        """A report was written at *now*."""
        self._next = now + self._interval


def counts_in(meta: Any) -> tuple[float, float] | None:
    """How far a `meta` of Celery's usual shape says the task is: ``{"current": 3, "total": 9}``.

    ``done`` is taken like ``current``. None when it says nothing of the kind.
    """
    if not isinstance(meta, dict):
        return None
    done = _number(meta.get("current", meta.get("done")))
    total = _number(meta.get("total", 0))
    return None if done is None or total is None else (done, total)


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def amount(name: str, value: object) -> float:
    """*value* as a number of things.

    Raises:
        TypeError, ValueError: It is none; the text names it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | Fraction):
        raise TypeError(f"progress: {name} must be a number, got {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"progress: {name} must be a finite number, got {value!r}")
    return number
