"""The arithmetic of retries."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked.errors import ConfigurationError
from acked.retry import (
    MAX_WAIT,
    RetryPolicy,
    backoff_factor,
    check_seconds,
    jitter_share,
    retry_after,
)

NOW = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)

seconds = st.floats(0, MAX_WAIT)
rolls = st.floats(0, 1, exclude_max=True)


class Refused(Exception):
    def __init__(self, retry_after: object = None, headers: object = None) -> None:
        super().__init__()
        self.retry_after = retry_after
        self.response = type("Response", (), {"headers": headers})()


def asked(value: object) -> float | None:
    return retry_after(Refused(value), NOW.timestamp())


def asked_by_header(value: object, name: str = "Retry-After") -> float | None:
    return retry_after(Refused(headers={name: value}), NOW.timestamp())


def test_the_wait_doubles_from_the_first_failure_up_to_the_cap() -> None:
    policy = RetryPolicy(backoff=2, backoff_max=30, jitter=0)

    waits = [policy.wait_after(retries, roll=0.5) for retries in range(6)]

    assert waits == [2, 4, 8, 16, 30, 30]


def test_without_back_off_every_wait_is_the_delay() -> None:
    policy = RetryPolicy(delay=7)

    assert [policy.wait_after(retries, roll=0.9) for retries in (0, 5, 10**9)] == [7, 7, 7]


@given(
    backoff=seconds, cap=seconds, jitter=st.floats(0, 1), roll=rolls,
    retries=st.integers(0, 10**30),
)  # fmt: skip
def test_a_wait_stays_between_its_bounds_however_often_it_was_retried(
    backoff: float, cap: float, jitter: float, roll: float, retries: int
) -> None:
    policy = RetryPolicy(backoff=backoff, backoff_max=cap, jitter=jitter)

    longest = policy.wait_after(retries, roll=0)
    wait = policy.wait_after(retries, roll=roll)

    assert 0 <= longest <= cap
    assert longest * (1 - jitter) <= wait <= longest


@given(backoff=seconds, retries=st.integers(0, 200))
def test_without_jitter_no_wait_is_shorter_than_the_one_before(
    backoff: float, retries: int
) -> None:
    policy = RetryPolicy(backoff=backoff, jitter=0)

    assert policy.wait_after(retries, roll=0) <= policy.wait_after(retries + 1, roll=0)


@pytest.mark.parametrize(
    ("max_retries", "retries", "exhausted"),
    [(0, 0, True), (3, 2, False), (3, 3, True), (3, 4, True), (None, 10**9, False)],
)
def test_retries_are_counted_and_none_is_for_ever(
    max_retries: int | None, retries: int, exhausted: bool
) -> None:
    assert RetryPolicy(max_retries=max_retries).exhausted(retries) is exhausted


@pytest.mark.parametrize(("age", "exhausted"), [(-5, False), (59.9, False), (60, True)])
def test_a_task_may_be_retried_for_so_long_and_no_longer(age: float, exhausted: bool) -> None:
    assert RetryPolicy(max_retries=None, retry_for=60).exhausted(0, age=age) is exhausted


def test_the_settings_mean_what_they_mean_in_celery() -> None:
    assert [backoff_factor(value) for value in (False, True, 5, 0.5)] == [None, 1.0, 5.0, 0.5]
    assert [jitter_share(value) for value in (False, True, 0.25)] == [0.0, 1.0, 0.25]


@pytest.mark.parametrize(
    "value", [-1, 1.5, math.nan, math.inf, 10**400, "half", None, [1]], ids=repr
)
def test_a_jitter_that_is_no_share_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="retry_jitter"):
        jitter_share(value)


@pytest.mark.parametrize(
    "value", [-1, -0.001, MAX_WAIT + 1, math.nan, math.inf, -math.inf, 10**400, True, "5", None]
)
@pytest.mark.parametrize("limit", [MAX_WAIT, math.inf])
def test_seconds_that_are_none_are_refused_by_name(value: object, limit: float) -> None:
    if value == MAX_WAIT + 1 and limit == math.inf:
        return
    with pytest.raises(ConfigurationError, match="countdown"):
        check_seconds("countdown", value, limit=limit)


@given(st.one_of(seconds, st.integers(0, int(MAX_WAIT))))
def test_seconds_within_bounds_are_taken_as_they_are(value: float) -> None:
    assert check_seconds("countdown", value) == value


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (30, 30.0),
        (0.5, 0.5),
        ("120", 120.0),
        ("  7 ", 7.0),
        (-5, 0.0),
        ("-5", 0.0),
        ("Wed, 21 Oct 2015 07:29:00 GMT", 60.0),
        ("Wednesday, 21-Oct-15 07:29:00 GMT", 60.0),
        ("Wed Oct 21 07:29:00 2015", 60.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 9000 07:28:00 GMT", MAX_WAIT),
        (10**400, MAX_WAIT),
        ("9" * 300, MAX_WAIT),
    ],
)
def test_what_the_other_side_asked_for_is_read_in_each_of_its_forms(
    value: object, wait: float
) -> None:
    assert asked(value) == wait
    assert asked_by_header(value) == wait


@pytest.mark.parametrize(
    "value",
    ["", "soon", "nan", "inf", "Wed, 99 Oct 2015 99:99:99 GMT", math.nan, math.inf, True, b"5",
     [5], timedelta(seconds=5), "9" * 5000],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_nonsense_is_taken_for_no_request(value: object) -> None:
    assert asked(value) is None
    assert asked_by_header(value) is None


def test_the_headers_name_may_be_in_small_letters() -> None:
    assert asked_by_header("9", "retry-after") == 9


def test_the_exceptions_own_word_wins_over_the_header() -> None:
    assert retry_after(Refused(3, {"Retry-After": "9"}), 0.0) == 3


@pytest.mark.parametrize("headers", [None, [], "Retry-After: 5", {}, 7])
def test_a_response_without_such_a_header_asks_for_nothing(headers: object) -> None:
    assert retry_after(Refused(headers=headers), 0.0) is None
    assert retry_after(ValueError("no response at all"), 0.0) is None


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none()))
def test_any_answer_gives_a_wait_within_bounds_or_none(value: object) -> None:
    for wait in (asked(value), asked_by_header(value)):
        assert wait is None or 0 <= wait <= MAX_WAIT


@given(
    st.lists(
        st.sampled_from(
            ["Wed", ",", " ", "21", "Oct", "2015", "07:28:00", "GMT", "-0000", "99", ":"]
        )
    )
)
def test_a_broken_date_gives_a_wait_within_bounds_or_none(parts: list[str]) -> None:
    wait = asked("".join(parts))

    assert wait is None or 0 <= wait <= MAX_WAIT


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)))
def test_a_date_is_the_time_until_then(when: datetime) -> None:
    when = when.replace(microsecond=0, tzinfo=UTC)

    wait = asked(format_datetime(when, usegmt=True))

    assert wait == min(max(0.0, (when - NOW).total_seconds()), MAX_WAIT)
