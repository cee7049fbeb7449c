"""PostgreSQL, held to every promise of the interface."""

from __future__ import annotations

import psycopg
import pytest

from acked.broker import Engine
from acked.brokers.postgres import PostgresBroker
from acked.clock import Clock
from acked.testing import LedgerConformance
from tests.harness.places import Servers
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def server(servers: Servers) -> PostgresServer:
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    return server


@pytest.fixture(scope="class")
def shared_url(server: PostgresServer) -> str:
    return server.fresh()


TABLES = "task, waiting, running, done, attempt, note, tally, counter, worker, pause, agreement"


def empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = acked")
        connection.execute(f"TRUNCATE {TABLES}")


class TestPostgres(LedgerConformance):
    @pytest.fixture(autouse=True)
    def _place(self, shared_url: str) -> None:
        empty(shared_url)
        self.url = shared_url

    def make_broker(self, clock: Clock) -> PostgresBroker:
        return PostgresBroker(self.url, clock=clock)

    def plant_raw(self, broker: Engine, body: bytes) -> str:
        """Written by another program, past the broker."""
        with psycopg.connect(self.url, autocommit=True) as other:
            other.execute(
                "WITH t AS (INSERT INTO acked.task (id, name, queue, priority, sent, body)"
                " VALUES ('planted', '', 'default', 0, 0, %s) RETURNING seq)"
                " INSERT INTO acked.waiting (seq, due, priority, scheduled, queue)"
                " SELECT seq, 0, 0, false, 'default' FROM t",
                (body,),
            )
        return "planted"
