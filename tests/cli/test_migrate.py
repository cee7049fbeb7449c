"""`acked migrate`, and a database that lacks what it makes."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from acked import cli
from acked.brokers.postgres import PostgresBroker
from acked.errors import BrokerError, ConfigurationError
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


def as_role(url: str, name: str) -> str:
    """*url* for a role of that name that has no rights of its own."""
    with psycopg.connect(url, autocommit=True) as operator:
        made = f"""
            DO $$ BEGIN CREATE ROLE {name} LOGIN;
            EXCEPTION WHEN duplicate_object THEN NULL; END $$
        """
        operator.execute(made.encode())
    return url.replace("//postgres@", f"//{name}@")


def test_who_may_not_make_the_schema_is_told_which_right_that_takes(url: str) -> None:
    with pytest.raises(BrokerError, match="could not be migrated") as refused:
        PostgresBroker(as_role(url, "stranger")).migrate()

    database = url.rpartition("/")[2]
    said = f"make the schema acked: GRANT CREATE ON DATABASE {database} TO stranger"
    assert str(refused.value).endswith(said)


@pytest.mark.parametrize("given", ["", "GRANT USAGE ON SCHEMA acked TO stranger"])
def test_who_may_not_make_tables_in_anothers_schema_is_told_whose_it_is(
    url: str, given: str
) -> None:
    stranger = as_role(url, "stranger")
    as_role(url, "keeper")
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute("CREATE SCHEMA acked AUTHORIZATION keeper")
        operator.execute(given.encode())

    with pytest.raises(BrokerError, match="Run it as keeper, who owns the schema acked") as refused:
        PostgresBroker(stranger).migrate()

    _, _, grant = str(refused.value).rpartition(": ")
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute(grant.encode())
    assert PostgresBroker(stranger).migrate() == NAMES


def test_who_may_not_change_anothers_tables_is_told_whose_they_are(url: str) -> None:
    PostgresBroker(url).migrate()

    with pytest.raises(BrokerError, match=r"Run it as postgres, who owns the tables") as refused:
        PostgresBroker(as_role(url, "stranger")).migrate()
    assert "GRANT" not in str(refused.value)


def test_what_no_right_would_mend_has_no_such_remedy(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute("CREATE SCHEMA acked; CREATE TABLE acked.task ()")

    with pytest.raises(BrokerError, match=r"\(relation \"task\" already exists\)\.$"):
        PostgresBroker(url).migrate()


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
