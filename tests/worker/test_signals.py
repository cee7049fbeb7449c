"""Every signal, as a real worker sends it: when, by whom, and with Celery's arguments."""

from __future__ import annotations

import signal
from typing import Any

import apsw
import pytest

from acked.delivery import State
from tests.harness.workers import Worker, until
from tests.worker.conftest import Shop

SHOP = "tests.harness.shop"
ABOUT_THE_WORKER = {
    "worker_init", "worker_ready", "worker_shutdown", "worker_process_init",
    "worker_process_shutdown",
}  # fmt: skip


def listening(shop: Shop) -> Worker:
    """A worker whose application hears every signal."""
    return shop.work(processes=1, environment={"SHOP_LISTENS": "1"})


def heard(shop: Shop, *names: str, within: float = 20.0) -> list[tuple[str, dict[str, Any]]]:
    """Sender and arguments of each signal so named, once they have all been heard; in order."""

    def told() -> list[dict[str, Any]]:
        return [line for line in shop.history("heard") if line["signal"] in names]

    until(
        lambda: set(names) <= {line["signal"] for line in told()}, within=within,
        what=f"{names}, of {[line['signal'] for line in shop.history('heard')]}",
    )  # fmt: skip
    return [(line["sender"], line["told"]) for line in told()]


def order(shop: Shop) -> list[str]:
    """The signals about tasks that were heard."""
    names = [line["signal"] for line in shop.history("heard")]
    return [name for name in names if name not in ABOUT_THE_WORKER]


def test_a_success_is_told_with_its_result_and_its_run_time(shop: Shop) -> None:
    listening(shop)
    task_id = shop.tasks.log_and_sleep.delay("slowly", 0.2).id
    shop.finish(task_id)
    ((sender, told),) = heard(shop, "task_success")
    assert sender == f"{SHOP}.log_and_sleep"
    assert told.pop("runtime") == pytest.approx(0.2, abs=0.1)
    assert told == {"result": None}
    ((_, before),) = heard(shop, "task_prerun")
    assert (before["task_id"], before["args"], before["kwargs"]) == (task_id, ["slowly", 0.2], {})
    ((_, after),) = heard(shop, "task_postrun")
    assert (after["task_id"], after["state"], after["retval"]) == (task_id, "SUCCESS", None)
    assert order(shop) == ["task_prerun", "task_success", "task_postrun"]


def test_a_failure_is_told_with_the_exception(shop: Shop) -> None:
    listening(shop)
    task_id = shop.tasks.hooked.delay("fail").id
    shop.finish(task_id)
    ((sender, told),) = heard(shop, "task_failure")
    assert sender == f"{SHOP}.hooked"
    assert told["traceback"].startswith("traceback: ")
    assert told["einfo"].startswith("ExceptionInfo: Traceback")
    del told["traceback"], told["einfo"]
    assert told == {
        "task_id": task_id, "exception": "ValueError: no", "args": ["fail"], "kwargs": {},
    }  # fmt: skip


def test_a_retry_is_told_with_the_request_of_the_attempt_that_asked(shop: Shop) -> None:
    listening(shop)
    task_id = shop.tasks.retry_until.delay(2).id
    shop.finish(task_id)
    told = heard(shop, "task_retry")
    assert [sender for sender, _ in told] == [f"{SHOP}.retry_until"] * 2
    requests = [each["request"] for _, each in told]
    assert [(each["id"], each["retries"]) for each in requests] == [(task_id, 0), (task_id, 1)]
    assert all({"request", "reason", "einfo"} == set(each) for _, each in told)


def test_the_retry_of_a_killed_attempt_is_told_with_its_request(shop: Shop) -> None:
    listening(shop)
    task_id = shop.tasks.overruns_and_retries.delay().id
    (record,) = shop.finish(task_id)
    assert (record.state, record.retries) == (State.FAILURE, 2)
    until(lambda: len(heard(shop, "task_retry")) == 2, what="both retries are told")
    requests = [told["request"] for _, told in heard(shop, "task_retry")]
    assert [(each["id"], each["retries"]) for each in requests] == [(task_id, 0), (task_id, 1)]
    assert all(each["hostname"].endswith("/0") for each in requests)
    ((_, failed),) = heard(shop, "task_failure")
    assert failed["exception"] == "TimeLimitExceeded: time_limit of 1 s passed"


@pytest.mark.parametrize(
    ("task", "signum"), [("hog", signal.SIGKILL), ("cleans_up_slowly", None)],
    ids=["a process is killed", "a coroutine is cancelled"],
)  # fmt: skip
def test_a_termination_is_told(shop: Shop, task: str, signum: int | None) -> None:
    listening(shop)
    arguments = ("sleep", 30.0) if task == "hog" else ()
    result = getattr(shop.tasks, task).delay(*arguments)
    shop.started(result.id)
    result.revoke(terminate=True)
    (record,) = shop.finish(result.id)
    assert record.state is State.REVOKED
    ((sender, told),) = heard(shop, "task_revoked")
    assert sender == f"{SHOP}.{task}"
    request = told.pop("request")
    assert (request["id"], request["args"]) == (result.id, list(arguments))
    assert told == {"terminated": True, "signum": signum, "expired": False}


def test_a_task_that_expired_is_told_as_revoked(shop: Shop) -> None:
    late = shop.tasks.work.apply_async((5.0,), expires=0.01)
    listening(shop)
    (record,) = shop.finish(late.id)
    assert record.state is State.REVOKED
    ((sender, told),) = heard(shop, "task_revoked")
    assert sender == f"{SHOP}.work"
    request = told.pop("request")
    assert (request["id"], request["args"]) == (late.id, [5.0])
    assert told == {"terminated": False, "signum": None, "expired": True}


def test_what_a_hook_raises_is_told_as_an_internal_error(shop: Shop) -> None:
    listening(shop)
    task_id = shop.tasks.exits_in_hook.delay().id
    (record,) = shop.finish(task_id)
    assert record.state is State.SUCCESS
    ((sender, told),) = heard(shop, "task_internal_error")
    assert sender == f"{SHOP}.exits_in_hook"
    assert told["request"]["id"] == told["task_id"] == task_id
    assert (told["args"], told["kwargs"], told["exception"]) == ([], {}, "SystemExit: 3")
    assert told["traceback"].startswith("traceback: ")
    assert told["einfo"].startswith("ExceptionInfo: Traceback")


def test_a_hook_that_raises_after_a_kill_keeps_nobody_from_being_told(shop: Shop) -> None:
    listening(shop)
    task_id = shop.tasks.overruns_and_fails_in_its_hook.delay().id
    shop.finish(task_id)
    until(lambda: len(shop.history("hook")) == 3, what="the hooks are called")
    assert [each["hook"] for each in shop.history("hook")] == [
        "before_start", "on_failure", "after_return",
    ]  # fmt: skip
    ((_, error),) = heard(shop, "task_internal_error")
    assert error["exception"] == "ValueError: of the hook"
    assert len(heard(shop, "task_failure")) == 1


def test_a_name_that_no_task_has_is_told(shop: Shop) -> None:
    worker = listening(shop)
    task_id = shop.app.send_task("shop.not_deployed_yet").id
    sender, told = heard(shop, "task_unknown")[0]
    assert sender.endswith("/0") and f".{worker.pid}." in sender, "the process that met it"
    assert (told["name"], told["id"]) == ("shop.not_deployed_yet", task_id)
    assert "shop.not_deployed_yet" in told["message"]
    assert told["exc"] == "UnknownTask: shop.not_deployed_yet"


def test_a_message_that_is_none_is_told_as_rejected_and_a_reject_of_the_tasks_is_not(
    shop: Shop,
) -> None:
    worker = listening(shop)
    refused = shop.tasks.rejects.delay(False)
    shop.finish(refused.id)
    connection = apsw.Connection(str(shop.database))
    connection.set_busy_timeout(10_000)
    connection.execute(
        "INSERT INTO task (id, name, queue, priority, state, due, sent, body)"
        " VALUES ('bad', 'x', 'default', 0, 'QUEUED', 1.0, 1.0, ?)",
        (b"no message",),
    )
    connection.close()
    shop.finish("bad")
    ((sender, told),) = heard(shop, "task_rejected")
    assert sender.endswith("/0") and f".{worker.pid}." in sender, "the process that met it"
    assert told.pop("exc").startswith("MessageUnreadable: not a message")
    assert told == {"message": "bytes: b'no message'"}


def test_what_a_task_sends_is_told_before_and_after(shop: Shop) -> None:
    listening(shop)
    (sent,) = shop.tasks.sends_more.delay(1).get(timeout=20)
    shop.finish(sent)
    for name in ("before_task_publish", "after_task_publish"):
        ((sender, told),) = heard(shop, name)
        assert sender == f"{SHOP}.work"
        assert told["headers"]["id"] == sent
        assert (told["body"].startswith("tuple: ([0], {}"), told["routing_key"]) == (
            True, "default",
        )  # fmt: skip


def test_a_worker_tells_of_its_own_life(shop: Shop) -> None:
    worker = listening(shop)
    (pid,) = worker.processes
    shop.tasks.noop.delay(1).get(timeout=20)
    assert worker.stop() == 0
    lines = [x for x in shop.history("heard") if x["signal"] in ABOUT_THE_WORKER]
    assert [line["signal"] for line in lines] == [
        "worker_init", "worker_ready", "worker_process_init", "worker_process_shutdown",
        "worker_shutdown",
    ]  # fmt: skip
    by_name = {line["signal"]: line for line in lines}
    for name in ("worker_init", "worker_ready", "worker_shutdown"):
        assert (by_name[name]["sender"], by_name[name]["told"]) == ("shop", {})
        assert by_name[name]["pid"] != pid
    for name in ("worker_process_init", "worker_process_shutdown"):
        assert by_name[name]["pid"] == pid
        assert by_name[name]["sender"].endswith("/0")
    assert by_name["worker_process_shutdown"]["told"] == {"pid": pid, "exitcode": 0}
