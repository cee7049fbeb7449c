"""`self.retry`: when, how often, with what, and that nothing swallows it."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from acked import Acked, MaxRetriesExceededError, NotSendable, RemoteError, Retry
from acked.clock import ManualClock
from acked.delivery import Event, Settlement, State
from acked.message import decode, decode_arguments
from tests.api.inline import record_of, run_next, run_to_end


@pytest.fixture
def first_end(app: Acked) -> Callable[..., Settlement]:
    """How the first attempt of a task with this body ends."""

    def first_end(body: Callable[[Any], Any], **options: Any) -> Settlement:
        app.task(bind=True, name="flaky", **options)(lambda self: body(self)).delay()
        return run_next(app)

    return first_end


def wait_of(settlement: Settlement) -> float:
    assert settlement.event is Event.RETRY
    assert settlement.not_before is not None
    return settlement.not_before - settlement.at


def raising(**how: Any) -> Callable[[Any], Any]:
    def body(self: Any) -> Any:
        raise self.retry(**how)

    return body


def test_a_retry_keeps_the_id_and_counts(app: Acked, clock: ManualClock) -> None:
    seen: list[tuple[str, int, int]] = []

    @app.task(bind=True)
    def flaky(self: Any) -> str:
        seen.append((self.request.id, self.request.retries, self.request.attempt))
        if self.request.retries < 2:
            raise self.retry(countdown=5)
        return "done"

    result = flaky.delay()
    run_to_end(app, clock, result.id)
    assert result.get() == "done"
    assert seen == [(result.id, 0, 1), (result.id, 1, 2), (result.id, 2, 3)]


def test_a_task_that_seeds_random_neither_sets_its_jitter_nor_misses_a_number(app: Acked) -> None:
    @app.task(bind=True, retry_backoff=100, retry_jitter=True)
    def trains(self: Any) -> None:
        random.seed(7)
        self.retry()

    waits = set()
    for _ in range(3):
        trains.delay()
        waits.add(round(wait_of(run_next(app)), 3))
    after = random.random()

    assert len(waits) == 3
    random.seed(7)
    assert after == random.random()


@pytest.mark.parametrize(
    ("how", "options", "wait"),
    [
        ({}, {}, 180),
        ({}, {"default_retry_delay": 7}, 7),
        ({"countdown": 15}, {"default_retry_delay": 7}, 15),
        ({"countdown": 0}, {}, 0),
        ({"countdown": 15}, {"retry_backoff": 60}, 15),
        ({}, {"retry_backoff": 60, "retry_jitter": False}, 60),
        ({}, {"retry_kwargs": {"countdown": 3}}, 180),
    ],
)
def test_the_wait_is_what_the_call_says_then_the_task(
    first_end: Any, how: dict[str, Any], options: dict[str, Any], wait: float
) -> None:
    assert wait_of(first_end(raising(**how), **options)) == pytest.approx(wait, abs=0.5)


def test_eta_beats_countdown(first_end: Any, clock: ManualClock) -> None:
    due = datetime.fromtimestamp(clock.now() + 500, UTC)
    assert wait_of(first_end(raising(eta=due, countdown=1))) == pytest.approx(500, abs=0.5)


class Throttled(Exception):
    def __init__(self, retry_after: Any) -> None:
        super().__init__("slow down")
        self.retry_after = retry_after


class Answer:
    def __init__(self, header: str) -> None:
        self.headers = {"Retry-After": header}


class HttpError(Exception):
    def __init__(self, header: str) -> None:
        super().__init__("503")
        self.response = Answer(header)


def in_seconds(seconds: float) -> str:
    """That moment, as HTTP writes it."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("exc", "how", "options", "wait"),
    [
        (Throttled(40), {}, {}, 40),
        (Throttled("40"), {}, {}, 40),
        (HttpError("40"), {}, {}, 40),
        (Throttled(40), {"countdown": 5}, {}, 5),
        (Throttled(40), {}, {"retry_backoff": 60, "retry_jitter": False}, 60),
        (Throttled(90), {}, {"retry_backoff": 60, "retry_jitter": False}, 90),
    ],
)
def test_a_wait_that_the_other_side_asks_for_is_honoured(
    first_end: Any, exc: Exception, how: dict[str, Any], options: dict[str, Any], wait: float
) -> None:
    settlement = first_end(raising(exc=exc, **how), **options)
    assert wait_of(settlement) == pytest.approx(wait, abs=0.5)


def test_a_date_that_the_other_side_names_is_waited_for(first_end: Any) -> None:
    settlement = first_end(raising(exc=HttpError(in_seconds(3000))))
    assert wait_of(settlement) == pytest.approx(3000, abs=60)


def test_the_exception_that_is_handled_is_the_reason(first_end: Any) -> None:
    def body(self: Any) -> Any:
        try:
            raise Throttled(25)
        except Throttled:
            self.retry()

    settlement = first_end(body)
    assert wait_of(settlement) == pytest.approx(25, abs=0.5)
    assert settlement.failure.message == "slow down"
    assert settlement.reason.endswith("Throttled: slow down")


def test_a_broad_except_cannot_swallow_a_retry(first_end: Any) -> None:
    def body(self: Any) -> str:
        try:
            self.retry(countdown=1)
        except Exception:
            return "swallowed"
        return "not reached"

    assert first_end(body).event is Event.RETRY


@pytest.mark.parametrize("end", ["return", "raise", "bare except"])
def test_once_retry_was_called_the_attempt_ends_as_a_retry(first_end: Any, end: str) -> None:
    def body(self: Any) -> str:
        if end == "bare except":
            try:
                self.retry(countdown=1)
            except BaseException:
                return "swallowed"
        assert isinstance(self.retry(countdown=1, throw=False), Retry)
        if end == "raise":
            raise ValueError("afterwards")
        return "afterwards"

    assert first_end(body).event is Event.RETRY


def test_nothing_is_scheduled_before_the_function_has_ended(app: Acked) -> None:
    states: list[State] = []

    @app.task(bind=True)
    def flaky(self: Any) -> None:
        self.retry(countdown=0, throw=False)
        states.append(record_of(app, self.request.id).state)

    flaky.delay()
    run_next(app)
    assert states == [State.RUNNING]


def test_three_retries_are_four_executions_by_default(app: Acked, clock: ManualClock) -> None:
    runs: list[int] = []

    @app.task(bind=True)
    def flaky(self: Any) -> None:
        runs.append(self.request.retries)
        raise self.retry(countdown=1)

    result = flaky.delay()
    run_to_end(app, clock, result.id)
    assert runs == [0, 1, 2, 3]
    with pytest.raises(MaxRetriesExceededError, match="no retry is left after 3"):
        result.get()


def test_when_no_retry_is_left_the_given_exception_is_raised(app: Acked) -> None:
    @app.task(bind=True, max_retries=0)
    def flaky(self: Any) -> None:
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise self.retry(exc=error) from error

    result = flaky.delay()
    run_next(app)
    with pytest.raises(KeyError) as raised:
        result.get()
    assert raised.value.args == ("the cause",)


@pytest.mark.parametrize("given", [KeyError, UnicodeDecodeError, "the other side is asleep"])
def test_the_reason_may_be_a_class_or_a_text(app: Acked, clock: ManualClock, given: Any) -> None:
    @app.task(bind=True, max_retries=1)
    def flaky(self: Any) -> None:
        raise self.retry(exc=given, countdown=1)

    result = flaky.delay()
    run_to_end(app, clock, result.id)
    record = record_of(app, result.id)
    assert (record.state, record.retries) == (State.FAILURE, 1)
    assert record.reason in {
        "KeyError", "Exception: UnicodeDecodeError", "Exception: the other side is asleep",
    }  # fmt: skip


def test_max_retries_of_a_retry_is_checked(app: Acked) -> None:
    @app.task(bind=True)
    def flaky(self: Any) -> None:
        self.retry(max_retries="5")

    flaky.delay()
    end = run_next(app)
    assert end.event is Event.FAIL
    assert "max_retries must be a number from 0 on, got '5'" in end.reason


def test_the_exhausted_error_knows_the_arguments(app: Acked) -> None:
    caught: list[MaxRetriesExceededError] = []

    @app.task(bind=True, max_retries=0)
    def flaky(self: Any, a: int, *, b: int) -> None:
        try:
            self.retry()
        except self.MaxRetriesExceededError as error:
            caught.append(error)

    flaky.delay(1, b=2)
    assert run_next(app).event is Event.SUCCEED
    assert (caught[0].task_args, caught[0].task_kwargs) == ([1], {"b": 2})


def test_a_task_with_max_retries_none_is_retried_for_ever(app: Acked, clock: ManualClock) -> None:
    @app.task(bind=True, max_retries=None)
    def flaky(self: Any) -> str:
        if self.request.retries < 50:
            raise self.retry(countdown=1)
        return "at last"

    result = flaky.delay()
    assert run_to_end(app, clock, result.id).retries == 50


def test_max_retries_of_the_call_counts_for_that_call_alone(app: Acked, clock: ManualClock) -> None:
    runs: list[str] = []

    @app.task(bind=True, max_retries=1)
    def flaky(self: Any, patient: bool) -> None:
        runs.append(self.request.id)
        raise self.retry(countdown=1, max_retries=4 if patient else None)

    ids = [flaky.delay(False).id, flaky.delay(True).id, flaky.delay(False).id]
    for each in ids:
        run_to_end(app, clock, each)
    assert [runs.count(each) for each in ids] == [2, 5, 2]
    assert flaky.max_retries == 1


def test_retry_for_bounds_how_long_a_task_is_retried(app: Acked) -> None:
    @app.task(bind=True, max_retries=None, retry_for=60)
    def flaky(self: Any) -> None:
        raise self.retry(countdown=1)

    message = flaky.message((), {}, {})
    app.publish([message])
    app.clock.advance(61)  # type: ignore[attr-defined]  # a ManualClock
    assert run_next(app).failure.type == "MaxRetriesExceededError"  # type: ignore[union-attr]  # it has failed


def test_new_arguments_and_options_go_to_the_next_attempt(app: Acked, clock: ManualClock) -> None:
    seen: list[Any] = []

    @app.task(bind=True, name="flaky")
    def flaky(self: Any, n: int, *, key: str) -> None:
        request = self.request
        seen.append((n, key, request.delivery_info["routing_key"], request.timelimit))
        if not request.retries:
            raise self.retry((n + 1,), countdown=1, time_limit=9, headers={"a": 1}, expires=500)

    result = flaky.apply_async((1,), {"key": "k"}, priority=4, ignore_result=True)
    run_to_end(app, clock, result.id)
    message = decode(record_of(app, result.id).body)
    assert decode_arguments(message) == ([2], {"key": "k"})
    assert seen == [(1, "k", "default", (None, None)), (2, "k", "default", (9.0, None))]
    assert (message.id, message.priority, message.ignore_result) == (result.id, 4, True)
    assert message.headers == {"a": 1}


def test_a_retry_can_move_to_another_queue(app: Acked, clock: ManualClock) -> None:
    @app.task(bind=True)
    def flaky(self: Any) -> str:
        if not self.request.retries:
            raise self.retry(countdown=1, queue="slow", priority=2)
        return self.request.delivery_info["routing_key"]

    result = flaky.delay()
    run_next(app)
    record = record_of(app, result.id)
    assert (record.queue, record.priority) == ("slow", 2)
    run_to_end(app, clock, result.id)
    assert result.get() == "slow"


@pytest.mark.parametrize(
    "how", [{"kwargs": {"x": object()}}, {"args": (1, 2)}, {"quue": "x"}, {"task_id": "y"}]
)
def test_a_retry_that_cannot_be_sent_fails_the_attempt_and_loses_nothing(
    first_end: Any, how: dict[str, Any], app: Acked
) -> None:
    settlement = first_end(raising(**how))
    assert settlement.event is Event.FAIL
    assert settlement.failure.type == "NotSendable"
    assert record_of(app, settlement.id).state is State.FAILURE


def test_called_directly_there_is_no_retry(app: Acked) -> None:
    @app.task(bind=True)
    def flaky(self: Any, how: str) -> None:
        assert self.request.called_directly
        if how == "active":
            try:
                raise KeyError("active")
            except KeyError:
                raise self.retry() from None
        raise self.retry(exc=ValueError("given") if how == "given" else None)

    with pytest.raises(KeyError):
        flaky("active")
    with pytest.raises(ValueError, match="given"):
        flaky("given")
    with pytest.raises(Retry):
        flaky("neither")


def test_a_task_called_inside_another_does_not_retry_that_one(app: Acked) -> None:
    @app.task(bind=True)
    def inner(self: Any) -> None:
        raise self.retry(exc=ValueError("inner failed"))

    @app.task(bind=True)
    def outer(self: Any) -> tuple[str, bool]:
        with pytest.raises(ValueError, match="inner failed"):
            inner()
        return self.request.id, inner.request.called_directly

    result = outer.delay()
    assert run_next(app).event is Event.SUCCEED
    assert result.get() == (result.id, True)


def test_the_retry_says_when_and_why(app: Acked) -> None:
    said: list[str] = []

    @app.task(bind=True)
    def flaky(self: Any) -> None:
        retry = self.retry(exc=ValueError("x"), countdown=5, throw=False)
        said.append(str(retry))
        assert (retry.when, retry.is_eager) == (5, False)

    flaky.delay()
    run_next(app)
    assert said == ["Retry in 5s: ValueError('x')"]


def test_autoretry_covers_what_it_lists(app: Acked, clock: ManualClock) -> None:
    @app.task(autoretry_for=(OSError,), dont_autoretry_for=FileNotFoundError, max_retries=2)
    def flaky(kind: str) -> None:
        raise {"os": OSError, "missing": FileNotFoundError, "value": ValueError}[kind](kind)

    attempts = {}
    for kind in ("os", "missing", "value"):
        result = flaky.delay(kind)
        attempts[kind] = run_to_end(app, clock, result.id).attempt
    assert attempts == {"os": 3, "missing": 1, "value": 1}


def test_a_custom_exception_comes_back_as_text(app: Acked, clock: ManualClock) -> None:
    @app.task(autoretry_for=(Throttled,), max_retries=1)
    def flaky() -> None:
        raise Throttled(1)

    result = flaky.delay()
    run_to_end(app, clock, result.id)
    with pytest.raises(RemoteError, match="Throttled: slow down"):
        result.get()


def test_a_result_that_cannot_be_kept_is_no_reason_to_do_the_work_again(
    app: Acked, clock: ManualClock
) -> None:
    runs: list[int] = []

    @app.task(autoretry_for=(Exception,), retry_backoff=1)
    def sends_mail() -> object:
        runs.append(1)
        return object()

    result = sends_mail.delay()
    run_to_end(app, clock, result.id)
    assert record_of(app, result.id).state is State.FAILURE
    assert runs == [1]


def test_a_result_that_cannot_be_kept_is_retried_where_that_is_asked_for(
    app: Acked, clock: ManualClock
) -> None:
    answers = iter([object(), "fine"])
    flaky = app.task(name="t", autoretry_for=(NotSendable,))(lambda: next(answers))
    result = flaky.delay()
    run_to_end(app, clock, result.id)
    assert result.get() == "fine"


def test_an_answer_that_is_not_good_enough_is_retried(app: Acked, clock: ManualClock) -> None:
    answers = iter([None, None, "good"])

    @app.task(retry_for_result=lambda value: value is None, default_retry_delay=1)
    def ask() -> str | None:
        return next(answers)

    result = ask.delay()
    assert run_to_end(app, clock, result.id).retries == 2
    assert result.get() == "good"


def test_new_arguments_of_a_retry_are_checked_like_any_call(app: Acked) -> None:
    @app.task(bind=True)
    def flaky(self: Any, n: int) -> None:
        with pytest.raises(NotSendable, match="would arrive as text"):
            self.retry(args=(datetime(2026, 1, 1),))

    flaky.delay(1)
    assert run_next(app).event is Event.SUCCEED
