"""Each ending that was measured on Celery 5.6 with Redis, and the opposite one here.

The left column of the table in docs/from-celery.md says what Celery did; each test says what acked
does instead.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

import apsw
import pytest

from acked import NotSendable
from acked.delivery import Event, State
from tests.harness.workers import until
from tests.worker.conftest import Shop
from tests.worker.forms import LONG, sizes

SERVED = 1.0 if LONG else 2.0
"""Seconds after an end within which the next task starts. In the short form another file is tested
at the same time, and what a new process needs of the processors it has to share."""

GRACE = 1.0
"""Seconds after its limit within which a task has ended."""


def passed_its_limit(shop: Shop, task_id: str, limit: float) -> None:
    """Each attempt of *task_id* ended by its *limit*, no earlier and in time, and the worker soon
    served the next: another attempt of it, or another task."""
    attempts = shop.app.records.attempts(task_id)
    for attempt in attempts:
        assert attempt.reason.endswith(f"time_limit of {limit:g} s passed")
        # The limit's clock is another one, and was read a moment earlier or later.
        assert limit - 0.05 <= attempt.ended - attempt.started <= limit + GRACE
    for attempt, following in itertools.pairwise(attempts):
        assert following.started - attempt.ended <= SERVED
    serves_the_next(shop, attempts[-1].ended)


def serves_the_next(shop: Shop, ended: float) -> None:
    """The next task starts soon after that wall-clock time, and runs."""
    following = shop.tasks.noop.delay(7)
    assert following.get(timeout=10) == 7
    (attempt,) = shop.app.records.attempts(following.id)
    assert attempt.started - ended <= SERVED


def test_a_task_whose_process_is_killed_runs_again_by_default(shop: Shop) -> None:
    worker = shop.work()
    result = shop.tasks.work.delay(1.0)
    shop.started(result.id)
    pid = shop.history("start")[0]["pid"]
    worker.kill_process(pid)
    (record,) = shop.finish(result.id)
    assert record.state is State.SUCCESS
    assert shop.starts(result.id) == 2
    first, second = shop.app.records.attempts(result.id)
    assert first.loss and "signal 9 (SIGKILL)" in first.reason
    assert first.consumer in {f"{shop.app.records.workers()[0].worker}/{n}" for n in range(2)}
    assert second.event is Event.SUCCEED


def test_a_task_that_kills_its_process_stops_after_three_losses(shop: Shop) -> None:
    worker = shop.work()
    poison = shop.tasks.kill_own_process.delay()
    (record,) = shop.finish(poison.id)
    assert record.state is State.FAILURE
    last = shop.history("start")[-1]["pid"]
    assert f"signal 9 (SIGKILL), pid {last}; poison" in record.reason
    assert shop.starts(poison.id) == 3
    gaps = [a.next_at is not None for a in shop.app.records.attempts(poison.id)]
    assert gaps == [False, True, False], "at once after the first loss, with a wait after further"
    serves_the_next(shop, shop.app.records.attempts(poison.id)[-1].ended)
    assert worker.process.poll() is None


def test_the_count_of_losses_survives_a_restart_of_the_worker(shop: Shop) -> None:
    worker = shop.work()
    poison = shop.tasks.kill_own_process.delay()
    shop.started(poison.id, 2)
    worker.stop()
    shop.work()
    (record,) = shop.finish(poison.id)
    assert record.state is State.FAILURE
    assert shop.starts(poison.id) == 3


def test_the_task_of_a_worker_killed_whole_runs_on_the_other_worker(shop: Shop) -> None:
    first = shop.work(processes=1)
    result = shop.tasks.work.delay(0.6)
    shop.started(result.id)
    shop.work(processes=1)
    first.kill_tree()
    (record,) = shop.finish(result.id)
    assert record.state is State.SUCCESS
    assert shop.check([result.id]).violations == []


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_task_longer_than_many_leases_starts_once(shop: Shop) -> None:
    """200 s and leases of 10 s on Celery; here the same 200 s, or 10, are many leases of 0.5 s,
    with two workers to steal it."""
    seconds = sizes(10, 200)
    shop.environment |= {"SHOP_LEASE": "0.5", "SHOP_HEARTBEAT": "0.1"}
    shop.work()
    shop.work()
    result = shop.tasks.work.delay(seconds)
    (record,) = shop.finish(result.id, within=seconds + 20)
    assert record.state is State.SUCCESS
    assert shop.starts(result.id) == 1


def test_a_countdown_of_many_leases_starts_once(shop: Shop) -> None:
    shop.environment |= {"SHOP_LEASE": "0.5", "SHOP_HEARTBEAT": "0.1"}
    shop.work()
    shop.work()
    result = shop.tasks.work.apply_async((0.0,), countdown=6)
    (record,) = shop.finish(result.id)
    assert shop.starts(result.id) == 1
    (start,) = shop.history("start")
    assert record.state is State.SUCCESS
    assert start["at"] is not None


def test_a_retry_whose_write_fails_leaves_the_task_to_be_redelivered(shop: Shop) -> None:
    """Nobody can write when the retry is decided, and then the whole worker is killed."""
    worker = shop.work(processes=1)
    result = shop.tasks.retries_slowly.delay(0.5)
    shop.started(result.id)
    blocker = apsw.Connection(str(shop.database))
    blocker.execute("BEGIN IMMEDIATE")
    until(lambda: shop.history("end"), what="end of the first attempt")
    time.sleep(0.3)  # the settlement is decided, and waits for the disk
    worker.kill_tree()
    assert shop.record(result.id).state is State.RUNNING
    blocker.execute("ROLLBACK")
    blocker.close()
    shop.work(processes=1)
    (record,) = shop.finish(result.id)
    assert (record.state, record.retries) == (State.SUCCESS, 1)
    assert shop.starts(result.id) == 2


def test_a_retry_with_what_is_not_json_ends_as_a_failure_that_names_it(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.retries_with_no_json.delay()
    (record,) = shop.finish(result.id)
    assert record.state is State.FAILURE
    assert "NotSendable" in record.reason
    assert "argument x is an object, which JSON cannot carry" in record.reason
    assert shop.starts(result.id) == 1


@pytest.mark.parametrize("name", ["swallowed_retry", "swallowed_bare"])
def test_a_swallowed_retry_is_one_retry(shop: Shop, name: str) -> None:
    shop.work(processes=1)
    result = getattr(shop.tasks, name).delay()
    (record,) = shop.finish(result.id)
    assert (record.state, record.retries) == (State.SUCCESS, 1)
    assert result.get(timeout=1) == "ran again"
    assert shop.starts(result.id) == 2


def test_a_thousand_quick_retries_leave_no_task_in_retry(shop: Shop) -> None:
    shop.work("--threads", "2")
    results = shop.tasks.retry_until.delay_many([(1,)] * 1000)
    for record in shop.finish(*(r.id for r in results), within=60):
        assert record.state is State.SUCCESS
        assert record.retries == 1


def test_a_failure_after_a_quick_retry_is_the_state_that_stays(shop: Shop) -> None:
    shop.work()
    results = [shop.tasks.leaky.delay() for _ in range(200)]
    for record in shop.finish(*(r.id for r in results), within=60):
        assert (record.state, record.retries) == (State.FAILURE, 1)


def test_an_override_of_one_call_does_not_leak_into_the_next(shop: Shop) -> None:
    shop.work(processes=1)
    runs = []
    for override in (None, 6, None):
        result = shop.tasks.leaky.delay(override)
        shop.finish(result.id)
        runs.append(shop.starts(result.id))
    assert runs == [2, 7, 2]


def test_ignore_result_of_a_call_is_kept_by_its_retry(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.retry_until.apply_async((1,), ignore_result=True)
    (record,) = shop.finish(result.id)
    assert (record.state, record.retries, record.result) == (State.SUCCESS, 1, None)


def test_a_broad_except_does_not_swallow_the_soft_limit(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.swallows_soft_limit.delay()
    (record,) = shop.finish(result.id)
    assert record.state is State.FAILURE
    assert "SoftTimeLimitExceeded" in record.reason


@pytest.mark.chaos
def test_a_hard_limit_goes_through_the_same_retry_policy(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.overruns_and_retries.delay()
    (record,) = shop.finish(result.id)
    assert record.state is State.FAILURE
    assert shop.starts(result.id) == 3
    attempts = shop.app.records.attempts(result.id)
    assert [a.event for a in attempts] == [Event.RETRY, Event.RETRY, Event.FAIL]
    passed_its_limit(shop, result.id, 1)


@pytest.mark.chaos
def test_autoretry_for_may_name_the_hard_limit_alone(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.overruns_by_name.delay()
    (record,) = shop.finish(result.id)
    assert (record.state, shop.starts(result.id)) == (State.FAILURE, 2)
    passed_its_limit(shop, result.id, 1)


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["sleep", "gil", "loop"])
@pytest.mark.parametrize("pool", [(), ("--threads", "2")], ids=["main thread", "threads"])
def test_the_hard_limit_holds(shop: Shop, how: str, pool: tuple[str, ...]) -> None:
    shop.work(*pool, processes=1)
    result = shop.tasks.overruns.delay(how)
    (record,) = shop.finish(result.id)
    assert record.state is State.FAILURE
    passed_its_limit(shop, result.id, 1)


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["await", "sleep", "gil"])
def test_the_hard_limit_holds_for_coroutines(shop: Shop, how: str) -> None:
    shop.work(processes=1)
    result = shop.tasks.overruns_async.delay(how)
    (record,) = shop.finish(result.id)
    assert record.state is State.FAILURE
    passed_its_limit(shop, result.id, 1)


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("task", "pool"),
    [("catches_soft_limit", ()), ("catches_soft_limit_async", ()),
     ("catches_soft_limit_in_steps", ("--threads", "2"))],
    ids=["main thread", "coroutine", "thread"],
)  # fmt: skip
def test_the_soft_limit_arrives_in_time_and_can_be_caught(
    shop: Shop, task: str, pool: tuple[str, ...]
) -> None:
    shop.work(*pool, processes=1)
    result = getattr(shop.tasks, task).delay()
    assert result.get(timeout=19) == "cleaned up"
    (attempt,) = shop.app.records.attempts(result.id)
    assert 1.0 <= attempt.ended - attempt.started <= 1.0 + sizes(2, 1)


@pytest.mark.chaos
def test_in_a_thread_the_soft_limit_waits_for_the_call_to_return_and_the_hard_one_does_not(
    shop: Shop,
) -> None:
    shop.work("--threads", "2", processes=1)
    result = shop.tasks.catches_soft_limit.apply_async(time_limit=3)
    (record,) = shop.finish(result.id)
    assert (record.state, record.reason) == (
        State.FAILURE, "TimeLimitExceeded: time_limit of 3 s passed",
    )  # fmt: skip
    passed_its_limit(shop, result.id, 3)


def test_a_soft_limit_above_the_hard_one_is_refused(shop: Shop) -> None:
    with pytest.raises(NotSendable, match="soft_time_limit"):
        shop.tasks.work.apply_async((0,), soft_time_limit=20, time_limit=10)


def test_delayed_tasks_are_not_in_the_workers_memory(shop: Shop) -> None:
    worker = shop.work()
    finish = shop.tasks.noop.delay(1)
    finish.get(timeout=10)
    before = resident(worker.pid) + sum(resident(pid) for pid in worker.processes)
    tomorrow = [shop.tasks.noop.s(n).set(countdown=3600 * 24) for n in range(20_000)]
    shop.app.send_many(tomorrow)
    shop.tasks.noop.delay(2).get(timeout=10)
    time.sleep(2.5)  # two heartbeats, in which a worker that hoards would have hoarded
    after = resident(worker.pid) + sum(resident(pid) for pid in worker.processes)
    assert after - before < 10 * 1024, f"{before} KiB grew to {after} KiB"
    (counts,) = shop.app.records.counts()
    assert (counts.scheduled, counts.running) == (20_000, 0)


def test_a_revoke_sent_with_no_worker_up_holds(shop: Shop) -> None:
    result = shop.tasks.work.delay()
    result.revoke()
    later = shop.tasks.work.delay()
    shop.work(processes=1)
    shop.finish(later.id)
    assert shop.record(result.id).state is State.REVOKED
    assert shop.starts(result.id) == 0


def test_an_unknown_id_is_unknown(shop: Shop) -> None:
    assert shop.app.AsyncResult("never-sent").state == "UNKNOWN"


def test_an_unknown_task_name_stays_until_a_worker_knows_it(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.app.send_task("shop.not_deployed_yet")
    record = until(
        lambda: (r := shop.record(result.id)).state is State.SCHEDULED and r,
        what="postponed",
    )
    assert "no worker knows this task: shop.not_deployed_yet" in record.reason
    assert record.attempt == 0
    assert shop.app.records.attempts(result.id) == []


def test_a_memory_error_ends_the_task_and_not_the_worker(shop: Shop) -> None:
    worker = shop.work(processes=1)
    result = shop.tasks.die.delay("MemoryError")
    (record,) = shop.finish(result.id)
    assert (record.state, record.failure.type if record.failure else "") == (
        State.FAILURE, "MemoryError",
    )  # fmt: skip
    serves_the_next(shop, shop.app.records.attempts(result.id)[-1].ended)
    assert worker.process.poll() is None


def resident(pid: int) -> int:
    """Resident memory in KiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 1024


def test_a_revoked_running_task_is_terminated_when_asked(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.hog.delay("sleep", 30.0)
    shop.started(result.id)
    result.revoke(terminate=True)
    (record,) = shop.finish(result.id)
    assert record.state is State.REVOKED
    serves_the_next(shop, shop.app.records.attempts(result.id)[-1].ended)


def test_a_signal_of_the_operating_system_is_named(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.kill_own_process.delay(signal.SIGSEGV)
    (record,) = shop.finish(result.id)
    assert "SIGSEGV" in record.reason
