"""`AsyncResult`: what can be read, what a wait gives, what it refuses."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from acked import (
    Acked,
    AsyncResult,
    Ignore,
    MaxRetriesExceededError,
    NotSendable,
    Reject,
    RemoteError,
    TaskNotFound,
    TaskRevokedError,
    TimeLimitExceeded,
    TimeoutError,
    WorkerLostError,
)
from acked.broker import Records
from acked.clock import ManualClock
from acked.delivery import Event, Failure, Settlement
from acked.instead import OF_A_RESULT
from tests.api.inline import record_of, run_next, run_to_end


@pytest.fixture
def ends(app: Acked) -> Callable[..., AsyncResult[Any]]:
    """The result of a task whose body is *body*, after one attempt."""

    def ends(body: Callable[[], Any], **options: Any) -> AsyncResult[Any]:
        result = app.task(name="t", **options)(body).delay()
        run_next(app)
        return result

    return ends


def raises(error: BaseException) -> Callable[[], Any]:
    def body() -> Any:
        raise error

    return body


class Declined(Exception):
    """An exception of the user's own."""


def test_a_task_goes_from_pending_through_started_to_success(app: Acked) -> None:
    states: list[str] = []

    @app.task(bind=True)
    def look(self: Any) -> int:
        states.append(app.AsyncResult(self.request.id).state)
        return 42

    result = look.delay()
    states.append(result.state)
    assert not result.ready()
    run_next(app)
    assert states == ["PENDING", "STARTED"]
    assert (result.state, result.status, result.result) == ("SUCCESS", "SUCCESS", 42)
    assert result.ready() and result.successful() and not result.failed()
    assert result.get() == 42
    assert result.date_done is not None
    assert result.date_done.tzinfo is UTC


def test_an_unknown_id_is_unknown_and_not_pending(app: Acked) -> None:
    result = app.AsyncResult("never-sent")
    assert (result.state, result.result, result.name) == ("UNKNOWN", None, None)
    assert not result.ready()
    with pytest.raises(TaskNotFound, match="never sent to this broker"):
        result.get(timeout=5)


def test_a_task_waiting_for_its_retry_is_in_retry_and_says_why(
    app: Acked, clock: ManualClock
) -> None:
    @app.task(bind=True, max_retries=1)
    def flaky(self: Any) -> None:
        raise self.retry(exc=ValueError("no luck"), countdown=5)

    result = flaky.delay()
    run_next(app)
    assert (result.state, result.retries) == ("RETRY", 1)
    assert isinstance(result.result, ValueError)
    run_to_end(app, clock, result.id)
    assert result.state == "FAILURE"
    assert [(each.number, each.event) for each in result.attempts] == [
        (1, Event.RETRY),
        (2, Event.FAIL),
    ]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("bad"), ValueError("bad")),
        (ValueError(), ValueError()),
        (KeyError("k"), KeyError("k")),
        (KeyError(3), KeyError(3)),
        (FileNotFoundError(2, "No such file"), FileNotFoundError("[Errno 2] No such file")),
        (ZeroDivisionError("x"), ZeroDivisionError("x")),
        (Reject("not mine"), Reject("not mine")),
        (MaxRetriesExceededError("gone"), MaxRetriesExceededError("gone")),
        (NotSendable("x"), NotSendable("x")),
        (TimeoutError("late"), TimeoutError("late")),
    ],
)
def test_known_exceptions_come_back_as_themselves(
    ends: Any, raised: Exception, expected: Exception
) -> None:
    with pytest.raises(type(expected)) as caught:
        ends(raises(raised)).get()
    assert type(caught.value) is type(expected)
    assert caught.value.args == expected.args


@pytest.mark.parametrize(
    ("raised", "type_name"),
    [
        (Declined("card"), "tests.api.test_results.Declined"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt("x"), "KeyboardInterrupt"),
        (StopIteration("x"), "StopIteration"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError"),
        (ExceptionGroup("many", [ValueError("a")]), "ExceptionGroup"),
        (asyncio.CancelledError(), "asyncio.exceptions.CancelledError"),
    ],
)
def test_other_exceptions_come_back_as_text(
    ends: Any, raised: BaseException, type_name: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        ends(raises(raised)).get()
    assert caught.value.type_name == type_name


def test_the_traceback_in_the_worker_comes_along(ends: Any) -> None:
    result = ends(raises(ValueError("bad")))
    assert "in body" in result.traceback
    with pytest.raises(ValueError, match="bad") as caught:
        result.get()
    assert "in body" in str(caught.value.__cause__)


def test_a_traceback_begins_with_the_tasks_own_frames(app: Acked) -> None:
    traceback = app.task(name="t")(raises(ValueError("bad"))).apply().traceback
    assert traceback is not None
    assert "in body" in traceback
    assert "src/acked" not in traceback


def test_propagate_false_returns_the_exception(ends: Any) -> None:
    result = ends(raises(KeyError("k")))
    error = result.get(propagate=False)
    assert isinstance(error, KeyError)
    assert result.failed()
    assert isinstance(result.result, KeyError)


@pytest.mark.parametrize("kind", [WorkerLostError, TimeLimitExceeded])
def test_the_workers_own_verdicts_come_back_as_themselves(
    app: Acked, kind: type[Exception]
) -> None:
    @app.task
    def ping() -> None: ...

    result = ping.delay()
    (held,) = app.broker.claim("w/0", ["default"], 1).deliveries
    failure = Failure(kind.__name__, "signal 9 (SIGKILL)")
    app.broker.settle([Settlement.fail(held, at=1.0, started=0.5, failure=failure)])
    with pytest.raises(kind, match="SIGKILL"):
        result.get()


def test_a_wait_that_runs_out_says_where_the_task_stands(app: Acked) -> None:
    @app.task
    def ping() -> None: ...

    result = ping.delay()
    with pytest.raises(TimeoutError, match="is PENDING and has not ended after 0.01 s"):
        result.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        asyncio.run(result.aget(timeout=0.01))


@pytest.mark.parametrize("timeout", ["3", timedelta(seconds=3)])
def test_a_timeout_that_is_no_number_is_refused(app: Acked, timeout: Any) -> None:
    result = app.send_task("mail")
    said = f"timeout must be a number of seconds or None, got {re.escape(repr(timeout))}."
    with pytest.raises(TypeError, match=said):
        result.get(timeout=timeout)
    with pytest.raises(TypeError, match=said):
        asyncio.run(result.aget(timeout=timeout))


def test_get_returns_when_the_task_ends(app: Acked) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    result = ping.delay()
    worker = threading.Thread(target=run_next, args=(app,))
    worker.start()
    assert result.get(timeout=30, interval=0.5) == "pong"
    worker.join()


def test_many_coroutines_await_their_results(app: Acked) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    async def wait_for_all() -> list[int]:
        results = [await double.adelay(n) for n in range(50)]
        waits = [asyncio.ensure_future(_await(each)) for each in results]
        await asyncio.sleep(0)
        for _ in results:
            await asyncio.to_thread(run_next, app)
        return list(await asyncio.gather(*waits))

    async def _await(result: AsyncResult[int]) -> int:
        return await result

    assert asyncio.run(wait_for_all()) == [2 * n for n in range(50)]


def test_waiting_inside_a_task_is_refused(app: Acked) -> None:
    @app.task
    def ping() -> None: ...

    @app.task
    def parent(allowed: bool) -> None:
        child = ping.delay()
        run_next(app)
        child.get(timeout=5, disable_sync_subtasks=not allowed)

    first = parent.delay(True)
    assert run_next(app).event is Event.SUCCEED
    assert first.state == "SUCCESS"
    second = parent.delay(False)
    run_next(app)
    with pytest.raises(RuntimeError, match="waiting for a task inside a task"):
        second.get()


def test_a_revoked_task_never_starts(app: Acked) -> None:
    @app.task
    def ping() -> None: ...

    result = ping.delay()
    result.revoke()
    assert result.state == "REVOKED"
    assert app.broker.claim("w/0", ["default"], 1).deliveries == []
    with pytest.raises(TaskRevokedError, match="revoked"):
        result.get()
    assert isinstance(result.result, TaskRevokedError)


def test_a_revoked_running_task_ends_as_revoked_when_it_would_come_back(app: Acked) -> None:
    @app.task(bind=True)
    def flaky(self: Any) -> None:
        app.AsyncResult(self.request.id).revoke(terminate=True, signal="SIGTERM")
        raise self.retry(countdown=0)

    result = flaky.delay()
    run_next(app)
    assert result.state == "REVOKED"


def test_forget_deletes_the_record_of_what_has_ended_and_of_nothing_else(app: Acked) -> None:
    @app.task
    def ping() -> int:
        return 1

    result = ping.delay()
    result.forget()
    assert result.state == "PENDING"
    run_next(app)
    assert result.get() == 1
    result.forget()
    assert result.state == "UNKNOWN"


def test_a_success_is_read_once(app: Acked) -> None:
    @app.task
    def ping() -> int:
        return 1

    result = ping.delay()
    run_next(app)
    assert result.get() == 1
    app.records.discard([result.id])
    assert result.get() == 1


def test_a_failure_that_was_requeued_is_seen_as_waiting_again(app: Acked, ends: Any) -> None:
    result = ends(raises(ValueError("x")))
    assert result.state == "FAILURE"
    app.records.requeue([result.id])
    assert result.state == "PENDING"


def test_results_compare_and_print_as_their_id(app: Acked) -> None:
    one, same, other = (app.AsyncResult(each) for each in ("a", "a", "b"))
    assert one == same != other
    assert len({one, same, other}) == 2
    assert (str(one), one.task_id) == ("a", "a")


@dataclasses.dataclass
class Report:
    at: datetime
    rows: int


def test_a_result_comes_back_as_its_annotation_says(app: Acked) -> None:
    report = Report(datetime(2026, 1, 1, tzinfo=UTC), 3)

    @app.task
    def make() -> Report:
        return report

    result = make.delay()
    run_next(app)
    assert result.get() == report
    assert app.AsyncResult(result.id).get() == report


def test_a_result_that_does_not_fit_its_annotation_comes_back_as_it_is(app: Acked) -> None:
    @app.task
    def make() -> datetime:
        return "soon"  # type: ignore[return-value]  # what is tested

    result = make.delay()
    run_next(app)
    assert result.get() == "soon"


def test_a_result_without_annotation_becomes_what_json_has(ends: Any) -> None:
    def body():  # type: ignore[no-untyped-def]  # what is tested
        return {"at": datetime(2026, 1, 1), "ids": {3}, 1: (2,)}

    assert ends(body).get() == {"at": "2026-01-01T00:00:00", "ids": [3], "1": [2]}


def test_a_result_that_cannot_be_stored_names_type_and_place(ends: Any) -> None:
    with pytest.raises(NotSendable, match=r"result of t\['a'\]\[1\] is an object, which cannot"):
        ends(lambda: {"a": [datetime(2026, 1, 1), object()]}).get()


def test_a_result_over_the_limit_is_refused_with_its_size(app: Acked, ends: Any) -> None:
    app.configure(max_result_size=10)
    with pytest.raises(NotSendable, match="result of t is 22 bytes of JSON, more than"):
        ends(lambda: "x" * 20).get()


def test_an_ignored_result_is_none(ends: Any) -> None:
    assert ends(lambda: 42, ignore_result=True).get() is None


def test_a_task_that_fails_by_hand_keeps_its_meta(app: Acked) -> None:
    @app.task(bind=True)
    def by_hand(self: Any) -> None:
        self.update_state(state="FAILURE", meta={"why": "no"})
        raise Ignore

    result = by_hand.delay()
    run_next(app)
    assert result.state == "FAILURE"
    with pytest.raises(RemoteError):
        result.get()


def test_info_is_the_meta_of_a_running_task(app: Acked) -> None:
    seen: list[Any] = []

    @app.task(bind=True)
    def work(self: Any) -> None:
        self.update_state(state="PROGRESS", meta={"current": 3, "total": 10})
        self.request.flush_progress()
        result = app.AsyncResult(self.request.id)
        seen.append((result.state, result.info, result.progress.done, result.progress.total))

    work.delay()
    run_next(app)
    assert seen == [("PROGRESS", {"current": 3, "total": 10}, 3.0, 10.0)]


def test_the_application_reads_records_through_its_broker(app: Acked) -> None:
    assert isinstance(app.records, Records)
    assert record_of(app, app.send_task("x").id).task == "x"


@pytest.mark.parametrize("name", sorted(OF_A_RESULT))
def test_what_a_result_of_celery_has_besides_says_what_to_do_instead(app: Acked, name: str) -> None:
    result = app.send_task("mail")
    with pytest.raises(AttributeError, match=f"^a result has no '{name}': ") as missing:
        getattr(result, name)
    assert OF_A_RESULT[name] in str(missing.value)
    assert not hasattr(result, name)
    assert copy.copy(result) == result


def test_what_celery_tells_of_a_result_by_its_name_is_in_the_record(app: Acked) -> None:
    result = app.send_task("mail", (1,), {"to": "ann"}, queue="mails")
    record = app.records.get(result.id)
    assert record is not None
    assert record.queue == "mails"
    body = json.loads(record.body)
    assert (body["args"], body["kwargs"]) == ([1], {"to": "ann"})
