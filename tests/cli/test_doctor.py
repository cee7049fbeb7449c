"""What the doctor says of the broker it is sent to."""

from __future__ import annotations

import psycopg
import pytest

from acked.broker import Engine
from acked.cli.doctor import OWN_NAME
from tests.cli.conftest import Acked
from tests.harness.places import Servers
from tests.servers.postgres import PostgresServer


def lines(text: str, check: str) -> list[str]:
    return [line for line in text.splitlines() if line.split("\t")[1:2] == [check]]


def test_the_doctor_writes_at_the_broker_under_one_name(acked: Acked, store: Engine) -> None:
    written = set()
    for _ in range(2):
        (line,) = lines(acked("doctor").out, "broker")
        assert line.startswith(f"ok\tbroker\t{store.url} took a write and answered in ")
        # Answers what is there, and changes nothing where that is not nothing.
        written.add(store.exchange(OWN_NAME, None, b""))
    assert len(written - {None}) == 2
    assert store.counts() == []


def test_a_broker_that_is_read_and_not_written_fails(acked: Acked, servers: Servers) -> None:
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    url = server.fresh()
    with psycopg.connect(url, autocommit=True) as operator:
        name = url.rpartition("/")[2]
        operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())

    assert acked("list", "--broker", url).code == 0
    ended = acked("doctor", "--broker", url)
    assert ended.code == 1
    (line,) = lines(ended.out, "broker")
    assert line.startswith("fail\tbroker\t")
    assert "read-only" in line


def test_what_answered_is_named_where_rabbitmq_is_away(
    acked: Acked, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACKED_RESULTS_URL", store.url)
    answered, away = lines(acked("doctor", "--broker", "amqp://127.0.0.1:1").out, "broker")
    assert answered.startswith(f"ok\tbroker\t{store.url} took a write")
    assert away.startswith("fail\tbroker\tRabbitMQ at amqp://")
