"""Charts as plain geometry: bars for numbers and for times. A template makes SVG of it.

Lengths are in units of the drawing, `WIDTH` by `HEIGHT`, which the page stretches to the room there
is. Nothing in it is styled: colours come from classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from acked.dashboard.times import Times
from acked.dashboard.words import number, span

WIDTH = 600.0
HEIGHT = 96.0
GAP = 0.22
"""Share of a step's width that stays empty between two bars."""


SCALES = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0,
    120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 18_000.0, 43_200.0,
)  # fmt: skip
"""Times that the upper edge of a chart of times may stand for, seconds; beyond them, whole days."""


class Bar(msgspec.Struct, frozen=True):
    """One bar and what it stands for. A *pale* one has another in front of it."""

    x: float
    y: float
    width: float
    height: float
    label: str
    pale: bool = False


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A bar chart.

    Args:
        name: What it counts or measures.
        kind: The series, for its colour.
        bars: Those that are not empty, in the order in which they are drawn.
        total: The figure of the whole span.
        top: What the upper edge stands for.
        summary: All of it in one sentence, for those who do not see it.
        ticks: Where on the axis to say which time, as a share, and what: seconds since the epoch.
    """

    name: str
    kind: str
    bars: list[Bar]
    total: str
    top: str
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
    bars = [
        _bar(index, len(values), value / top, f"{_clock(first + index * step)}: {value:,}")
        for index, value in enumerate(values)
        if value
    ]
    total = sum(values)
    most = max(values, default=0)
    summary = f"{name}: {total:,} in all, at most {most:,} in a {unit}" if total else f"{name}: 0"
    return Chart(
        name=name, kind=kind, bars=bars, total=number(total), top=number(top), summary=summary,
        ticks=_ticks(first, step, len(values)),
    )  # fmt: skip


def time_chart(
    name: str, kind: str, steps: Sequence[Times], *, total: Times, first: int, step: int, unit: str
) -> Chart:
    """How long things took: of each step a pale bar up to the 95th percentile, and in front of it
    one up to the median.

    Args:
        steps: What was measured in each step.
        total: What was measured in all of them.
        first, step, unit: As of `bar_chart`.
    """
    worst = max((times.p95 or 0.0 for times in steps), default=0.0)
    top = next((each for each in SCALES if worst <= each), -(-worst // 86_400) * 86_400)
    bars = []
    for index, times in enumerate(steps):
        if times.p50 is not None and times.p95 is not None:
            label = f"{_clock(first + index * step)}: {_within(times)}"
            bars += [
                _bar(index, len(steps), times.p95 / top, label, pale=True),
                _bar(index, len(steps), times.p50 / top, label),
            ]
    summary = f"{name}: nothing measured"
    if bars:
        summary = f"{name}: {_within(total)}; in the worst {unit}, 95 % within {span(worst)}"
    return Chart(
        name=f"{name}, p50 and p95", kind=kind, bars=bars, total=f"p95 {span(total.p95)}",
        top=span(top), summary=summary, ticks=_ticks(first, step, len(steps)),
    )  # fmt: skip


def _within(times: Times) -> str:
    return f"half within {span(times.p50)}, 95 % within {span(times.p95)}"


def _clock(minute: int) -> str:
    return f"{datetime.fromtimestamp(minute * 60, UTC):%H:%M} UTC"


def _bar(index: int, count: int, share: float, label: str, *, pale: bool = False) -> Bar:
    """The bar of step *index* of *count*, as high as *share* of the drawing."""
    pitch = WIDTH / count
    # A lone failure among thousands must still be seen.
    height = max(1.5, HEIGHT * share)
    return Bar(
        round(index * pitch + pitch * GAP / 2, 2), round(HEIGHT - height, 2),
        round(pitch * (1 - GAP), 2), round(height, 2), label, pale,
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
