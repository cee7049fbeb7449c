"""What is asked of PostgreSQL all the time is answered from an index, however many tasks wait."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from acked.brokers.postgres import PostgresBroker, ledger, queue, records
from acked.brokers.postgres.connection import SETTINGS
from acked.message import Message, new_ids
from tests.harness.places import Servers
from tests.servers.postgres import PostgresServer

TABLES = ("task", "waiting", "running", "done", "attempt", "note")


@pytest.fixture(scope="module")
def url(servers: Servers) -> str:
    """A database in which 100,000 tasks wait, and some stand elsewhere."""
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    url = server.fresh()
    broker = PostgresBroker(url, timeout=60)
    for _ in range(20):
        broker.send([Message(id=each, task="t") for each in new_ids(5000)])
    broker.claim("w/0", ["default"], 500)
    broker.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return url


Explained = tuple[psycopg.Connection[Any], list[str]]


@pytest.fixture
def explained(url: str) -> Iterator[Explained]:
    """One with the settings of acked's own, that tells the plans of what functions run."""
    plans: list[str] = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SETTINGS.format(timeout=60_000).encode())
        connection.execute("LOAD 'auto_explain'")
        connection.execute(
            "SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;"
            "SET client_min_messages = log; SET auto_explain.log_format = text"
        )
        connection.add_notice_handler(lambda told: plans.append(told.message_primary or ""))
        yield connection, plans


STATEMENTS = {
    "claim": "SELECT * FROM acked.take('w/1', 'w', ARRAY['default'::bytea], 100, "
    "'{}', '{}', '{}', '{}', NULL, NULL, 10, 4711)",
    "claim from a mark": "SELECT * FROM acked.take('w/1', 'w', ARRAY['default'::bytea], 100, "
    "ARRAY['default'::bytea], '{0}', '{0}', '{0}', NULL, NULL, 10, 4711)",
    "wait": "SELECT acked.next_work(ARRAY['default'::bytea], '{}', '{}', '{}', '{}')",
    "settle": "SELECT * FROM acked.succeed('{1,2,3}', '{1,2,3}', '{1,2,3}', '{1,2,3}', '{}')",
    "holders": "SELECT acked.holders()",
    "seize": "SELECT * FROM acked.seize(ARRAY['w/0'::bytea], '{}', 'w/1', 'w', NULL, NULL, 10, 99, "
    "'{}', 0, 4000000)",
    "promote": "SELECT acked.promote('default', 0)",
    "revoke": "SELECT acked.revoke(ARRAY['x'::bytea], 1::smallint, NULL)",
}
PREPARED = {
    "due": queue.DUE.sql,
    "orders": queue.ORDERS.sql,
    "get": records.GET.sql,
    "upcoming": records.UPCOMING.sql,
    "workers": records.WORKERS.sql,
    "prune": records.PRUNE_SUCCESS.sql,
    "overdue": ledger.OVERDUE.sql,
    "left": ledger.LEFT.sql,
}


def scanned(plans: list[str]) -> set[str]:
    text = "\n".join(plans)
    return set(re.findall(r"Seq Scan on (\w+)", text)) & set(TABLES)


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_function_reads_a_whole_table(name: str, explained: Explained) -> None:
    connection, plans = explained
    with connection.transaction(force_rollback=True):
        connection.execute(STATEMENTS[name].encode())
    assert any("Scan" in plan for plan in plans)
    assert scanned(plans) == set()


@pytest.mark.parametrize("name", PREPARED)
def test_no_statement_reads_a_whole_table(name: str, explained: Explained) -> None:
    connection, _ = explained
    sql = PREPARED[name].replace("{schema}", "acked")
    count = max((int(each) for each in re.findall(r"\$(\d+)", sql)), default=0)
    connection.execute(f"PREPARE it AS {sql}".encode())
    nulls = f"({', '.join(['NULL'] * count)})" if count else ""
    plan = [row[0] for row in connection.execute(f"EXPLAIN EXECUTE it{nulls}".encode())]
    assert scanned(plan) == set(), "\n".join(plan)
