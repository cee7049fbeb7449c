"""Sending inside a transaction of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db.utils import DatabaseErrorWrapper, OperationalError
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.string import StrDumper

from acked import Acked
from acked.brokers.postgres import PostgresBroker
from acked.errors import BrokerError, BrokerRefused, NotSendable
from acked.testing.timeline import Background
from tests.harness.places import Servers
from tests.harness.workers import until
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy


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


@pytest.fixture
def plain(url: str) -> Iterator[psycopg.Connection[Any]]:
    """One that commits each statement by itself, as Django's does outside `atomic`."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def test_without_a_transaction_all_calls_are_sent_or_none(
    app: Acked, scan: Any, plain: psycopg.Connection[Any]
) -> None:
    scan.delay_many([(n,) for n in range(5001)], using=plain)
    assert sent(app) == 5001
    plain.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'that many'; END $$;"
        "CREATE TRIGGER refuse AFTER INSERT ON acked.task FOR EACH ROW WHEN (NEW.seq > 10001)"
        " EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(BrokerError, match="not stored.*that many") as caught:
        scan.delay_many([(n,) for n in range(5001)], using=plain)
    assert (caught.value.nothing_stored, caught.value.stored_ids) == (True, ())
    assert sent(app) == 5001


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_connection_without_the_right_to_send_is_refused_as_the_brokers_own_would_be(
    app: Acked, scan: Any, url: str, autocommit: bool
) -> None:
    with psycopg.connect(url, autocommit=autocommit) as connection:
        connection.execute("SET ROLE pg_monitor")
        with pytest.raises(BrokerRefused, match="not stored.*permission denied") as caught:
            scan.apply_async((1,), using=connection)
    assert caught.value.nothing_stored


def test_threads_may_share_a_connection_that_commits_by_itself(
    app: Acked, scan: Any, plain: psycopg.Connection[Any]
) -> None:
    def some() -> None:
        for _ in range(50):
            scan.delay_many([(1,), (2,), (3,)], using=plain)

    senders = [Background(some) for _ in range(4)]
    for each in senders:
        each.answer()
    assert plain.info.transaction_status == TransactionStatus.IDLE
    assert sent(app) == 600


def test_what_is_sent_in_a_pipeline_of_its_own_is_committed(
    app: Acked, scan: Any, plain: psycopg.Connection[Any]
) -> None:
    with contextlib.suppress(psycopg.errors.DivisionByZero), plain.pipeline():
        scan.delay_many([(1,), (2,)], using=plain)
        plain.execute("SELECT 1 / 0")
    assert sent(app) == 2


def test_a_commit_whose_answer_is_lost_may_have_been_made(
    app: Acked, scan: Any, server: PostgresServer, url: str, plain: psycopg.Connection[Any]
) -> None:
    app.open()
    app.broker._place()  # type: ignore[attr-defined] # asked on a connection of the broker's
    plain.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON acked.task INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    with Proxy(server.port) as proxy:
        through = url.replace(f":{server.port}/", f":{proxy.port}/")
        with psycopg.connect(through, autocommit=True) as connection:
            cut = threading.Timer(0.3, proxy.reset_all)
            cut.start()
            with pytest.raises(BrokerError, match="may be stored") as caught:
                scan.apply_async((1,), using=connection, task_id="a")
            cut.join()
    assert (caught.value.nothing_stored, caught.value.unsure_ids) == (False, ("a",))
    until(lambda: sent(app) == 1, "the commit")


@pytest.mark.parametrize(
    "setting", ["standard_conforming_strings = off", "array_nulls = off", "bytea_output = escape"]
)
def test_what_is_sent_does_not_depend_on_how_the_session_is_set(
    app: Acked, scan: Any, connection: psycopg.Connection[Any], setting: str
) -> None:
    connection.execute(f"SET {setting}".encode())
    result = scan.apply_async(("a\\b",), using=connection)
    connection.commit()
    (held,) = app.broker.claim("w/0", ["default"], 5).deliveries
    assert held.id == result.id


def test_what_is_sent_does_not_depend_on_how_the_connection_adapts_values(
    app: Acked, scan: Any, url: str
) -> None:
    for factory in (psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor):
        with psycopg.connect(url, cursor_factory=factory) as connection:
            connection.adapters.register_dumper(str, StrDumper)
            connection.adapters.register_dumper(bytes, StrDumper)
            scan.apply_async((1,), using=connection)
    assert len(app.broker.claim("w/0", ["default"], 5).deliveries) == 3


def conflict(connection: psycopg.Connection[Any], url: str) -> None:
    """Another transaction has made that of *connection* one that cannot go on."""
    with psycopg.connect(url) as other:
        for each in (connection, other):
            each.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            each.execute("SELECT sum(number) FROM bill")
        connection.execute("INSERT INTO bill VALUES (1)")
        other.execute("INSERT INTO bill VALUES (2)")


def test_a_conflict_of_transactions_reaches_the_loop_that_waits_for_it(
    app: Acked, scan: Any, connection: psycopg.Connection[Any], url: str
) -> None:
    conflict(connection, url)
    with pytest.raises(psycopg.errors.SerializationFailure):
        scan.apply_async((1,), using=connection)
    connection.rollback()
    assert sent(app) == 0


def test_django_gets_a_conflict_as_its_own_error(
    scan: Any, connection: psycopg.Connection[Any], url: str
) -> None:
    class Wrapper:
        Database = psycopg
        errors_occurred = False

        def __init__(self) -> None:
            self.connection = connection
            self.wrap_database_errors = DatabaseErrorWrapper(self)

    conflict(connection, url)
    with pytest.raises(OperationalError, match="could not serialize"):
        scan.apply_async((1,), using=Wrapper())
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
