"""Charts as plain geometry: bars for numbers over time. A template makes SVG of it.

Lengths are in units of the drawing, `WIDTH` by `HEIGHT`, which the page stretches to the room there
is. Nothing in it is styled: colours come from classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

WIDTH = 600.0
HEIGHT = 96.0
GAP = 0.22
"""Share of a step's width that stays empty between two bars."""


class Bar(msgspec.Struct, frozen=True):
    """One bar, what it stands for, and how much of it is a second series on top."""

    x: float
    y: float
    width: float
    height: float
    label: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A bar chart.

    Args:
        name: What it counts.
        kind: The series, for its colour.
        bars: Those that are not empty.
        total: All of them together.
        top: The number at the upper edge.
        summary: All of it in one sentence, for those who do not see it.
        ticks: Where on the axis to say which time, as a share, and what: seconds since the epoch.
    """

    name: str
    kind: str
    bars: list[Bar]
    total: int
    top: int
    summary: str
    ticks: list[tuple[float, float]]


def bar_chart(
    name: str, kind: str, values: Sequence[int], *, first: int, step: int, unit: str
) -> Chart:
    """The chart of *values*.

    Args:
        first: The minute, since the epoch, with which the first value begins.
        step: Minutes of each value.
        unit: What a step is called: ``minute``.
    """
    top = round_up(max(values, default=0))
    pitch = WIDTH / max(1, len(values))
    bars = []
    for index, value in enumerate(values):
        if value:
            # A lone failure among thousands must still be seen.
            height = max(1.5, HEIGHT * value / top)
            begin = datetime.fromtimestamp((first + index * step) * 60, UTC)
            bars.append(
                Bar(
                    round(index * pitch + pitch * GAP / 2, 2), round(HEIGHT - height, 2),
                    round(pitch * (1 - GAP), 2), round(height, 2),
                    f"{begin:%H:%M} UTC: {value:,}",
                )
            )  # fmt: skip
    total = sum(values)
    most = max(values, default=0)
    summary = f"{name}: {total:,} in all, at most {most:,} in a {unit}" if total else f"{name}: 0"
    return Chart(
        name=name, kind=kind, bars=bars, total=total, top=top, summary=summary,
        ticks=_ticks(first, step, len(values)),
    )  # fmt: skip


def round_up(value: int) -> int:
    """The next number of the form 1, 2 or 5 times a power of ten."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if value <= factor * scale:
                return factor * scale
        scale *= 10


def _ticks(first: int, step: int, count: int) -> list[tuple[float, float]]:
    """Round times on the axis, four of them or a few more."""
    every = next(
        each for each in (1, 5, 15, 30, 60, 180, 360, 720, 10**9) if count * step / each <= 5
    )
    start = first + (-first) % every
    return [
        (round((minute - first) / (count * step), 4), minute * 60.0)
        for minute in range(start, first + count * step, every)
        if minute - first < 0.9 * count * step  # or its text would leave the drawing
    ]
