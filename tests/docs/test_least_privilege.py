"""The recipes of docs/brokers.md for users that may do what acked does, and nothing else: what the
page says is run on real servers, and acked lives its life as such a user."""

from __future__ import annotations

import re
import time
from pathlib import Path

import hiredis
import psycopg
import pytest

from acked.broker import Beat, Engine, Filter
from acked.brokers.postgres import PostgresBroker
from acked.brokers.rabbitmq import RabbitMQBroker
from acked.brokers.redis import RedisBroker
from acked.brokers.sqlite import SQLiteBroker
from acked.delivery import Settlement, State
from acked.message import Message
from acked.record import Progress
from acked.tally import Count
from tests.harness.places import Servers
from tests.harness.workers import until
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

PAGE = (Path(__file__).parents[2] / "docs" / "brokers.md").read_text(encoding="utf-8")


def recipe(beginning: str) -> str:
    """The block of the page that has a line which begins so."""
    blocks = re.findall(r"^```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if re.search(f"^{beginning}", block, re.MULTILINE)]
    return str(found)


def live(broker: Engine) -> None:
    """Everything that applications, workers and operators do."""
    broker.setup()
    broker.conditions()
    now = broker.clock.now()
    beat = Beat(worker="w", host="h", pid=1, started=now, queues=("default",), processes=1)
    broker.renew(beat)
    broker.send([Message(id=each, task="t", sent=now) for each in ("a", "b", "c", "d")])
    broker.send([Message(id="later", task="t", sent=now, eta=now + 3600)])
    broker.wait(["default"], 5.0)
    held = {each.id: each for each in until(
        lambda: broker.claim("w/0", ["default"], 2).deliveries, what="a claim"
    )}  # fmt: skip
    first, *others = held.values()
    assert broker.report(first.id, first.token, Progress(done=1, at=now))
    assert broker.save(first.id, first.token, b"1")
    ended = broker.clock.now()
    broker.settle(
        [
            Settlement.succeed(first, at=ended, started=now, result=b"1"),
            *(
                Settlement.interrupted(each, at=ended, started=now, reason="stop")
                for each in others
            ),
        ]
    )
    for each in broker.seize("w", by="v/s"):
        broker.settle([Settlement.unstarted(each, at=ended)])
    assert broker.reap(by="v/s") == []
    record = broker.get(first.id)
    assert record is not None and record.state is State.SUCCESS
    assert broker.attempts(first.id) and broker.saved(first.id) == b"1"
    assert broker.search(Filter(states=(State.SUCCESS,), text="task"))
    assert broker.counts() and broker.workers()
    broker.count([Count(1, "default", "t", "success", 1)])
    assert broker.counted(0, 2)
    broker.pause("other")
    broker.resume("other")
    assert broker.revoke(["later"]) == 1 and broker.requeue(["later"]) == 1
    assert broker.discard([first.id]) == 1
    broker.purge("default")
    broker.prune(succeeded_before=time.time(), failed_before=time.time(), limit=10)
    broker.leave("w")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def test_the_redis_user_of_the_page_may_do_what_acked_does_and_nothing_else(
    directory: Path,
) -> None:
    (rule,) = recipe("ACL SETUSER").splitlines()
    with RedisServer(directory) as server:
        server.ask(*rule.split())
        broker = RedisBroker(f"redis://shop:PASSWORD@127.0.0.1:{server.port}/0?prefix=shop")
        live(broker)
        broker.close()
        stranger = RedisBroker(f"redis://shop:PASSWORD@127.0.0.1:{server.port}/0?prefix=bank")
        with pytest.raises(Exception, match="refuses this user"):
            stranger.send([Message(id="a", task="t")])
        stranger.close()
        with pytest.raises(hiredis.ReplyError, match="NOPERM"):
            ask_as_shop(server, "FLUSHALL")
        with pytest.raises(hiredis.ReplyError, match="NOPERM"):
            ask_as_shop(server, "CONFIG", "SET", "maxmemory", "1gb")


def ask_as_shop(server: RedisServer, *command: str) -> None:
    from acked.brokers.redis.address import Node, parse  # noqa: PLC0415 - beside its one use
    from acked.brokers.redis.connection import Connection  # noqa: PLC0415 - as above

    deadline = time.monotonic() + 5
    address = parse(f"redis://shop:PASSWORD@127.0.0.1:{server.port}/0")
    connection = Connection(Node("127.0.0.1", server.port), address, deadline)
    try:
        connection.log_in(address, deadline)
        reply = connection.call(*command, deadline=deadline)
    finally:
        connection.close()
    if isinstance(reply, hiredis.ReplyError):
        raise reply


@pytest.fixture
def postgres(servers: Servers) -> PostgresServer:
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    return server


def test_the_postgresql_roles_of_the_page_may_do_what_acked_does(
    postgres: PostgresServer,
) -> None:
    with postgres.operator() as operator:
        operator.execute("CREATE DATABASE shop")
    with postgres.operator("shop") as operator:
        operator.execute(recipe("CREATE ROLE shop_migrator").replace("'...'", "'PASSWORD'"))  # type: ignore[arg-type]  # text of the page, not of the code
    place = f"127.0.0.1:{postgres.port}/shop"
    migrator = PostgresBroker(f"postgresql://shop_migrator:PASSWORD@{place}")
    assert migrator.migrate()
    migrator.close()
    broker = PostgresBroker(f"postgresql://shop:PASSWORD@{place}")
    live(broker)
    broker.close()
    with (
        psycopg.connect(f"postgresql://shop:PASSWORD@{place}") as user,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        user.execute("DROP TABLE acked.task")


def test_the_rabbitmq_user_of_the_page_may_do_what_acked_does(
    servers: Servers, directory: Path
) -> None:
    permissions = re.findall(r"'(\^[^']+)'", recipe("rabbitmqctl set_permissions"))
    assert len(permissions) == 3
    server = servers.get("rabbitmq")
    assert isinstance(server, RabbitServer)
    patterns = ", ".join(f'<<"{each}">>'.replace("\\", "\\\\") for each in permissions)
    said = server.evaluate(
        'rabbit_vhost:add(<<"shop">>, <<"test">>), '
        'rabbit_auth_backend_internal:add_user(<<"shop">>, <<"PASSWORD">>, <<"test">>), '
        f'rabbit_auth_backend_internal:set_permissions(<<"shop">>, <<"shop">>, {patterns}, '
        '<<"test">>)'
    )
    assert "ok" in said, said
    ledger = SQLiteBroker(directory / "records.db")
    broker = RabbitMQBroker(f"amqp://shop:PASSWORD@127.0.0.1:{server.port}/shop", ledger)
    live(broker)
    broker.close()
