"""What a worker does, on real processes: stopping, reloading, recycling, hooks, logs."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from acked.delivery import Event, State
from tests.harness.workers import Worker, alive, until
from tests.worker.conftest import Shop


def test_a_worker_says_at_any_log_level_that_it_is_ready(shop: Shop) -> None:
    worker = shop.work("-l", "CRITICAL", processes=1)
    until(lambda: "ready: app shop" in worker.output(), what="the word")


def test_a_stop_waits_for_what_runs(shop: Shop) -> None:
    worker = shop.work(processes=1)
    result = shop.tasks.work.delay(0.7)
    shop.started(result.id)
    assert worker.stop() == 0
    assert shop.record(result.id).state is State.SUCCESS


def test_a_stop_gives_back_what_is_not_done_when_the_grace_is_over(shop: Shop) -> None:
    worker = shop.work("--grace", "0.2", processes=1)
    result = shop.tasks.work.delay(30.0)
    waiting = shop.tasks.work.delay(0.0)
    shop.started(result.id)
    assert worker.stop() == 0
    record = shop.record(result.id)
    assert (record.state, record.attempt, record.losses) == (State.QUEUED, 0, 0)
    (attempt,) = shop.app.records.attempts(result.id)
    assert (attempt.reason, attempt.counted) == ("worker stopped", False)
    assert shop.record(waiting.id).state is State.QUEUED


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGINT, signal.SIGINT]])
def test_an_immediate_stop_does_not_wait(shop: Shop, signals: list[int]) -> None:
    worker = shop.work(processes=1)
    result = shop.tasks.work.delay(30.0)
    shop.started(result.id)
    for number in signals[:-1]:
        worker.process.send_signal(number)
        until(lambda: "stopping" in worker.output(), what="the first signal")
    assert worker.stop(signals[-1], within=5) == 0
    assert shop.record(result.id).state is State.QUEUED


def test_nothing_is_left_behind_by_a_worker_that_stopped(shop: Shop) -> None:
    worker = shop.work()
    below = [*worker.processes, worker.template]
    worker.stop()
    assert not any(alive(pid) for pid in below if pid)
    assert shop.app.records.workers() == []
    assert list(shop.app.broker.presence_dir.glob("*.presence")) == []


def test_a_hangup_replaces_the_processes_one_by_one_and_loses_nothing(shop: Shop) -> None:
    worker = shop.work()
    old = set(worker.processes)
    results = shop.tasks.work.delay_many([(0.02,)] * 100)
    worker.process.send_signal(signal.SIGHUP)
    until(lambda: len(worker.processes) >= 2 and not old & set(worker.processes), what="new ones")
    until(lambda: not any(alive(pid) for pid in old), what="the old ones end")
    shop.finish(*(r.id for r in results))
    verdict = shop.check([r.id for r in results])
    assert verdict.violations == [] and verdict.duplicates == 0
    assert worker.process.poll() is None


DEPLOYED = """
import os, time
from pathlib import Path
from acked import Acked
here = Path(os.environ["DEPLOYED"])
version = (here / "version").read_text()
(here / "imported").write_text(version)
while (here / "slow").exists():
    time.sleep(0.01)
app = Acked("deployed", broker=os.environ["SHOP_URL"])
@app.task
def which():
    return version
"""


def test_a_hangup_during_a_reload_is_followed_by_another(shop: Shop, tmp_path: Path) -> None:
    slow, version, imported = (tmp_path / name for name in ("slow", "version", "imported"))
    (tmp_path / "deployed.py").write_text(DEPLOYED)
    version.write_text("1")
    environment = {**shop.environment, "ACKED_TEST_PATH": str(tmp_path), "DEPLOYED": str(tmp_path)}
    with Worker(
        "deployed:app", "-c", "1", environment=environment, log=tmp_path / "deployed.log"
    ) as worker:
        worker.ready()
        slow.touch()
        version.write_text("2")
        worker.process.send_signal(signal.SIGHUP)
        until(lambda: imported.read_text() == "2", what="the reload")
        version.write_text("3")
        worker.process.send_signal(signal.SIGHUP)
        until(lambda: "is reloaded once" in worker.output(), what="the hangup is heard")
        slow.unlink()

        until(lambda: "every process runs the new code" in worker.output(), what="both reloads")
        assert shop.app.send_task("deployed.which").get(timeout=10) == "3"


def test_a_process_is_replaced_after_its_number_of_tasks(shop: Shop) -> None:
    shop.work("--max-tasks-per-child", "5", processes=1)
    results = shop.tasks.work.delay_many([(0.0,)] * 20)
    shop.finish(*(r.id for r in results))
    per_process: dict[int, int] = {}
    for line in shop.history("start"):
        per_process[line["pid"]] = per_process.get(line["pid"], 0) + 1
    assert sorted(per_process.values()) == [5, 5, 5, 5]


def test_a_process_is_replaced_when_it_has_grown(shop: Shop) -> None:
    worker = shop.work("--max-memory-per-child", "1000", processes=1)
    results = [shop.tasks.work.delay() for _ in range(3)]
    shop.finish(*(r.id for r in results))
    again = shop.tasks.work.delay()
    shop.finish(again.id)
    pids = [line["pid"] for line in shop.history("start")]
    assert pids[-1] != pids[0]
    (idle,) = until(
        lambda: [pid for pid in worker.processes if pid not in pids],
        what="one that has run nothing",
    )
    time.sleep(1.2)  # an idle process is not replaced over and over
    assert worker.processes == [idle]


def test_a_burst_ends_when_the_queue_is_empty(shop: Shop) -> None:
    results = shop.tasks.work.delay_many([(0.01,)] * 20)
    worker = shop.work("--burst", wait=False)
    assert worker.process.wait(30) == 0
    assert all(shop.record(r.id).state is State.SUCCESS for r in results)


def test_a_killed_fork_server_is_replaced(shop: Shop) -> None:
    worker = shop.work(processes=1)
    template, (process,) = worker.template, worker.processes
    assert template is not None
    os.kill(template, signal.SIGKILL)
    until(lambda: not alive(process), what="its process ends with it")
    assert shop.finish(shop.tasks.work.delay().id)[0].state is State.SUCCESS


def test_an_application_that_cannot_be_imported_is_one_clear_error(shop: Shop) -> None:
    with Worker(
        "tests.harness.nowhere:app", environment=shop.environment, log=shop.directory / "x.log"
    ) as worker:
        assert worker.process.wait(20) == 1
        assert "tests.harness.nowhere" in worker.output()


@pytest.mark.parametrize(
    ("way", "hooks"),
    [
        ("fine", ["before_start", "on_success", "after_return"]),
        ("fail", ["before_start", "on_failure", "after_return"]),
        ("retry", ["before_start", "on_retry", "before_start", "on_success", "after_return"]),
    ],
)
def test_hooks_run_in_celerys_order(shop: Shop, way: str, hooks: list[str]) -> None:
    shop.work(processes=1)
    result = shop.tasks.hooked.delay(way)
    shop.finish(result.id)
    assert [line["hook"] for line in shop.history("hook")] == hooks


@pytest.mark.parametrize(("way", "error"), [("hang", "TimeLimitExceeded"),
                                            ("kill", "WorkerLostError")])  # fmt: skip
def test_on_failure_runs_also_when_the_process_is_dead(shop: Shop, way: str, error: str) -> None:
    shop.work(processes=1)
    result = shop.tasks.hooked.apply_async((way,), time_limit=1)
    shop.finish(result.id)
    until(lambda: [x for x in shop.history("hook") if x["hook"] == "on_failure"], what="on_failure")
    (line,) = [x for x in shop.history("hook") if x["hook"] == "on_failure"]
    assert line["error"] == error


def test_a_task_with_early_acknowledgement_is_never_run_twice_and_never_vanishes(
    shop: Shop,
) -> None:
    worker = shop.work(processes=1)
    result = shop.tasks.work_once.delay(30.0)
    shop.started(result.id)
    worker.kill_process(worker.processes[0])
    (record,) = shop.finish(result.id)
    assert (record.state, shop.starts(result.id)) == (State.FAILURE, 1)
    assert "acks_late is off" in record.reason


def test_a_long_task_goes_on_where_it_was(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.counts_up.delay(6, dies_at=3)
    assert result.get(timeout=20) == 6
    steps = [line["number"] for line in shop.history("step")]
    assert steps == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("by_hand", "state"),
    [(None, State.SUCCESS), ("FAILURE", State.FAILURE), ("REVOKED", State.REVOKED)],
)
def test_ignore_keeps_the_state_set_by_hand(shop: Shop, by_hand: str | None, state: State) -> None:
    shop.work(processes=1)
    result = shop.tasks.ignores.delay(by_hand)
    assert shop.finish(result.id)[0].state is state


def test_reject_ends_as_failure_or_comes_back(shop: Shop) -> None:
    shop.work(processes=1)
    refused = shop.tasks.rejects.delay(requeue=False)
    taken = shop.tasks.rejects.delay(requeue=True)
    assert shop.finish(refused.id)[0].state is State.FAILURE
    assert shop.finish(taken.id)[0].state is State.SUCCESS
    assert shop.starts(taken.id) == 3
    waits = [a.next_at is not None for a in shop.app.records.attempts(taken.id)[:2]]
    assert waits == [False, True], "at once the first time, then with a wait"


def test_a_task_may_send_tasks(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.sends_more.delay(3)
    ids = result.get(timeout=10)
    assert all(record.state is State.SUCCESS for record in shop.finish(*ids))


def test_many_coroutines_wait_at_once(shop: Shop) -> None:
    shop.work(processes=1)
    results = shop.tasks.work_async.delay_many([(1.0,)] * 50)
    shop.finish(*(r.id for r in results))
    lines = shop.history()
    first_end = next(i for i, line in enumerate(lines) if line["event"] == "end")
    assert sum(line["event"] == "start" for line in lines[:first_end]) == 50


def test_threads_run_synchronous_tasks_at_once(shop: Shop) -> None:
    shop.work("--threads", "8", processes=1)
    results = shop.tasks.work.delay_many([(0.8,)] * 8)
    shop.finish(*(r.id for r in results))
    lines = shop.history()
    first_end = next(i for i, line in enumerate(lines) if line["event"] == "end")
    assert sum(line["event"] == "start" for line in lines[:first_end]) == 8


def test_coroutines_go_on_while_a_synchronous_task_keeps_the_main_thread(shop: Shop) -> None:
    shop.work(processes=1)
    long = shop.tasks.work.delay(3.0)
    shop.started(long.id)
    quick = shop.tasks.work_async.delay(0.0)
    shop.finish(quick.id)
    assert shop.record(long.id).state is State.RUNNING
    shop.finish(long.id)


def test_short_tasks_do_not_wait_behind_a_long_one(shop: Shop) -> None:
    shop.work(processes=2)
    warm = shop.tasks.noop.delay_many([(n,) for n in range(3000)])
    shop.finish(warm[-1].id)
    long = shop.tasks.work.delay(4.0)
    short = shop.tasks.work.delay_many([(0.0,)] * 40)
    shop.finish(*(r.id for r in short))
    assert shop.record(long.id).state is not State.SUCCESS


def test_terminating_a_coroutine_does_not_disturb_the_others(shop: Shop) -> None:
    shop.work(processes=1)
    victim = shop.tasks.work_async.delay(30.0)
    other = shop.tasks.work_async.delay(2.0)
    shop.started(victim.id)
    shop.started(other.id)
    victim.revoke(terminate=True)
    assert shop.finish(victim.id)[0].state is State.REVOKED
    assert shop.finish(other.id)[0].state is State.SUCCESS
    assert shop.starts(other.id) == 1


def test_a_neighbour_of_a_task_past_its_limit_is_not_charged(shop: Shop) -> None:
    shop.work("--threads", "2", processes=1)
    overrun = shop.tasks.overruns.delay("sleep")
    neighbour = shop.tasks.work.delay(1.5)
    shop.finish(overrun.id, neighbour.id)
    record = shop.record(neighbour.id)
    assert (record.state, record.attempt, record.losses) == (State.SUCCESS, 1, 0)
    interrupted = [a for a in shop.app.records.attempts(neighbour.id) if not a.counted]
    assert [a.reason for a in interrupted] == ["a task beside it passed its time limit"]


def test_an_expired_task_is_revoked_and_says_so(shop: Shop) -> None:
    result = shop.tasks.work.apply_async((0.0,), expires=0.05)
    time.sleep(0.1)  # until it has expired
    shop.work(processes=1)
    (record,) = shop.finish(result.id)
    assert (record.state, record.reason) == (State.REVOKED, "expired")
    assert shop.starts(result.id) == 0


def test_a_crashing_process_is_restarted_ever_more_slowly(shop: Shop) -> None:
    worker = shop.work(processes=1)
    while "restart in 0.5 s" not in worker.output():
        (victim,) = until(lambda: worker.processes, what="a process")
        os.kill(victim, signal.SIGKILL)
        until(lambda: not alive(victim), what="its end")
    assert worker.output().count("restart in 0.0 s") == 3
    assert shop.finish(shop.tasks.work.delay().id)[0].state is State.SUCCESS


def test_log_lines_are_json_when_asked_and_name_the_task(shop: Shop) -> None:
    worker = shop.work("--log-format", "json", "-l", "INFO", processes=1)
    good = shop.tasks.noop.delay(1)
    bad = shop.tasks.die.delay("sys.exit")
    shop.finish(good.id, bad.id)
    worker.stop()
    lines = [json.loads(line) for line in worker.output().splitlines()]
    about_good = [x for x in lines if x.get("task_id") == good.id]
    about_bad = [x for x in lines if x.get("task_id") == bad.id]
    assert about_good[0]["level"] == "INFO" and "succeeded in" in about_good[0]["message"]
    assert about_bad[0]["level"] == "ERROR" and about_bad[0]["task_name"].endswith("shop.die")
    assert "SystemExit" in about_bad[0]["exc"]


def test_an_attempt_says_where_and_when_it_ran(shop: Shop) -> None:
    worker = shop.work("-n", "west", processes=1)
    result = shop.tasks.noop.delay(1)
    result.get(timeout=10)
    (attempt,) = shop.app.records.attempts(result.id)
    assert attempt.consumer == f"{shop.app.records.workers()[0].worker}/0"
    assert attempt.consumer.startswith(f"west.{worker.pid}.")
    assert attempt.event is Event.SUCCEED
    assert attempt.started <= attempt.ended <= time.time()
