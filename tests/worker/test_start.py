"""A worker that is there before its broker, as after a power cut."""

from __future__ import annotations

import signal
import time

from acked.delivery import State
from tests.harness.places import SERVERS
from tests.harness.workers import until
from tests.servers.redis import RedisServer
from tests.worker.conftest import Shop, on

REDIS = on("redis")
"""Its server is the quickest to stop and start."""


@on(*SERVERS, short=("redis",))
def test_a_worker_waits_for_a_broker_that_comes_up_later(shop: Shop) -> None:
    if isinstance(shop.place.running, RedisServer):
        # Killed while its disk is busy, it may forget what it has answered (docs/brokers.md).
        shop.place.running.ask("CONFIG", "SET", "appendfsync", "always")
    sent = shop.tasks.noop.delay(1)
    shop.place.running.kill()
    shop.environment["SHOP_SEND_TIMEOUT"] = "1"
    worker = shop.work(processes=1, wait=False)
    try:
        until(lambda: "not ready yet, trying again" in worker.output(), what="a first try")
    finally:
        shop.place.running.start()
    worker.ready(1)
    # RabbitMQ, killed, forgets half of a queue that it has made just now; whoever made it mends it.
    until(lambda: shop.takes("afterwards"), within=60, what="the server takes tasks again")
    records = shop.finish(sent.id, "afterwards", within=60)
    assert [record.state for record in records] == [State.SUCCESS, State.SUCCESS]


@REDIS
def test_a_worker_whose_broker_never_comes_ends_with_an_error(shop: Shop) -> None:
    shop.environment |= {"SHOP_WATCHDOG": "0.5", "SHOP_SEND_TIMEOUT": "0.5"}
    shop.place.running.kill()
    try:
        worker = shop.work(processes=1, wait=False)
        assert worker.process.wait(30) == 1
    finally:
        shop.place.running.start()
    assert "acked: Redis at" in worker.output()
    assert "cannot be reached" in worker.output()


@REDIS
def test_a_worker_that_waits_for_its_broker_can_be_stopped(shop: Shop) -> None:
    shop.environment["SHOP_SEND_TIMEOUT"] = "0.5"
    shop.place.running.kill()
    try:
        worker = shop.work(processes=1, wait=False)
        until(lambda: "not ready yet, trying again" in worker.output(), what="a first try")
        began = time.monotonic()
        assert worker.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5
    finally:
        shop.place.running.start()
