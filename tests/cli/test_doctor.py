"""The command `doctor`: what it looks at, and what it says of the broker it is sent to."""

from __future__ import annotations

import json
import time

import psycopg
import pytest

from acked.broker import Engine
from acked.cli.doctor import OWN_NAME
from tests.cli.conftest import Acked
from tests.cli.scenario import fill
from tests.harness.places import Servers
from tests.servers.postgres import PostgresServer


def lines(text: str, check: str) -> list[str]:
    return [line for line in text.splitlines() if line.split("\t")[1:2] == [check]]


def test_doctor_reports_as_json_and_by_exit_code(acked: Acked, store: Engine) -> None:
    fill(store, time.time() - 10)
    ended = acked("doctor", "--json")
    assert ended.code == 1
    found = {(each["check"], each["level"]) for each in json.loads(ended.out)}
    assert ("broker", "ok") in found
    assert ("queues", "fail") in found
    store.purge("mails")
    assert acked("doctor").code == 0


def test_a_check_that_breaks_is_named_as_a_bug_and_the_others_run(
    acked: Acked, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("password=canary")

    fill(store, time.time() - 10)
    store.purge("mails")
    monkeypatch.setattr("acked.cli.doctor.check_file", broken)
    ended = acked("doctor")
    assert ended.code == 1
    assert "fail\tfile\tthis check itself failed, which is a bug in acked: ZeroDiv" in ended.out
    assert "canary" not in ended.out
    assert "ok\tworkers\t1 alive" in ended.out


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
