"""How connections to PostgreSQL are made and kept: in time, to whichever server there is."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from acked import Acked
from acked.brokers.postgres import PostgresBroker
from acked.brokers.postgres.address import signed
from acked.brokers.postgres.connection import IDLE
from acked.errors import BrokerRefused, BrokerUnavailable
from acked.testing.timeline import Background, message
from tests.harness.places import Servers
from tests.harness.workers import until
from tests.servers.postgres import PostgresServer


def packet(kind: bytes, body: bytes) -> bytes:
    """A message of PostgreSQL's protocol."""
    return kind + struct.pack("!i", len(body) + 4) + body


GREETING = (
    packet(b"R", struct.pack("!i", 0))  # logged in
    + packet(b"S", b"\0".join((b"server_version", b"15.0", b"")))
    + packet(b"S", b"client_encoding\0UTF8\0")
    + packet(b"K", struct.pack("!ii", 1, 2))
    + packet(b"Z", b"I")  # ready
)
PLAIN_PLEASE = (80877103, 80877104)
"""How a client asks for TLS and for GSSAPI, before it logs in."""


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that lets everybody in and then says nothing, as a PgBouncer does whose
    connections are all in use."""
    listener = socket.create_server(("127.0.0.1", 0))
    clients: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # The test is over.
                return
            clients.append(client)
            while True:
                size, code = struct.unpack("!ii", client.recv(8))
                client.recv(size - 8)
                if code not in PLAIN_PLEASE:
                    break
                client.sendall(b"N")
            client.sendall(GREETING)

    serving = threading.Thread(target=serve)
    serving.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    serving.join()
    for each in (listener, *clients):
        each.close()


@pytest.fixture
def hole() -> Iterator[int]:
    """A port that nothing comes back from: the places of its queue are taken."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
def live(servers: Servers) -> PostgresServer:
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    return server


def test_setting_up_ends_in_time_where_the_server_lets_us_in_and_then_is_silent(
    silent: int,
) -> None:
    broker = PostgresBroker(f"postgresql://shop@127.0.0.1:{silent}/shop", timeout=1.0)
    for call in (broker.setup, broker.pending):
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="no answer within 1 s") as refusal:
            call()
        assert time.monotonic() - began < 2.0
        assert refusal.value.nothing_stored


@pytest.mark.parametrize("options", ["", "?target_session_attrs=read-write"])
def test_a_host_from_which_nothing_comes_back_keeps_nobody_from_the_next(
    live: PostgresServer, hole: int, options: str
) -> None:
    url = live.fresh().replace("@", f"@127.0.0.1:{hole},") + options
    broker = PostgresBroker(url, timeout=2.0)
    assert broker.pending() == []
    broker.close()
    for call in (broker.setup, lambda: broker.send([message("a")])):
        began = time.monotonic()
        call()
        assert time.monotonic() - began < 2.0
        broker.close()
    assert broker.migrate() == []
    broker.close()


def test_it_is_said_of_each_host_why_it_was_no_use(hole: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        port = unused.getsockname()[1]
        broker = PostgresBroker(f"postgresql://127.0.0.1:{hole},127.0.0.1:{port}/x", timeout=1.0)
        with pytest.raises(BrokerUnavailable, match=r"no answer from 127.*Connection refused"):
            broker.send([message("a")])


def test_what_a_burst_opened_is_closed_after_it_but_for_a_few(live: PostgresServer) -> None:
    url = live.fresh()
    broker = PostgresBroker(url, timeout=60)
    broker.setup()
    count = IDLE + 12
    with psycopg.connect(url, autocommit=True) as operator:
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'acked'"
            " AND datname = current_database()"
        )

        def connected() -> int:
            row = operator.execute(asked).fetchone()
            assert row is not None
            return int(row[0])

        with psycopg.connect(url) as locking:
            locking.execute("LOCK acked.task")  # so that all of them are under way at once
            burst = [
                Background(lambda number=number: broker.send([message(f"task-{number}")]))
                for number in range(count)
            ]
            until(lambda: connected() == count, what="a connection of each")
        for each in burst:
            each.answer()

        until(lambda: 0 < connected() <= IDLE, what="the others closed")
    assert broker.purge("default") == count
    broker.close()


@pytest.mark.parametrize(
    ("spoiled", "remedy"),
    [
        (("postgres@", "nobody_of_that_name@"), "user, password and database"),
        (("/test", "/no_such_test"), "user, password and database"),
        (("?", "?"), "sslmode="),
    ],
)
def test_a_server_that_lets_nobody_in_is_not_taken_for_one_that_is_away(
    servers: Servers, spoiled: tuple[str, str], remedy: str
) -> None:
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    url = server.fresh().replace(*spoiled)
    if remedy == "sslmode=":
        url += "?sslmode=require"
    broker = PostgresBroker(url, timeout=5)
    for attempt in (broker.setup, broker.migrate):
        with pytest.raises(BrokerRefused, match=f"lets nobody in.*{remedy}"):
            attempt()
    broker.close()


@pytest.mark.parametrize("answer", [b"S", b"E", b"H"])
def test_a_server_that_is_lost_while_tls_begins_is_taken_for_one_that_is_away(
    answer: bytes,
) -> None:
    def serve() -> None:
        for _ in range(2):  # what is harmless when repeated is tried twice
            client, _ = listener.accept()
            with client:
                client.recv(8)
                client.sendall(answer)
                client.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Background(serve)
        port = listener.getsockname()[1]
        broker = PostgresBroker(f"postgresql://u@127.0.0.1:{port}/d?sslmode=require", timeout=5)
        with pytest.raises(BrokerUnavailable, match="cannot be reached") as caught:
            broker.setup()
        server.answer()
    assert caught.value.nothing_stored
    broker.close()


def test_a_database_without_the_tables_refuses_to_store_a_call(servers: Servers) -> None:
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    app = Acked("shop", broker=server.unmigrated())

    @app.task(name="scan")
    def scan() -> None: ...

    with pytest.raises(BrokerRefused, match=r"scan\[a\]: not stored.*migrate") as caught:
        scan.apply_async(task_id="a")
    assert caught.value.nothing_stored
    app.close()


def test_a_connection_that_was_told_of_work_between_two_waits_is_kept(
    servers: Servers,
) -> None:
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    broker = PostgresBroker(server.fresh(), timeout=5)
    broker.setup()
    sessions = set()
    with psycopg.connect(broker.address, autocommit=True) as other:
        for _ in range(5):
            broker.wait(["default"], 0.01)
            (session,) = broker._waiting._listening._idle
            sessions.add(session)
            channel = f"acked_{broker._address.lock_space}_{signed('default')}"
            other.execute("SELECT pg_notify(%s, '')", [channel])
            until(lambda session=session: session._poll.poll(0), "the notification")
    assert len(sessions) == 1
    broker.close()
