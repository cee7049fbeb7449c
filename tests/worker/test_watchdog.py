"""A worker that hears nothing of its broker any more does not go on looking alive."""

from __future__ import annotations

import time

import apsw

from acked.brokers.rabbitmq.mending import NEW
from acked.delivery import State
from tests.harness.places import SERVERS
from tests.harness.workers import alive, until
from tests.worker.conftest import Shop, on


def test_a_process_that_alone_has_lost_the_broker_is_replaced(shop: Shop) -> None:
    shop.environment["SHOP_WATCHDOG"] = "1"
    worker = shop.work(processes=1)
    (deaf,) = worker.processes
    lost = shop.tasks.lose_the_broker.delay()
    shop.started(lost.id)
    waiting = shop.tasks.noop.delay(1)
    records = shop.finish(lost.id, waiting.id)
    assert [record.state for record in records] == [State.SUCCESS, State.SUCCESS]
    assert shop.starts(lost.id) == 1, "what had ended is settled from the journal, not run again"
    assert not alive(deaf)
    assert "hears nothing" in worker.output()


def test_a_process_that_is_busy_for_long_is_not_taken_for_deaf(shop: Shop) -> None:
    shop.environment["SHOP_WATCHDOG"] = "0.5"
    worker = shop.work(processes=1)
    (busy,) = worker.processes
    long = shop.tasks.work.delay(7.0)
    (record,) = shop.finish(long.id)
    assert (record.state, record.attempt, record.losses) == (State.SUCCESS, 1, 0)
    assert worker.processes == [busy]


def test_a_task_that_runs_alone_for_long_is_not_taken_for_deaf(shop: Shop) -> None:
    """In a thread: the main thread waits meanwhile, and has no need of the broker."""
    shop.environment["SHOP_WATCHDOG"] = "0.5"
    worker = shop.work("--threads", "1", processes=1)
    long = shop.tasks.work.delay(8.0)
    shop.started(long.id)
    worker.kill_process(worker.processes[0])
    (record,) = shop.finish(long.id)
    assert (record.state, record.attempt, record.losses) == (State.SUCCESS, 2, 1)
    assert shop.starts(long.id) == 2


def test_a_process_that_is_replaced_and_waits_for_what_it_runs_is_not_taken_for_deaf(
    shop: Shop,
) -> None:
    shop.environment["SHOP_WATCHDOG"] = "0.5"
    shop.work("--max-memory-per-child", "1", processes=1)
    long = shop.tasks.work_async.delay(8.0)
    shop.started(long.id)
    shop.finish(shop.tasks.noop.delay(1).id)
    (record,) = shop.finish(long.id)
    assert (record.state, record.attempt) == (State.SUCCESS, 1)
    assert shop.starts(long.id) == 1


def test_an_idle_process_is_not_taken_for_deaf(shop: Shop) -> None:
    shop.environment["SHOP_WATCHDOG"] = "0.2"
    worker = shop.work(processes=1)
    (idle,) = worker.processes
    until(lambda: "hears nothing" in worker.output() or alive(idle), what="a look")
    for number in range(11):
        shop.finish(shop.tasks.noop.apply_async([number], countdown=0.6).id)
    assert worker.processes == [idle]


def test_a_worker_whose_broker_stays_away_ends_with_an_error(shop: Shop) -> None:
    shop.environment |= {"SHOP_WATCHDOG": "1", "SHOP_SEND_TIMEOUT": "0.3"}
    worker = shop.work("--grace", "1", processes=1)
    other = apsw.Connection(str(shop.database))
    other.set_busy_timeout(10_000)
    other.execute("BEGIN IMMEDIATE")
    assert worker.process.wait(90) == 1
    other.close()
    said = worker.output()
    assert "every connection is made anew" in said
    assert "has not answered for" in said
    # Nothing is lost by it: another worker finds everything as it was.
    sent = shop.tasks.noop.delay(1)
    shop.work(processes=1)
    (record,) = shop.finish(sent.id)
    assert record.state is State.SUCCESS


@on(*SERVERS, short=("rabbitmq",))
def test_a_worker_whose_server_stays_away_ends_with_an_error(shop: Shop) -> None:
    """RabbitMQ too, whose records answer all the time: they are in a file here."""
    shop.environment |= {"SHOP_WATCHDOG": "1.5", "SHOP_SEND_TIMEOUT": "0.5"}
    worker = shop.work("--grace", "1", processes=1)
    let_queues_age(shop)
    shop.place.running.kill()
    assert worker.process.wait(90) == 1
    said = worker.output()
    assert "every connection is made anew" in said
    assert "has not answered for" in said
    # Nothing is lost by it: another worker finds everything as it was.
    shop.place.running.start()
    until(lambda: shop.takes("afterwards"), within=60, what="the server takes tasks again")
    shop.work(processes=1)
    (record,) = shop.finish("afterwards")
    assert record.state is State.SUCCESS


def let_queues_age(shop: Shop) -> None:
    """RabbitMQ, killed, forgets half of a queue that it has made just now. Whoever made it mends
    that, which has a test of its own; here the worker that made it ends."""
    if shop.place.kind == "rabbitmq":
        until(lambda: shop.takes("early"), within=60, what="the server takes tasks")
        shop.finish("early")
        time.sleep(NEW)


@on("rabbitmq")
def test_leases_last_while_rabbitmq_is_away_for_a_while(shop: Shop) -> None:
    """Its supervisor goes on telling the records that it lives."""
    worker = shop.work(processes=1)
    let_queues_age(shop)
    long = shop.tasks.work.delay(12.0)
    shop.started(long.id)
    shop.place.running.kill()
    until(lambda: "no messages for" in worker.output(), within=30, what="RabbitMQ is missed")
    (known,) = shop.app.records.workers()
    assert known.lease_left > 0
    shop.place.running.start()
    (record,) = shop.finish(long.id)
    assert (record.state, record.attempt, record.losses) == (State.SUCCESS, 1, 0)
    assert shop.starts(long.id) == 1
