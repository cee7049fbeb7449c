"""`self.request`: what a task knows about its own run."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from acked import Acked
from acked.clock import ManualClock
from acked.request import DIRECT, Request
from tests.api.inline import run_next, run_to_end


def test_it_has_the_fields_that_celerys_users_read(app: Acked, clock: ManualClock) -> None:
    seen: list[Request] = []

    @app.task(bind=True, soft_time_limit=5, time_limit=10, ignore_result=True)
    def look(self: Any, a: int, *, b: int) -> None:
        seen.append(self.request)

    result = look.apply_async(
        (1,), {"b": 2}, queue="slow", priority=3, expires=60, countdown=5, headers={"x": 1}
    )
    clock.advance(5)
    run_next(app, queue="slow")
    request = seen[0]
    assert (request.id, request.correlation_id, request.root_id) == (result.id,) * 3
    assert (request.task, request.parent_id) == (look.name, None)
    assert (request.args, request.kwargs) == ([1], {"b": 2})
    assert (request.retries, request.attempt, request.losses) == (0, 1, 0)
    assert request.delivery_info == {
        "exchange": "", "routing_key": "slow", "priority": 3, "redelivered": False,
    }  # fmt: skip
    assert request.eta == datetime.fromtimestamp(clock.now(), UTC).isoformat()
    assert request.expires == datetime.fromtimestamp(clock.now() + 55, UTC).isoformat()
    assert request.timelimit == (10, 5)
    assert request.hostname == "inline/0"
    assert request.headers == {"x": 1}
    assert (request.is_eager, request.called_directly, request.ignore_result) == (
        False, False, True,
    )  # fmt: skip
    for name in ("group", "chord", "chain", "callbacks", "errbacks", "children", "reply_to"):
        assert getattr(request, name) is None


def test_it_is_made_afresh_for_each_attempt(app: Acked, clock: ManualClock) -> None:
    seen: list[Request] = []

    @app.task(bind=True)
    def flaky(self: Any) -> None:
        seen.append(self.request)
        if not self.request.retries:
            raise self.retry(countdown=1)

    run_to_end(app, clock, flaky.delay().id)
    first, second = seen
    assert first is not second
    assert (first.retry_asked is None, second.retry_asked is None) == (False, True)


def test_a_retry_is_no_redelivery(app: Acked, clock: ManualClock) -> None:
    seen: list[bool] = []

    @app.task(bind=True)
    def flaky(self: Any) -> None:
        seen.append(self.request.delivery_info["redelivered"])
        if not self.request.retries:
            raise self.retry(countdown=1)

    run_to_end(app, clock, flaky.delay().id)
    assert seen == [False, False]


def test_outside_of_a_run_it_is_a_direct_call(app: Acked) -> None:
    @app.task(bind=True)
    def look(self: Any) -> bool:
        return self.request.called_directly

    assert look.request is DIRECT
    assert (DIRECT.id, DIRECT.retries, DIRECT.attempt) == (None, 0, 1)
    assert look() is True


def test_each_thread_has_its_own(app: Acked) -> None:
    seen: list[Any] = []

    @app.task(bind=True)
    def look(self: Any) -> None:
        thread = threading.Thread(target=lambda: seen.append(self.request.called_directly))
        thread.start()
        thread.join()
        seen.append(self.request.called_directly)

    look.delay()
    run_next(app)
    assert seen == [True, False]


def test_it_belongs_to_its_task_alone(app: Acked) -> None:
    @app.task(bind=True)
    def other(self: Any) -> None: ...

    @app.task(bind=True)
    def look(self: Any) -> tuple[bool, bool]:
        return self.request.called_directly, other.request.called_directly

    result = look.delay()
    run_next(app)
    assert result.get() == (False, True)


@pytest.mark.parametrize("name", ["retries", "id"])
def test_what_it_says_cannot_be_changed_by_the_task(app: Acked, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Request(), name, 5)
