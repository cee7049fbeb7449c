"""What a worker says of its broker at its start, at the default log level."""

from __future__ import annotations

import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.worker.conftest import Shop, on


def promises(shop: Shop) -> list[str]:
    """The lines of a worker's start that say what its broker promises."""
    said = shop.work(processes=1).output()
    return [line for line in said.splitlines() if " acked.worker broker " in line]


@on("redis")
@pytest.mark.parametrize(
    ("appendfsync", "told"),
    [
        ("everysec", "A power loss of its host may lose the last second (appendfsync everysec)"),
        ("always", "Every write is on disk before it is answered (appendfsync always)"),
    ],
)
def test_it_says_what_a_power_loss_of_redis_costs(shop: Shop, appendfsync: str, told: str) -> None:
    server = shop.place.running
    assert isinstance(server, RedisServer)
    before = server.ask("CONFIG", "GET", "appendfsync")[1]
    server.ask("CONFIG", "SET", "appendfsync", appendfsync)
    try:
        (line,) = promises(shop)
    finally:
        server.ask("CONFIG", "SET", "appendfsync", before)

    assert told in line
    assert "new tasks are refused and none is deleted (maxmemory-policy noeviction)" in line


@on("postgres")
def test_it_says_what_postgresql_flushes(shop: Shop) -> None:
    server = shop.place.running
    assert isinstance(server, PostgresServer)
    with server.operator() as operator:
        rows = operator.execute("SELECT name, setting FROM pg_settings WHERE name = 'fsync'")
        (fsync,) = [setting for _, setting in rows.fetchall()]

    lines = promises(shop)

    if fsync == "on":
        (line,) = lines
        assert "Every write is on disk before it is answered (fsync on" in line
    else:
        assert lines == []


@on("rabbitmq+redis")
def test_with_rabbitmq_it_says_what_the_records_promise_as_well(shop: Shop) -> None:
    (line,) = promises(shop)

    assert "RabbitMQ confirms a message once it is on disk" in line
    assert "(appendfsync everysec)" in line


def test_a_worker_whose_records_live_in_one_process_names_their_place(shop: Shop) -> None:
    shop.environment |= {"SHOP_URL": "amqp://127.0.0.1:1", "SHOP_RESULTS": "memory://"}
    worker = shop.work(wait=False)
    assert worker.process.wait(20) == 1
    assert "a worker cannot use results=memory://: no other process" in worker.output()
