"""Cases that once went wrong, or were most likely to: each a way to break a promise."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from contextlib import closing
from datetime import datetime

import apsw
import pytest

from acked.broker import Filter
from acked.delivery import State
from tests.harness import history
from tests.harness.privileges import need_root
from tests.harness.workers import alive, stand_still, until
from tests.worker.conftest import Shop, on

REFUSE_SETTLING = """
CREATE TRIGGER refuse BEFORE UPDATE OF state ON task
WHEN old.state = 'RUNNING' AND old.consumer LIKE '%/s'
BEGIN SELECT raise(ABORT, 'not now'); END
"""


def test_what_was_taken_over_and_could_not_be_settled_is_settled_later(shop: Shop) -> None:
    """The broker fails between the two writes of a recovery."""
    worker = shop.work(processes=1)
    result = shop.tasks.work.delay(30.0)
    shop.started(result.id)
    connection = apsw.Connection(str(shop.database))
    connection.set_busy_timeout(5_000)
    connection.execute(REFUSE_SETTLING)
    worker.kill_process(worker.processes[0])
    until(lambda: "cannot settle" in worker.output(), what="the settlement is refused")
    assert shop.record(result.id).state is State.RUNNING
    connection.execute("DROP TRIGGER refuse")
    connection.close()
    shop.started(result.id, 2)
    assert shop.record(result.id).losses == 1


def test_an_exit_inside_a_coroutines_own_task_does_not_stop_the_others(shop: Shop) -> None:
    shop.work(processes=1)
    innocent = shop.tasks.work_async.delay(1.0)
    shop.started(innocent.id)
    shop.tasks.exits_below.delay()
    later = shop.tasks.work_async.delay(0.0)
    for record in shop.finish(innocent.id, later.id):
        assert record.state is State.SUCCESS


def test_a_coroutine_that_is_cancelled_before_it_begins_runs_all_the_same(shop: Shop) -> None:
    worker = shop.work(processes=1)
    cancelling = shop.tasks.cancels_all.delay(1.0)
    shop.started(cancelling.id)
    others = [shop.tasks.log_async.delay("ran") for _ in range(20)]
    for record in shop.finish(cancelling.id, *(each.id for each in others)):
        assert (record.state, record.attempt) == (State.SUCCESS, 1)
    assert worker.stop() == 0


def test_a_task_with_large_arguments_that_passes_its_limit_does_not_stop_the_worker(
    shop: Shop,
) -> None:
    worker = shop.work(processes=1)
    result = shop.tasks.sleeps_with.apply_async(("x" * 600_000,), time_limit=0.5)
    assert shop.finish(result.id)[0].state is State.FAILURE
    assert shop.tasks.noop.delay(4).get(timeout=10) == 4
    assert worker.process.poll() is None


def test_a_fork_server_that_dies_with_its_process_is_replaced(shop: Shop) -> None:
    worker = shop.work(processes=1)
    for _ in range(3):
        template, processes = worker.template, worker.processes
        assert template is not None
        os.kill(worker.pid, signal.SIGSTOP)
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        os.kill(template, signal.SIGKILL)
        os.kill(worker.pid, signal.SIGCONT)
        until(lambda: not alive(template), what="its end")
        assert shop.tasks.noop.delay(4).get(timeout=15) == 4
    assert worker.process.poll() is None


def test_a_hook_that_hangs_after_a_loss_keeps_nobody_from_working(shop: Shop) -> None:
    shop.work(processes=1)
    lost = shop.tasks.hangs_in_hook.apply_async((), time_limit=0.5)
    assert shop.finish(lost.id)[0].state is State.FAILURE
    assert shop.tasks.noop.delay(4).get(timeout=10) == 4


def test_a_locked_database_costs_no_live_worker_its_tasks(shop: Shop) -> None:
    """Longer than the lease: nobody can renew, and nobody may conclude that the others are dead."""
    shop.environment |= {"SHOP_LEASE": "1", "SHOP_HEARTBEAT": "0.2"}
    shop.open()
    workers = [shop.work(processes=1), shop.work(processes=1)]
    results = [shop.tasks.work.delay(4.0) for _ in range(2)]
    for result in results:
        shop.started(result.id)
    blocker = apsw.Connection(str(shop.database))
    blocker.set_busy_timeout(5_000)
    blocker.execute("BEGIN IMMEDIATE")
    time.sleep(2.0)  # twice the lease
    blocker.execute("ROLLBACK")
    blocker.close()
    ids = [result.id for result in results]
    shop.finish(*ids)
    verdict = shop.check(ids)
    assert verdict.violations == []
    assert verdict.starts == 2
    for worker in workers:
        assert "s late: other workers' leases count again in 1 s" in worker.output()


@on("redis")
def test_a_broker_that_is_away_is_not_asked_without_a_pause_for_what_a_dead_neighbour_held(
    shop: Shop,
) -> None:
    living, dying = shop.work(processes=1), shop.work(processes=1)
    (name,) = re.findall(r"worker (\S+) ready", dying.output())
    shop.place.running.kill()
    dying.kill_tree()

    def tries() -> list[datetime]:
        lines = living.output().splitlines()
        failed = [line for line in lines if f"cannot give back what {name} held" in line]
        return [datetime.fromisoformat(line[:23]) for line in failed]

    until(lambda: len(tries()) >= 3, what="it was asked three times")
    pauses = [(b - a).total_seconds() for a, b in itertools.pairwise(tries())]
    shop.place.running.start()
    assert min(pauses) > 0.9


def test_the_hard_limit_holds_while_the_database_is_locked(shop: Shop) -> None:
    worker = shop.work(processes=1)
    result = shop.tasks.overruns.delay("sleep")
    shop.started(result.id)
    (process,) = worker.processes
    blocker = apsw.Connection(str(shop.database))
    blocker.set_busy_timeout(5_000)
    blocker.execute("BEGIN IMMEDIATE")
    until(lambda: not alive(process), within=2.5, what="the limit of 1 s")
    blocker.execute("ROLLBACK")
    blocker.close()
    assert "time_limit" in shop.finish(result.id)[0].reason


def test_poison_runs_alone_also_beside_coroutines(shop: Shop) -> None:
    shop.work(processes=1)
    innocents = shop.tasks.work_async.delay_many([(0.3,)] * 60)
    poison = shop.tasks.kill_own_process.delay()
    more = shop.tasks.work_async.delay_many([(0.3,)] * 60)
    shop.finish(poison.id)
    assert shop.starts(poison.id) == 3
    for record in shop.finish(*(r.id for r in innocents + more)):
        assert (record.state, record.losses, record.attempt) == (State.SUCCESS, 0, 1)


def test_a_hook_that_exits_does_not_leave_its_task_running(shop: Shop) -> None:
    shop.work("--threads", "2", processes=1)
    result = shop.tasks.exits_in_hook.delay()
    assert shop.finish(result.id)[0].state is State.SUCCESS
    assert shop.tasks.noop.delay(4).get(timeout=10) == 4


def test_a_process_that_dies_over_the_arguments_is_charged_to_the_task(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.takes_deadly.delay({"number": 1})
    (record,) = shop.finish(result.id)
    assert (record.state, record.losses) == (State.FAILURE, 3)


def test_a_forked_child_that_returns_from_its_task_is_no_second_worker(shop: Shop) -> None:
    shop.work(processes=1)
    forking = shop.tasks.forks.delay()
    after = shop.tasks.work.delay_many([(0.05,)] * 10)
    ids = [forking.id, *(r.id for r in after)]
    for record in shop.finish(*ids):
        assert record.state is State.SUCCESS
    assert shop.check(ids[1:]).violations == []
    assert len({line["pid"] for line in shop.history("start")}) == 1


def test_a_task_that_fills_the_memory_ends_with_its_memory_error(shop: Shop) -> None:
    """To say how it ended takes memory as well."""
    shop.work(processes=1)
    result = shop.tasks.fills_memory.delay()
    (record,) = shop.finish(result.id)
    assert record.failure is not None
    assert (record.failure.type, record.losses) == ("MemoryError", 0)


def test_a_forked_child_that_fails_tells_its_parent(shop: Shop) -> None:
    worker = shop.work(processes=1)
    ways = [shop.tasks.forks_to.delay(how) for how in ("return", "exit", "raise")]
    assert [each.get(timeout=10) for each in ways] == [0, 3, 1]
    assert "ValueError: of the child" in worker.output()


@pytest.mark.parametrize("threads", [0, 1])
def test_what_a_task_forks_ends_when_it_is_terminated(shop: Shop, threads: int) -> None:
    worker = shop.work("--threads", str(threads), processes=1)
    result = shop.tasks.terminates.delay(5)
    (record,) = shop.finish(result.id)
    assert record.state is State.SUCCESS, record.reason
    assert result.get(timeout=1) == [-signal.SIGTERM] * 5
    # It is the children's alone: the process itself still takes SIGTERM for a wish.
    slow = shop.tasks.work.delay(0.5)
    shop.started(slow.id)
    assert worker.stop() == 0
    assert shop.record(slow.id).state is State.SUCCESS


def test_a_process_whose_task_ignores_the_stop_signal_stops_all_the_same(shop: Shop) -> None:
    worker = shop.work(processes=1)
    shop.tasks.ignores_signals.delay().get(timeout=10)
    started = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - started < 10, "well before the grace of 25 s"


def test_the_lock_of_a_killed_worker_is_not_held_by_what_its_task_forked(shop: Shop) -> None:
    worker = shop.work(processes=1)
    result = shop.tasks.forks_sleeper.delay()
    shop.started(result.id)
    (line,) = until(lambda: shop.history("spawned"), what="the forked child")
    shop.work(processes=1)
    killed = time.monotonic()
    worker.kill_tree()
    try:
        shop.started(result.id, 2)
        again = shop.history("start")[1]["at"]
        assert again - killed < 2.0, "by the lock, not by the lease of 4 s"
    finally:
        os.kill(line["child"], signal.SIGKILL)


def freeze(pids: list[int], shop: Shop) -> None:
    """SIGSTOP all of *pids*, at a moment in which none of them holds the lock of the database."""
    with closing(apsw.Connection(str(shop.database))) as connection:
        connection.set_busy_timeout(200)
        while True:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            stand_still(pids)
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except apsw.BusyError:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
                time.sleep(0.01)  # for who holds it to let go
            else:
                return


def test_what_was_claimed_ahead_by_a_process_that_slept_is_not_started(shop: Shop) -> None:
    shop.environment |= {"SHOP_LEASE": "1", "SHOP_HEARTBEAT": "0.2"}
    shop.open()
    frozen = shop.work(processes=1)
    results = shop.tasks.work.delay_many([(0.005,)] * 400)
    shop.started(results[20].id)
    whole = [frozen.pid, frozen.template or 0, *frozen.processes]
    freeze(whole, shop)
    shop.work(processes=1)
    ids = [r.id for r in results]
    shop.finish(*ids)
    for pid in whole:
        os.kill(pid, signal.SIGCONT)
    after = shop.tasks.work.delay_many([(0.01,)] * 50)
    shop.finish(*(r.id for r in after))
    # The one that was running, and at most one that had ended and was not written yet.
    assert sum(shop.starts(one) > 1 for one in ids) <= 2


def test_a_cancelled_coroutine_is_left_to_clean_up(shop: Shop) -> None:
    shop.work(processes=1)
    result = shop.tasks.cleans_up_slowly.delay()
    shop.started(result.id)
    result.revoke(terminate=True)
    assert shop.finish(result.id)[0].state is State.REVOKED
    assert [line["event"] for line in shop.history()] == ["start", "end"]


def test_long_coroutines_do_not_keep_a_worn_process_from_working(shop: Shop) -> None:
    shop.work("--max-tasks-per-child", "3", processes=1)
    long = shop.tasks.work_async.delay(6.0)
    shop.started(long.id)
    short = [shop.tasks.noop.delay(n) for n in range(4)]
    shop.finish(*(r.id for r in short))
    assert shop.record(long.id).state is State.RUNNING


def test_a_reload_that_cannot_be_imported_goes_on_with_the_old_code(shop: Shop) -> None:
    worker = shop.work(processes=1)
    shop.breaks_at_import.write_text("from now on")
    worker.process.send_signal(signal.SIGHUP)
    until(lambda: "cannot load" in worker.output(), what="the reload fails")
    assert shop.tasks.noop.delay(4).get(timeout=10) == 4
    assert worker.process.poll() is None


def test_progress_that_is_no_number_fails_the_task_and_hides_nothing(shop: Shop) -> None:
    shop.work(processes=1)
    fine = shop.tasks.reports.delay(None)
    assert fine.get(timeout=10) == "reported"
    bad = shop.tasks.reports.delay("a")
    (record,) = shop.finish(bad.id)
    assert "total must be a number, got 'a'" in record.reason
    assert len(shop.app.records.search(Filter())) == 2


def test_a_run_after_a_graceful_stop_knows_that_it_is_not_the_first(shop: Shop) -> None:
    worker = shop.work("--grace", "0.1", processes=1)
    result = shop.tasks.tells_redelivered.delay(1.5)
    shop.started(result.id)
    worker.stop()
    shop.work(processes=1)
    assert result.get(timeout=10) is True
    first = shop.tasks.tells_redelivered.delay(0.0)
    assert first.get(timeout=10) is False


def test_a_worker_on_a_broker_of_one_process_says_why_it_cannot_run(shop: Shop) -> None:
    shop.environment["SHOP_URL"] = "memory://"
    worker = shop.work(wait=False)
    assert worker.process.wait(20) == 1
    assert "a worker cannot use memory://" in worker.output()


LANES = pytest.mark.parametrize("lane", [(), ("--threads", "1")], ids=["main", "thread"])


def usual() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def without_the_right_to_raise() -> tuple[str, ...]:
    return ("setpriv", "--bounding-set", "-sys_nice") if os.geteuid() == 0 else ()


@LANES
@pytest.mark.parametrize("of", ["its thread", "the process"])
def test_a_task_that_lowers_its_priority_lowers_it_for_itself_alone(
    shop: Shop, lane: tuple[str, ...], of: str
) -> None:
    need_root("raise a priority")
    shop.work(*lane, processes=1)
    lowered, _ = shop.tasks.lowers_its_priority.delay(of).get(timeout=10)
    shop.tasks.noop.delay(1).get(timeout=10)
    assert shop.tasks.pid_and_priorities.delay().get(timeout=10) == (lowered, [usual()])


@LANES
def test_a_process_that_cannot_raise_its_priority_again_is_replaced(
    shop: Shop, lane: tuple[str, ...]
) -> None:
    worker = shop.work(*lane, processes=1, prefix=without_the_right_to_raise())
    lowered, _ = shop.tasks.lowers_its_priority.delay().get(timeout=10)
    pid, priorities = shop.tasks.pid_and_priorities.delay().get(timeout=10)
    assert (pid != lowered, priorities) == (True, [usual()])
    assert "crash" not in worker.output()


@LANES
@pytest.mark.parametrize("right", [True, False], ids=["may raise", "may not"])
def test_no_end_is_written_by_a_thread_whose_priority_was_lowered(
    shop: Shop, lane: tuple[str, ...], right: bool
) -> None:
    """On SQLite it would keep everybody waiting while others have the processor. One of the results
    has no room in the journal."""
    if right:
        need_root("raise a priority")
    shop.environment |= history.NOTED
    shop.work(*lane, processes=1, prefix=() if right else without_the_right_to_raise())
    ids = [shop.tasks.lowers_its_priority.delay(size=size).id for size in (0, 200_000)]
    for record in shop.finish(*ids):
        assert record.state is State.SUCCESS

    def written() -> dict[str, int]:
        """By whom each end was written. It is noted a moment after it was."""
        lines = shop.history("settled")
        return {task: line["nice"] for line in lines for task, *_ in line["accepted"]}

    until(lambda: set(written()) == set(ids), what="both are noted")
    assert set(written().values()) == {usual()}


@LANES
def test_a_priority_that_is_chosen_when_the_process_starts_stays(
    shop: Shop, lane: tuple[str, ...]
) -> None:
    shop.work(*lane, processes=1, environment={"SHOP_NICE": "5"})
    first, second = (shop.tasks.pid_and_priorities.delay().get(timeout=10) for _ in range(2))
    assert first == second
    assert first[1] == [usual() + 5]


def test_what_ends_beside_a_long_task_is_written_at_once(shop: Shop) -> None:
    """All places for threads are taken, so that nothing else is claimed."""
    shop.work("--threads", "1", processes=1)
    short, long = shop.tasks.work_async.delay(1.5), shop.tasks.work.delay(6.0)
    shop.started(long.id)
    short.get(timeout=4)
    assert shop.record(long.id).state is State.RUNNING


def test_what_ends_during_a_stop_is_written_at_once(shop: Shop) -> None:
    worker = shop.work("--grace", "20", processes=1)
    short, long = shop.tasks.work_async.delay(1.5), shop.tasks.work_async.delay(6.0)
    shop.started(long.id)
    worker.process.terminate()
    short.get(timeout=4)
    assert shop.record(long.id).state is State.RUNNING


def test_what_waits_to_run_alone_is_not_started_by_a_stop(shop: Shop) -> None:
    worker = shop.work("--grace", "20", processes=1)
    suspect = shop.tasks.dies_behind_a_coroutine.delay()
    shop.started("beside")
    worker.process.terminate()
    assert worker.process.wait(20) == 0
    assert shop.record("beside").state is State.SUCCESS
    assert shop.starts(suspect.id) == 1
    assert shop.record(suspect.id).state is State.QUEUED


@pytest.mark.parametrize(
    ("lane", "task"),
    [((), "unspeakable"), (("--threads", "1"), "unspeakable"), ((), "unspeakable_async")],
    ids=["main", "thread", "coroutine"],
)
def test_an_exception_whose_text_raises_what_is_no_exception_ends_its_task_alone(
    shop: Shop, lane: tuple[str, ...], task: str
) -> None:
    worker = shop.work(*lane, processes=1)
    processes = worker.processes
    (record,) = shop.finish(getattr(shop.tasks, task).delay().id)
    assert (record.state, record.attempt) == (State.FAILURE, 1)
    assert "its text could not be made: SystemExit in __str__" in record.reason
    assert shop.finish(shop.tasks.noop.delay().id)[0].state is State.SUCCESS
    assert worker.processes == processes
