"""`acked migrate`, and a database that lacks what it makes."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from acked import cli
from acked.brokers.postgres import PostgresBroker
from acked.errors import ConfigurationError
from acked.testing.timeline import Background, message
from tests.harness.places import Servers
from tests.servers.postgres import PostgresServer

NAMES = ["0001_tasks"]


@pytest.fixture
def url(servers: Servers) -> str:
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    return server.unmigrated()


def test_a_database_without_tables_is_refused_until_it_is_migrated(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = PostgresBroker(url)
    with pytest.raises(ConfigurationError, match="acked -A shop:app migrate"):
        broker.setup()
    assert broker.pending() == NAMES

    assert cli.run(["migrate", "--check", "--broker", url]) == 1
    assert cli.run(["migrate", "--broker", url]) == 0
    said = capsys.readouterr()
    assert said.out.split() == NAMES * 2
    assert "1 due" in said.err
    assert "1 applied" in said.err

    broker.setup()
    broker.send([message("a")])
    assert broker.get("a") is not None
    broker.close()


def test_migrating_again_changes_nothing(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    broker = PostgresBroker(url)
    assert broker.migrate() == NAMES
    broker.send([message("a")])

    assert cli.run(["migrate", "--json", "--broker", url]) == 0
    assert cli.run(["migrate", "--check", "--json", "--broker", url]) == 0

    texts = capsys.readouterr().out.split("}\n")
    assert json.loads(texts[0] + "}") == {"broker": url, "applied": [], "pending": []}
    assert broker.get("a") is not None
    broker.close()


def test_two_that_migrate_at_once_do_each_step_once(url: str) -> None:
    both = [Background(PostgresBroker(url).migrate) for _ in range(2)]

    assert sorted(each.answer() for each in both) == [[], NAMES]


def test_a_database_of_a_newer_acked_is_refused(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = PostgresBroker(url)
    broker.migrate()
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("INSERT INTO acked.migration (number, name) VALUES (99, '0099_sharks')")

    with pytest.raises(ConfigurationError, match="newer acked.*0099_sharks.*pip install --upgrade"):
        broker.setup()
    assert cli.run(["migrate", "--broker", url]) == 2
    assert "0099_sharks" in capsys.readouterr().err


def test_two_schemas_of_one_database_know_nothing_of_each_other(url: str) -> None:
    brokers = [PostgresBroker(f"{url}?schema={name}") for name in ("one", "two")]
    for broker in brokers:
        broker.migrate()
        broker.setup()
    brokers[0].send([message("a")])

    assert brokers[1].get("a") is None
    assert brokers[0].get("a") is not None
    for broker in brokers:
        broker.close()


def test_a_broker_that_makes_its_own_tables_needs_no_migration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    assert cli.run(["migrate", "--broker", url]) == 0
    assert cli.run(["migrate", "--check", "--json", "--broker", url]) == 0
    said = capsys.readouterr()
    assert "nothing to migrate" in said.err
    assert json.loads(said.out) == {"broker": url, "applied": [], "pending": []}


def test_a_wrong_schema_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="schema="):
        PostgresBroker("postgresql://localhost/shop?schema=a-b")
