"""What an attempt leaves behind besides its result: its log, and its place in the counters."""

from __future__ import annotations

import time

from acked.tally import bucket_of
from tests.harness.workers import until
from tests.worker.conftest import Shop


def test_what_a_task_logs_is_kept_with_its_attempt(shop: Shop) -> None:
    shop.work(processes=1)
    ids = [
        shop.tasks.log.delay("first").id,
        shop.tasks.log_async.delay("second").id,
        shop.tasks.log.delay("password=hunter2").id,
    ]
    shop.finish(*ids)
    logs = [shop.app.records.attempts(each)[0].log for each in ids]
    assert [line.partition(" ")[2] for line in logs[0].splitlines()] == [
        "INFO first",
        "WARNING first, again",
    ]
    assert "second" in logs[1] and "first" not in logs[1]
    assert "hunter2" not in logs[2]


def test_a_task_that_logs_nothing_keeps_nothing(shop: Shop) -> None:
    shop.work(processes=1)
    sent = shop.tasks.noop.delay(1)
    shop.finish(sent.id)
    (attempt,) = shop.app.records.attempts(sent.id)
    assert attempt.log == ""


def test_the_log_of_each_attempt_is_its_own(shop: Shop) -> None:
    shop.work(processes=1)
    sent = shop.tasks.log_and_retry.delay(2)
    shop.finish(sent.id)
    logs = [each.log.partition(" ")[2] for each in shop.app.records.attempts(sent.id)]
    assert logs == ["INFO attempt 1", "INFO attempt 2", "INFO attempt 3"]


def test_the_log_of_a_killed_attempt_is_kept(shop: Shop) -> None:
    worker = shop.work(processes=1)
    sent = shop.tasks.log_and_sleep.delay("before the kill", 30.0)
    shop.started(sent.id)
    worker.kill_process(worker.processes[0])
    shop.started(sent.id, 2)
    until(lambda: shop.app.records.attempts(sent.id), what="the lost attempt")
    (lost,) = shop.app.records.attempts(sent.id)
    assert lost.loss
    assert lost.log.endswith("INFO before the kill")


def test_the_log_of_a_killed_attempt_is_that_of_its_own_process(shop: Shop) -> None:
    """A child that its task forks does not write to the memory they share."""
    worker = shop.work(processes=1)
    sent = shop.tasks.log_in_a_child.delay("before the kill", 30.0)
    shop.started(sent.id)
    worker.kill_process(worker.processes[0])
    until(lambda: shop.app.records.attempts(sent.id), what="the lost attempt")
    (lost,) = shop.app.records.attempts(sent.id)
    assert lost.log.endswith("INFO before the kill")
    assert "of the child" not in lost.log


def test_the_log_of_an_attempt_that_died_with_its_whole_worker_is_kept(shop: Shop) -> None:
    first = shop.work(processes=1)
    sent = shop.tasks.log_and_sleep.delay("before the kill", 30.0)
    shop.started(sent.id)
    first.kill_tree()
    shop.work(processes=1)
    shop.started(sent.id, 2)
    (lost,) = shop.app.records.attempts(sent.id)
    assert lost.log.endswith("INFO before the kill")


def test_attempts_are_counted_by_the_minute(shop: Shop) -> None:
    worker = shop.work(processes=1)
    ids = [shop.tasks.noop.delay(number).id for number in range(5)]
    ids.append(shop.tasks.retry_until.delay(1).id)
    shop.finish(*ids)
    worker.stop()
    counts: dict[str, int] = {}
    minute = int(time.time() // 60)
    for each in shop.app.records.counted(minute - 10, minute):
        counts[each.what] = counts.get(each.what, 0) + each.number
    assert counts["success"] == 6
    assert counts["retry"] == 1
    assert sum(number for what, number in counts.items() if what.startswith("run:")) == 7
    waits = {int(what[5:]): number for what, number in counts.items() if what.startswith("wait:")}
    assert sum(waits.values()) == 6
    assert max(waits) <= bucket_of(60.0)


def test_a_loss_is_counted_by_who_gives_it_back(shop: Shop) -> None:
    worker = shop.work(processes=1)
    sent = shop.tasks.work.delay(1.0)
    shop.started(sent.id)
    worker.kill_process(worker.processes[0])
    shop.finish(sent.id)
    worker.stop()
    minute = int(time.time() // 60)
    counts = {each.what: each.number for each in shop.app.records.counted(minute - 10, minute)}
    assert (counts["loss"], counts["success"]) == (1, 1)


def test_a_worker_says_how_much_memory_it_has(shop: Shop) -> None:
    shop.work(processes=1)
    (known,) = until(
        lambda: [each for each in shop.app.records.workers() if each.memory], what="a heartbeat"
    )
    assert 10_000 < known.memory < 10_000_000
