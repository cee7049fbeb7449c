"""Rate limits: what may start when, with no broker and no clock."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked.errors import ConfigurationError
from acked.rate import FARTHEST, LATE, Line, Rate, ask


@pytest.mark.parametrize(
    ("value", "interval"),
    [
        ("10/s", 0.1), ("100/m", 0.6), ("5/h", 720.0), ("10", 0.1), (10, 0.1), (0.5, 2.0),
        ("0.5/s", 2.0), (" 2 / m ", 30.0),
    ],
)  # fmt: skip
def test_a_rate_is_written_as_in_celery(value: object, interval: float) -> None:
    rate = Rate.parse(value)
    assert rate is not None
    assert rate.interval == pytest.approx(interval)


@pytest.mark.parametrize("value", [None, 0, 0.0, "0", "0/m"])
def test_none_and_zero_are_no_limit(value: object) -> None:
    assert Rate.parse(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "", "fast", "10/d", "10 per second", "-1/s", -1, "nan", "inf/s", "1e-320/s", True, [10],
        "1/2/s",
    ],
)  # fmt: skip
def test_what_is_no_rate_is_refused_with_the_remedy(value: object) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Rate.parse(value)
    assert f"rate_limit={value!r}" in str(refused.value)
    assert '"100/m"' in str(refused.value)


def starts(
    arrivals: list[float], interval: float, *, late: float = 0.0, clock: float = 1e9, each: int = 50
) -> dict[int, float]:
    """When each of those who come at *arrivals* starts, if what is sent away comes back *late*."""
    line: Line | None = None
    waiting = [(clock + at, number) for number, at in enumerate(arrivals)]
    heapq.heapify(waiting)
    started: dict[int, float] = {}
    asked = 0
    while waiting:
        now, number = heapq.heappop(waiting)
        line, again = ask(line, interval, now=now, roll=number % 10 / 10)
        if again is None:
            started[number] = now - clock
        else:
            assert again > now
            heapq.heappush(waiting, (again + late, number))
        asked += 1
        assert asked <= each * len(arrivals), "they ask again and again"
    return started


moments = st.lists(st.floats(0, 100), min_size=1, max_size=60)
intervals = st.floats(0.01, 20)


@given(moments, intervals, st.floats(0, LATE))
def test_no_more_start_in_any_time_than_the_rate_says(
    arrivals: list[float], interval: float, late: float
) -> None:
    at = sorted(starts(arrivals, interval, late=late).values())
    for first in range(len(at)):
        for last in range(first + 1, len(at)):
            assert at[last] - at[first] >= (last - first) * interval - LATE - 1e-3


@given(moments, intervals)
def test_all_start_as_soon_as_the_rate_allows(arrivals: list[float], interval: float) -> None:
    """Where nobody is late, what has to wait starts one interval after the one before."""
    started = starts(arrivals, interval)
    assert len(started) == len(arrivals)
    assert max(started.values()) <= max(arrivals) + len(arrivals) * interval + 1e-3


@given(st.integers(2, 60), intervals, st.floats(0, LATE * 0.9))
def test_what_comes_at_once_starts_evenly_though_it_is_taken_up_late(
    count: int, interval: float, late: float
) -> None:
    at = sorted(starts([0.0] * count, interval, late=late).values())
    assert at[-1] <= (count - 1) * interval + count * late + 1e-3
    if interval > 2 * LATE:
        assert at[-1] == pytest.approx((count - 1) * interval, abs=LATE + late + 1e-3)


def test_what_comes_at_once_starts_in_the_order_it_came() -> None:
    started = starts([0.0] * 50, 1.0)
    assert sorted(started, key=lambda number: started[number]) == list(range(50))


def test_an_interval_of_hours_is_kept_on_average_by_asking_every_few_minutes() -> None:
    hour = 3600.0
    at = sorted(starts([0.0] * 6, hour, each=200).values())
    for number, moment in enumerate(at):
        assert number * hour - 1e-3 <= moment <= number * hour + FARTHEST


def test_starts_are_not_saved_up() -> None:
    line, _ = ask(None, 1.0, now=1000.0, roll=0.0)
    line, again = ask(line, 1.0, now=2000.0, roll=0.0)
    assert again is None
    line, again = ask(line, 1.0, now=2000.0, roll=0.0)
    assert again == 2001.0


def waiting_line(count: int, interval: float, *, now: float) -> Line:
    line: Line | None = None
    for _ in range(count):
        line, _ = ask(line, interval, now=now, roll=0.5)
    assert line is not None
    return line


def test_nobody_waits_for_those_who_were_purged() -> None:
    line = waiting_line(200, 1.0, now=1000.0)
    for now in (1003.0, 1010.0):  # nobody else has asked meanwhile
        _, again = ask(line, 1.0, now=now, roll=0.0)
        assert again is None


def test_nobody_is_sent_far_away_however_many_wait() -> None:
    line = waiting_line(10_000, 1.0, now=1000.0)
    for roll in (0.0, 0.5, 1.0):
        _, again = ask(line, 1.0, now=1000.0, roll=roll)
        assert again is not None
        assert FARTHEST / 2 <= again - 1000.0 <= FARTHEST


@pytest.mark.parametrize("interval", [0.1, 60.0, 3600.0])
def test_a_clock_that_is_set_back_costs_an_interval_at_most(interval: float) -> None:
    line = waiting_line(20, interval, now=1_000_000.0)
    line, again = ask(line, interval, now=500_000.0, roll=1.0)
    assert again == 500_000.0 + min(interval, FARTHEST)
    _, again = ask(line, interval, now=500_000.0 + interval, roll=0.0)
    assert again is None


def test_a_start_that_is_further_ahead_than_an_interval_is_brought_nearer() -> None:
    line, _ = ask(None, 3600.0, now=1000.0, roll=0.0)
    line, _ = ask(line, 0.1, now=1000.0, roll=0.0)
    _, again = ask(line, 0.1, now=1000.2, roll=0.0)
    assert again is None
