"""Running in place: `apply`, and every send while ``task_always_eager``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from acked import (
    Acked,
    EagerResult,
    Ignore,
    MaxRetriesExceededError,
    NotSendable,
    Retry,
    Task,
    TaskRevokedError,
    signals,
)


class Declined(Exception):
    """An exception of the user's own."""


def test_apply_runs_the_task_and_gives_its_value(app: Acked) -> None:
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    result = add.apply((1,), {"b": 2})
    assert isinstance(result, EagerResult)
    assert (result.state, result.get(), result.result, result.ready()) == ("SUCCESS", 3, 3, True)
    assert (result.name, result.retries, len(result.attempts)) == (add.name, 0, 1)
    assert app.records.counts() == []


def test_the_value_is_the_object_that_was_returned(app: Acked) -> None:
    value = {"at": datetime(2026, 1, 1), "ids": {1}}

    @app.task
    def make() -> Any:
        return value

    assert make.apply().get() is value


def test_retries_run_at_once_and_count_up(app: Acked) -> None:
    seen: list[tuple[int, bool]] = []

    @app.task(bind=True)
    def flaky(self: Any) -> str:
        seen.append((self.request.retries, self.request.is_eager))
        if self.request.retries < 3:
            raise self.retry(countdown=3600)
        return "done"

    result = flaky.apply()
    assert seen == [(0, True), (1, True), (2, True), (3, True)]
    assert (result.get(), result.retries, len(result.attempts)) == ("done", 3, 4)


def test_an_exhausted_task_has_failed(app: Acked) -> None:
    @app.task(bind=True, max_retries=1)
    def flaky(self: Any) -> None:
        raise self.retry()

    with pytest.raises(MaxRetriesExceededError):
        flaky.apply().get()


def test_a_task_that_never_stops_retrying_is_stopped(app: Acked) -> None:
    @app.task(bind=True, max_retries=None)
    def endless(self: Any) -> None:
        raise self.retry(countdown=1)

    with pytest.raises(RuntimeError, match="asked to run again 1000 times"):
        endless.apply()


def test_an_exception_is_the_one_that_was_raised(app: Acked) -> None:
    error = Declined("card")

    @app.task
    def pay() -> None:
        raise error

    result = pay.apply()
    assert result.state == "FAILURE"
    assert result.result is error
    assert "Declined: card" in (result.traceback or "")
    with pytest.raises(Declined):
        result.get()
    with pytest.raises(Declined):
        pay.apply(throw=True)


def test_a_checkpoint_survives_a_retry_in_place(app: Acked) -> None:
    @app.task(bind=True)
    def work(self: Any) -> Any:
        if not self.request.retries:
            self.save(500)
            self.progress(1, 2)
            raise self.retry()
        return self.saved

    result = work.apply()
    assert result.get() == 500
    assert result.progress is not None


def test_arguments_are_checked_and_converted_as_for_a_worker(app: Acked) -> None:
    @app.task
    def when(at: datetime) -> str:
        return type(at).__name__

    assert when.apply(("2026-01-01T00:00:00",)).get() == "datetime"
    with pytest.raises(NotSendable):
        when.apply((5,))


def test_expired_and_ignored_end_as_in_a_worker(app: Acked) -> None:
    @app.task(bind=True)
    def skip(self: Any) -> None:
        self.update_state(state="FAILURE", meta={"why": "no"})
        raise Ignore

    assert skip.apply().state == "FAILURE"
    late = skip.apply(expires=0)
    with pytest.raises(TaskRevokedError, match="expired"):
        late.get()


def test_an_async_task_runs_in_place_with_and_without_a_running_loop(app: Acked) -> None:
    @app.task(bind=True)
    async def double(self: Any, n: int) -> tuple[int, bool]:
        await asyncio.sleep(0)
        return 2 * n, self.request.is_eager

    async def inside_a_loop() -> tuple[int, bool]:
        return double.apply((2,)).get()

    assert double.apply((2,)).get() == (4, True)
    assert asyncio.run(inside_a_loop()) == (4, True)


def test_always_eager_runs_every_kind_of_send_in_place(app: Acked) -> None:
    app.configure(task_always_eager=True)

    @app.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    async def in_coroutines() -> list[int]:
        return [(await add.adelay(1)).get(), (await add.aapply_async((1,))).get()]

    assert add.delay(1).get() == 2
    assert add.apply_async((1,), {"b": 5}, countdown=3600).get() == 6
    assert [each.get() for each in add.delay_many([(1,), (2,)])] == [2, 3]
    assert [each.get() for each in app.send_many([add.s(4)])] == [5]
    assert asyncio.run(in_coroutines()) == [2, 2]
    assert app.records.counts() == []


def test_eager_exceptions_propagate_when_asked_to(app: Acked) -> None:
    app.configure(task_always_eager=True, task_eager_propagates=True)

    @app.task
    def pay() -> None:
        raise Declined("card")

    with pytest.raises(Declined):
        pay.delay()


def test_an_eager_task_may_wait_for_another(app: Acked) -> None:
    app.configure(task_always_eager=True)

    @app.task
    def inner() -> int:
        return 1

    @app.task
    def outer() -> int:
        return inner.delay().get() + 1

    assert outer.delay().get() == 2


class Told(Task[..., Any]):
    told: list[tuple[Any, ...]] = []

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.told.append(("before_start", args, kwargs))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self.told.append(("on_success", retval))

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("on_failure", str(exc), "Traceback" in str(einfo)))

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("on_retry", str(exc)))

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        self.told.append(("after_return", status))


def test_hooks_run_in_celerys_order(app: Acked) -> None:
    @app.task(bind=True, base=Told)
    def flaky(self: Any, good: bool) -> str:
        if not self.request.retries:
            raise self.retry(exc=ValueError("first"))
        if not good:
            raise KeyError("second")
        return "ok"

    Told.told.clear()
    flaky.apply((True,))
    assert Told.told == [
        ("before_start", [True], {}), ("on_retry", "first"),
        ("before_start", [True], {}), ("on_success", "ok"), ("after_return", "SUCCESS"),
    ]  # fmt: skip
    Told.told.clear()
    flaky.apply((False,))
    assert Told.told[3:] == [("on_failure", "'second'", True), ("after_return", "FAILURE")]


@pytest.fixture
def heard() -> Any:
    """Connects receivers that note the signal, and disconnects them again."""
    notes: list[str] = []
    connected: list[tuple[signals.Signal, Callable[..., None]]] = []

    def listen(*listened: signals.Signal) -> list[str]:
        for each in listened:

            def receiver(sender: object, signal: signals.Signal, **named: Any) -> None:
                del sender, named
                notes.append(signal.name)

            each.connect(receiver)
            connected.append((each, receiver))
        return notes

    yield listen
    for each, receiver in connected:
        each.disconnect(receiver)


def test_signals_fire_in_place(app: Acked, heard: Any) -> None:
    notes = heard(
        signals.task_prerun, signals.task_postrun, signals.task_success, signals.task_failure,
        signals.task_retry,
    )  # fmt: skip

    @app.task(bind=True)
    def flaky(self: Any) -> None:
        if not self.request.retries:
            raise self.retry()

    flaky.apply()
    assert notes == [
        "task_prerun", "task_retry", "task_postrun", "task_prerun", "task_success", "task_postrun",
    ]  # fmt: skip


def test_a_retry_is_told_with_the_retry_as_its_reason(app: Acked) -> None:
    told: list[Any] = []

    def hear(reason: Any, **_: Any) -> None:
        told.append(reason)

    signals.task_retry.connect(hear)
    try:

        @app.task(bind=True, autoretry_for=(OSError,), default_retry_delay=7)
        def flaky(self: Any) -> None:
            if self.request.retries == 0:
                self.retry(countdown=5, exc=KeyError("a"))
            elif self.request.retries == 1:
                self.retry(countdown=6, throw=False)
            elif self.request.retries == 2:
                raise OSError("b")

        flaky.apply()
    finally:
        signals.task_retry.disconnect(hear)
    assert all(isinstance(each, Retry) for each in told)
    assert [(repr(each.exc), each.when) for each in told] == [
        ("KeyError('a')", 5), ("None", 6), ("OSError('b')", 7),
    ]  # fmt: skip
