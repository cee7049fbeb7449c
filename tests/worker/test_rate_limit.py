"""Tasks with a rate limit, in real workers that share it."""

from __future__ import annotations

import itertools
import time

import pytest

from acked.delivery import State
from acked.rate import LATE
from tests.harness.workers import until
from tests.worker.conftest import Shop, on_every_broker
from tests.worker.forms import sizes

A_SECOND = 20
"""Starts that the tasks allow."""


@pytest.mark.chaos
@on_every_broker
def test_all_workers_together_start_no_more_than_the_limit_and_all_it_allows(shop: Shop) -> None:
    """The long form: eight processes for a minute."""
    count = sizes(30, 1_200)
    results = shop.tasks.work_slowly.delay_many([()] * count)
    for _ in range(sizes(2, 4)):
        shop.work(processes=2)
    shop.finish(*(each.id for each in results), within=2 * count / A_SECOND + 10)
    at = sorted(line["at"] for line in shop.history("start"))
    assert len(at) == count
    # The permit is asked for a moment before the start, which some of the processes may be late.
    for first, last in itertools.combinations(range(0, count, sizes(1, 20)), 2):
        allowed = A_SECOND * (at[last] - at[first] + LATE + 0.1) + 1
        assert last - first <= allowed, f"{last - first} starts in {at[last] - at[first]:.3f} s"
    took, least = at[-1] - at[0], (count - 1) / A_SECOND
    print(f"\nrate limit, {shop.place.kind}: {count} starts in {took:.2f} s of {least:.2f}")
    assert took <= least * 1.5 + 1.0
    for each in results:
        record = shop.record(each.id)
        assert (record.state, record.attempt) == (State.SUCCESS, 1)
        assert len(shop.app.records.attempts(each.id)) == 1


def test_the_limit_holds_for_coroutines(shop: Shop) -> None:
    results = shop.tasks.work_slowly_async.delay_many([()] * 30)
    shop.work(processes=2)
    shop.finish(*(each.id for each in results), within=10)
    at = sorted(line["at"] for line in shop.history("start"))
    assert at[-1] - at[0] >= 29 / A_SECOND - LATE


@on_every_broker
def test_what_waits_its_turn_is_scheduled_with_the_reason_and_holds_nobody_up(shop: Shop) -> None:
    limited = shop.tasks.work_rarely.delay_many([()] * 100)  # for eight minutes
    shop.work(processes=1)
    other = shop.tasks.work.delay()
    shop.finish(other.id)
    waiting = [shop.record(each.id) for each in limited]
    waiting = [record for record in waiting if record.state is State.SCHEDULED]
    assert len(waiting) > 30
    assert {record.reason for record in waiting} == {"waits its turn: rate limit 12/m"}


def test_no_permit_is_spent_on_what_cannot_start_here_and_now(shop: Shop) -> None:
    """While the main thread is busy, what is claimed for coroutines may be a task for it."""
    shop.work(processes=1)
    busy = shop.tasks.work.delay(2.0).id
    until(lambda: shop.record(busy).state is State.RUNNING, what="a busy thread")
    rare = shop.tasks.work_rarely.delay().id  # one in five seconds
    before, after = shop.finish(busy, rare)
    assert before.finished is not None
    assert after.claimed is not None
    assert after.claimed - before.finished < 0.5


def test_who_comes_after_a_purge_does_not_wait_for_what_is_gone(shop: Shop) -> None:
    shop.tasks.work_slowly.delay_many([()] * 1_000)
    shop.work(processes=1)
    until(lambda: shop.waiting() == 0, what="a line of all of them")
    assert shop.app.records.purge("default") > 800
    time.sleep(1.5)  # a line is empty once nobody has come for a free start for a second
    shop.finish(shop.tasks.work_slowly.delay().id, within=5.0)


def test_a_limit_that_cannot_be_asked_for_is_no_reason_to_start(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor to run in circles: the task waits a second, and says why."""
    shop.environment["SHOP_NO_AGREEMENT"] = "1"
    task = shop.tasks.work_slowly.delay()
    shop.work(processes=1)
    until(lambda: "cannot ask for its turn" in shop.record(task.id).reason, what="the reason")
    assert shop.history("start") == []
