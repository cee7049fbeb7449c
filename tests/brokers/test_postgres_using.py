"""Sending inside a transaction of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from acked import Acked
from acked.brokers.postgres import PostgresBroker
from acked.errors import BrokerError, NotSendable
from acked.testing.timeline import Background
from tests.harness.places import Servers
from tests.servers.postgres import PostgresServer


@pytest.fixture
def server(servers: Servers) -> PostgresServer:
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    return server


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.fresh()


@pytest.fixture
def app(url: str) -> Iterator[Acked]:
    app = Acked("shop", broker=url)
    yield app
    app.close()


@pytest.fixture
def scan(app: Acked) -> Any:
    @app.task(name="scan")
    def scan(number: int) -> None: ...

    return scan


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.execute("CREATE TABLE bill (number int)")
        connection.commit()
        yield connection


def sent(app: Acked) -> int:
    return sum(counts.queued + counts.scheduled for counts in app.records.counts())


def test_what_is_committed_is_sent_with_everything_else(
    app: Acked, scan: Any, connection: psycopg.Connection[Any]
) -> None:
    with connection.transaction():
        connection.execute("INSERT INTO bill VALUES (1)")
        result = scan.apply_async((1,), using=connection)
        assert app.records.get(result.id) is None
    assert app.records.get(result.id) is not None


def test_what_is_rolled_back_was_never_sent(
    app: Acked, scan: Any, connection: psycopg.Connection[Any]
) -> None:
    with connection.transaction(force_rollback=True):
        scan.apply_async((1,), using=connection)
        scan.delay_many([(n,) for n in range(2500)], using=connection)
        app.send_many([scan.si(3), scan.si(4)], using=connection)
    assert sent(app) == 0
    with connection.transaction():
        scan.apply_async((1,), countdown=60, using=connection)
        scan.delay_many([(n,) for n in range(2500)], using=connection)
        app.send_many([scan.si(3), scan.si(4)], using=connection)
        with connection.transaction(force_rollback=True):
            scan.apply_async((5,), using=connection)
    assert sent(app) == 2503


def test_a_waiter_is_woken_by_the_commit(
    app: Acked, scan: Any, connection: psycopg.Connection[Any]
) -> None:
    waiting = Background(lambda: app.broker.wait(["default"], 600))
    with connection.transaction():
        scan.apply_async((1,), using=connection)
    waiting.answer()
    assert len(app.broker.claim("w/0", ["default"], 5).deliveries) == 1


def test_a_connection_may_be_wrapped_as_django_does(
    app: Acked, scan: Any, connection: psycopg.Connection[Any]
) -> None:
    class Wrapper:
        def __init__(self) -> None:
            self.connection: Any = None

        def ensure_connection(self) -> None:
            self.connection = connection

    with connection.transaction(force_rollback=True):
        scan.apply_async((1,), using=Wrapper())
    assert sent(app) == 0


def test_a_failed_transaction_says_so(scan: Any, connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1 / 0")
    with pytest.raises(BrokerError, match="Roll it back"):
        scan.apply_async((1,), using=connection)
    connection.rollback()


def test_a_connection_to_another_database_is_refused(scan: Any, server: PostgresServer) -> None:
    for url in (server.fresh(), server.unmigrated()):
        with (
            psycopg.connect(url) as elsewhere,
            pytest.raises(NotSendable, match="leads to the database"),
        ):
            scan.apply_async((1,), using=elsewhere)


@pytest.mark.parametrize("wrong", [object(), "postgresql://x", 7])
def test_what_is_no_connection_is_refused(scan: Any, wrong: object) -> None:
    with pytest.raises(NotSendable, match="takes a connection of psycopg"):
        scan.apply_async((1,), using=wrong)


def test_other_brokers_refuse_it_and_say_what_to_do(
    connection: psycopg.Connection[Any],
) -> None:
    app = Acked("shop", broker="memory://")

    @app.task
    def scan() -> None: ...

    with pytest.raises(NotSendable, match="send after your commit"):
        scan.apply_async(using=connection)


async def _send(scan: Any, connection: object) -> None:
    with pytest.raises(NotSendable, match="using"):
        await scan.aapply_async((1,), using=connection)
    with pytest.raises(NotSendable, match="transaction"):
        await scan.adelay_many([(1,)], using=connection)


def test_coroutines_cannot_send_in_a_transaction(
    scan: Any, connection: psycopg.Connection[Any]
) -> None:
    asyncio.run(_send(scan, connection))


def test_the_capability_is_declared(url: str) -> None:
    assert PostgresBroker(url).capabilities.transactional
