"""What Redis's own faults do to the tasks in it: nothing that lasts."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import msgspec
import pytest

from acked.broker import Filter
from acked.brokers.redis import RedisBroker, connection
from acked.brokers.redis.meaning import ELSEWHERE, said
from acked.brokers.redis.scripts import Script
from acked.clock import ManualClock, ServerClock
from acked.delivery import Delivery, Settlement, State
from acked.errors import BrokerError, BrokerRefused, BrokerUnavailable, ConfigurationError
from acked.message import encode
from acked.record import Progress
from acked.testing.timeline import LONG, Background, beat, message, much, settlements
from tests.harness.workers import until
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.servers.server import free_port

PASSWORD = "correct horse/battery@staple"  # noqa: S105 - of a server of the test's own
ESCAPED = "correct%20horse%2Fbattery%40staple"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that its tests leave as it was."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that its test may do anything to."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    if server.process is not None:
        server.close()


@pytest.fixture
def broker(shared: RedisServer) -> RedisBroker:
    return RedisBroker(shared.fresh())


def claimed(broker: RedisBroker, limit: int = 100) -> list[str]:
    return [held.id for held in broker.claim("w1/0", ["default"], limit).deliveries]


# Scripts, connections, processes


def test_scripts_that_the_server_forgot_are_given_to_it_again(
    shared: RedisServer, broker: RedisBroker
) -> None:
    for number in range(5):
        shared.ask("SCRIPT", "FLUSH")
        broker.send([message(f"task-{number}")])
        shared.ask("SCRIPT", "FLUSH")
        assert claimed(broker) == [f"task-{number}"]
        shared.ask("SCRIPT", "FLUSH")
        assert broker.get(f"task-{number}") is not None


def test_connections_that_are_killed_all_the_time_lose_and_double_nothing(
    shared: RedisServer, broker: RedisBroker
) -> None:
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.002):
            shared.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    killing = Background(kill)
    ids = {f"task-{number}" for number in range(200)}
    try:
        for task_id in sorted(ids):
            until(lambda: _done(lambda: broker.send([message(task_id)])))
        while len(broker_ids(broker, State.SUCCESS)) < len(ids):
            _work(broker)
    finally:
        over.set()
        killing.answer()

    assert broker_ids(broker, State.SUCCESS) == ids
    assert all(len(broker.attempts(task_id)) == 1 for task_id in ids)


@pytest.mark.parametrize("asked_again", ["w9/0", "w2"])
def test_a_seizure_whose_answer_was_lost_is_repeated_with_what_it_took(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, asked_again: str
) -> None:
    """Whomever the next one is about, be it the taker itself."""
    broker.send([message("a"), message("b")])
    assert claimed(broker) == ["a", "b"]
    run = broker._client.run

    def lost(*args: object, **options: object) -> object:
        run(*args, **options)  # type: ignore[arg-type]  # whatever the command takes
        raise BrokerUnavailable("the answer was lost")

    monkeypatch.setattr(broker._client, "run", lost)
    with pytest.raises(BrokerUnavailable):
        broker.seize("w1/0", by="w2")
    monkeypatch.undo()

    seized = broker.seize(asked_again, by="w2")

    assert [(held.id, held.consumer) for held in seized] == [("a", "w1/0"), ("b", "w1/0")]
    now = broker.clock.now()
    assert broker.settle([Settlement.unstarted(held, at=now) for held in seized]) == []
    assert broker.seize(asked_again, by="w2") == []


def test_a_repeated_seizure_gives_each_delivery_once(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the one before it took, whose answer was lost."""
    broker.send([message("a")])
    broker.claim("w1/0", ["default"], 1)
    broker.send([message("b")])
    broker.claim("w1/1", ["default"], 1)
    run = broker._client.run

    def lost(*args: object, **options: object) -> object:
        run(*args, **options)  # type: ignore[arg-type]  # whatever the command takes
        raise BrokerUnavailable("the answer was lost")

    def repeated(script: Script, *args: Any, **options: Any) -> Any:
        run(script, *args, **options)
        return run(script, *args, **options)

    monkeypatch.setattr(broker._client, "run", lost)
    with pytest.raises(BrokerUnavailable):
        broker.seize("w1/0", by="w2")
    monkeypatch.setattr(broker._client, "run", repeated)

    assert [held.id for held in broker.seize("w1/1", by="w2")] == ["a", "b"]


def test_over_a_slow_line_a_dead_worker_is_buried_in_portions(shared: RedisServer) -> None:
    """What it held is more than the line carries in the time there is for one answer."""
    broker = RedisBroker(shared.fresh())
    broker.send([much(f"task-{number}") for number in range(16)])
    assert len(claimed(broker)) == 16
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy(shared.port))
        url = broker.address.replace(f":{shared.port}/", f":{proxy.port}/")
        far = RedisBroker(url, timeout=2.0)
        stack.callback(far.close)
        far.setup()
        proxy.set(rate=5e6)
        seized = far.seize("w1", by="w2")
    assert [held.body for held in seized] == [encode(much(held.id)) for held in seized]
    assert len({held.id for held in seized}) == 16


def test_missing_replicas_are_named_also_where_the_server_forgot_the_script(
    shared: RedisServer, broker: RedisBroker
) -> None:
    """The wait for them comes before the script is given to it again."""
    careful = RedisBroker(f"{broker.address}&wait_replicas=1", timeout=5)
    shared.ask("SCRIPT", "FLUSH")
    with pytest.raises(BrokerError, match="0 of 1 replicas confirmed"):
        careful.send([message("a")])
    assert broker.get("a") is not None


def test_a_claim_whose_wait_for_replicas_is_ended_is_not_made_twice(
    shared: RedisServer, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is that to WAIT; the script before it has run."""
    broker.send([message("a"), message("b"), message("c")])
    (first,) = broker.claim("w1/0", ["default"], 1).deliveries
    exchange = connection.Connection.exchange

    def unblocked(self: connection.Connection, commands: Any, deadline: float) -> list[Any]:
        replies = exchange(self, commands, deadline)
        if commands[-1][0] == "WAIT":
            replies[-1] = hiredis.ReplyError("UNBLOCKED force unblock from blocking operation")
        return replies

    careful = RedisBroker(f"{broker.address}&wait_replicas=1", timeout=1)
    monkeypatch.setattr(connection.Connection, "exchange", unblocked)
    settled = settlements(first, broker.clock.now())["success"]
    with pytest.raises(BrokerUnavailable) as caught:
        careful.claim("w1/0", ["default"], 1, settlements=[settled])
    assert not caught.value.nothing_stored
    assert len(broker.search(Filter(states=(State.RUNNING,)))) == 1


def test_a_refusal_from_within_a_script_is_read_as_redis_6_writes_it() -> None:
    place = "ERR Error running script (call to f_1d): @user_script:243: @user_script: 243: "
    readonly = hiredis.ReplyError(f"{place}-READONLY You can't write against a read only replica.")
    assert said(readonly).startswith(ELSEWHERE)
    assert said(hiredis.ReplyError("MOVED 1 127.0.0.1:7")) == "MOVED 1 127.0.0.1:7"
    assert said(hiredis.ReplyError(f"{place}no number")).startswith("ERR")


def test_an_exchange_whose_answer_was_lost_returns_what_it_wrote(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.exchange("n", None, b"1")
    exchange = connection.Connection.exchange

    def lost(*args: Any) -> list[Any]:
        monkeypatch.undo()
        exchange(*args)
        raise ConnectionResetError

    monkeypatch.setattr(connection.Connection, "exchange", lost)

    assert broker.exchange("n", b"1", b"2") == b"2"


def test_a_forked_child_uses_no_connection_of_its_parents(broker: RedisBroker) -> None:
    broker.send([message("before")])
    context = multiprocessing.get_context("fork")

    def work() -> None:
        for number in range(50):
            broker.send([message(f"{os.getpid()}-{number}")])
            assert broker.get("before") is not None
            broker.wait(["default"], 1)

    children = [context.Process(target=work) for _ in range(3)]
    for child in children:
        child.start()
    work()
    for child in children:
        child.join(60)

    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(broker.search(Filter(), limit=500)) == 201


def test_a_signal_in_the_midst_of_a_call_spoils_no_other(broker: RedisBroker) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    broker.send([message("a"), message("b")])
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + number % 30 * 0.00001)
                broker.get("a")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                pass
            record = broker.get("b")
            assert record is not None and record.id == "b"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Waiting


def test_no_wake_up_is_lost(broker: RedisBroker) -> None:
    """Were one lost, its wait would last until the next look, a second later."""
    longest = 0.0
    for number in range(200):
        waiting = Background(lambda: broker.wait(["default", "mail"], LONG))
        if number % 2:
            time.sleep(0.002)  # Half of them sleep already, half are about to.
        since = time.monotonic()
        broker.send([message(f"task-{number}", queue="mail")])
        waiting.answer()
        longest = max(longest, time.monotonic() - since)
        assert broker.claim("w1/0", ["mail"], 1).deliveries
    assert longest < 0.9


def test_as_many_wake_up_as_tasks_came(shared: RedisServer, broker: RedisBroker) -> None:
    waiting = [Background(lambda: broker.wait(["default"], 0.8)) for _ in range(8)]
    until(lambda: b"blocked_clients:8" in shared.ask("INFO", "clients"))

    broker.send([message("a"), message("b")])

    until(lambda: b"blocked_clients:6" in shared.ask("INFO", "clients"))
    assert claimed(broker) == ["a", "b"]
    for each in waiting:
        each.answer()


def test_a_wait_survives_the_end_of_its_connection(
    shared: RedisServer, broker: RedisBroker
) -> None:
    waiting = Background(lambda: broker.wait(["default"], LONG))
    until(lambda: b"blocked_clients:1" in shared.ask("INFO", "clients"))
    shared.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    broker.send([message("a")])

    waiting.answer()


# Restarts, memory, silence


def test_a_server_that_is_killed_and_started_again_has_lost_nothing(own: RedisServer) -> None:
    own.start()
    broker = RedisBroker(own.fresh(), timeout=2)
    broker.send([message(f"task-{number}") for number in range(100)])
    held = broker.claim("w1/0", ["default"], 40).deliveries
    now = broker.clock.now()
    broker.settle([settlements(each, now)["success"] for each in held[:20]])
    broker.settle([settlements(each, now)["failure"] for each in held[20:30]])
    broker.save(held[30].id, held[30].token, b"1")
    records = broker.search(Filter(), limit=200)
    counts, attempts = broker.counts(), [broker.attempts(each.id) for each in held]

    own.kill()
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        broker.send([message("lost")])
    own.start()

    assert broker.search(Filter(), limit=200) == records
    assert broker.counts() == counts
    assert [broker.attempts(each.id) for each in held] == attempts
    assert broker.saved(held[30].id) == b"1"
    assert broker.settle([settlements(each, now)["success"] for each in held[30:]]) == []


def test_a_server_without_memory_refuses_new_tasks_alone(own: RedisServer) -> None:
    own.start()
    broker = RedisBroker(own.fresh())
    broker.setup()
    broker.send([message("before"), message("again")])
    own.ask("CONFIG", "SET", "maxmemory", "1mb")

    with pytest.raises(BrokerError, match="no memory left") as refusal:
        broker.send([message("new")])

    assert str(own.port) in str(refusal.value)
    assert broker.get("new") is None
    assert broker.renew(beat("w1")) == []
    first, second = broker.claim("w1/0", ["default"], 10).deliveries
    assert broker.report(first.id, first.token, Progress(done=1))
    now = broker.clock.now()
    assert broker.settle([settlements(first, now)["success"]]) == []
    assert broker.settle([settlements(second, now)["retry"]]) == []
    assert broker.revoke(["again"]) == 1
    assert broker.requeue(["again"]) == 1
    assert broker.reap(by="w2") == []
    (seized,) = _seized(broker)
    assert broker.settle([settlements(seized, now)["failure"]]) == []
    broker.pause("default")
    broker.resume("default")
    assert broker.prune(succeeded_before=now + 60, failed_before=now + 60, limit=10) == 2
    assert broker.counts() == []


@pytest.mark.parametrize("kind", ["frozen", "silent"])
def test_a_server_that_does_not_answer_is_given_up_in_time(own: RedisServer, kind: str) -> None:
    own.start()
    broker = RedisBroker(own.fresh(), timeout=0.5)
    if kind == "frozen":
        broker.send([message("a")])
    own.freeze()

    for call in (
        lambda: broker.send([message("b")]),
        lambda: broker.claim("w1/0", ["default"], 1),
        lambda: broker.wait(["default"], 60),
        lambda: broker.get("a"),
        broker.setup,
    ):
        since = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="did not answer within 0.5 s"):
            call()
        assert time.monotonic() - since < 10

    own.thaw()
    until(lambda: _done(lambda: broker.send([message("c")])), within=5)


def test_an_address_that_swallows_all_leaves_time_for_the_hosts_other_one(
    shared: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as sockets:
        hole = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        # Once nobody takes those that wait, no other gets an answer.
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(hole.getsockname())
        both = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", where)
            for where in (hole.getsockname(), ("127.0.0.1", shared.port))
        ]
        monkeypatch.setattr(connection, "resolve", lambda *_: both)
        broker = RedisBroker(shared.fresh(), timeout=2.0)

        broker.send([message("a")])

        assert claimed(broker) == ["a"]


# Set-up


def test_a_slow_answer_to_each_question_makes_no_set_up_outlast_its_time_limit(
    shared: RedisServer,
) -> None:
    with Proxy(shared.port) as proxy:
        broker = RedisBroker(shared.fresh().replace(str(shared.port), str(proxy.port)), timeout=1.0)
        proxy.set(latency=0.2)  # each way
        for ask in (broker.setup, broker.conditions):
            began = time.monotonic()
            with contextlib.suppress(BrokerUnavailable):
                ask()
            assert time.monotonic() - began < 2


def test_a_server_is_asked_for_all_about_itself_at_once(shared: RedisServer) -> None:
    with Proxy(shared.port) as proxy:
        broker = RedisBroker(shared.fresh().replace(str(shared.port), str(proxy.port)))
        broker.setup()
        proxy.set(latency=0.5)
        began = time.monotonic()

        broker.conditions()

        assert time.monotonic() - began < 2  # One question and its answer take 1.


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_would_delete_tasks_is_refused(own: RedisServer, policy: str) -> None:
    own.options["maxmemory-policy"] = policy
    own.start()
    broker = RedisBroker(own.fresh())

    with pytest.raises(ConfigurationError, match=f"{policy}.*CONFIG SET maxmemory-policy noevic"):
        broker.setup()


def test_a_user_who_may_not_ask_for_settings_can_work(own: RedisServer) -> None:
    own.start()
    rights = "on >secret ~* &* +@all -@admin -@dangerous +info +role"
    own.ask("ACL", "SETUSER", "worker", *rights.split())
    broker = RedisBroker(f"redis://worker:secret@127.0.0.1:{own.port}?prefix=few-rights")

    broker.setup()
    broker.send([message("a")])

    assert claimed(broker) == ["a"]
    assert broker.counts()[0].running == 1
    assert not broker.capabilities.durable
    assert {each.subject for each in broker.conditions()} >= {"persistence", "replication"}


@pytest.mark.parametrize(
    ("appendonly", "appendfsync", "level", "durable"),
    [
        ("yes", "always", "ok", True),
        ("yes", "everysec", "info", False),
        ("yes", "no", "warn", False),
        ("no", "always", "warn", False),
    ],
)
def test_what_a_power_loss_would_cost_is_told(
    own: RedisServer, appendonly: str, appendfsync: str, level: str, durable: bool
) -> None:
    own.options.update(appendonly=appendonly, appendfsync=appendfsync)
    own.start()
    broker = RedisBroker(own.fresh())
    broker.setup()

    told = {each.subject: each for each in broker.conditions()}

    assert told["persistence"].level == level
    assert bool(told["persistence"].remedy) is (level == "warn")
    assert broker.capabilities.durable is durable


# TLS, and the password


def test_over_tls_the_certificate_is_checked(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = own.directory / "server.crt", own.directory / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-days", "2", "-keyout", str(key), "-out",
         str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = free_port()
    own.options |= {
        "tls-port": str(tls), "tls-cert-file": str(certificate), "tls-key-file": str(key),
        "tls-auth-clients": "no",
    }  # fmt: skip
    own.start()
    with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
        RedisBroker(f"rediss://localhost:{tls}").send([message("a")])

    connection._tls.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    try:
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            RedisBroker(f"rediss://127.0.0.1:{tls}").send([message("a")])
        broker = RedisBroker(f"rediss://localhost:{tls}")
        broker.send([message("a")])
        waiting = Background(lambda: broker.wait(["mail"], LONG))
        until(lambda: b"blocked_clients:1" in own.ask("INFO", "clients"))
        broker.send([message("b", queue="mail")])
        waiting.answer()
        assert claimed(broker) == ["a"]
    finally:
        connection._tls.cache_clear()


def test_the_password_is_never_shown(own: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    own.options["requirepass"] = PASSWORD
    url = f"redis://:{ESCAPED}@127.0.0.1:{own.port}/0?prefix=secret"
    broker = RedisBroker(url, timeout=1)
    shown = [broker.url, repr(broker), str(broker.presence_dir)]
    with pytest.raises(BrokerUnavailable) as away:
        broker.send([message("a")])
    own.start()
    broker.send([message("a")])
    with pytest.raises(BrokerRefused, match="refuses this user") as refused:
        RedisBroker(url.replace("battery", "cell")).send([message("b")])
    with pytest.raises(BrokerRefused, match="refuses this user") as unknown:
        RedisBroker(f"redis://127.0.0.1:{own.port}").send([message("b")])
    assert unknown.value.nothing_stored

    shown += [str(away.value), str(refused.value), caplog.text]
    assert not any(secret in text for text in shown for secret in (PASSWORD, ESCAPED, "horse"))
    assert broker.url == f"redis://:***@127.0.0.1:{own.port}/0?prefix=secret"
    assert broker.address == url


# Time


def test_the_time_is_the_servers(broker: RedisBroker, shared: RedisServer) -> None:
    assert isinstance(broker.clock, ServerClock)
    broker.send([msgspec.structs.replace(message("a"), eta=broker.clock.now() + 0.05)])
    assert claimed(broker) == []
    until(lambda: claimed(broker) == ["a"], within=5)
    record = broker.get("a")
    assert record is not None and record.claimed is not None
    seconds, _ = shared.ask("TIME")
    assert abs(record.claimed - int(seconds)) < 5


@pytest.mark.parametrize("lease", [2.0, 10.0, 60.0])
def test_a_server_whose_clock_was_set_buries_nobody_for_his_lease(
    shared: RedisServer, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, lease: float
) -> None:
    broker.renew(beat("w1", lease=lease))
    broker.send([message("a")])
    assert claimed(broker) == ["a"]
    # The lease as it looks when the server's clock was set forward by an hour.
    shared.ask("ZADD", f"{broker._client.base}lease", broker.clock.now() - 3590, "w1")
    monkeypatch.setattr(ServerClock, "since_jump", lease - 1)
    assert broker.reap(by="w2") == []

    monkeypatch.setattr(ServerClock, "since_jump", lease + 1)
    assert [held.id for held in broker.reap(by="w2")] == ["a"]


def test_nobody_is_declared_dead_while_the_jump_of_the_clock_is_not_noticed(
    shared: RedisServer, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.renew(beat("w1"))
    broker.send([message("a")])
    assert claimed(broker) == ["a"]
    key, now = f"{broker._client.base}lease", broker.clock.now()
    # As if the server had told an earlier time until now: it was set forward by an hour.
    shared.ask("ZADD", key, str(now - 3590), "w1")
    with monkeypatch.context() as patch:
        patch.setattr(ServerClock, "expected", now - 3600)
        assert broker.reap(by="w2") == []

    assert [held.id for held in broker.reap(by="w2")] == ["a"]


def test_a_server_whose_clock_was_set_back_prolongs_no_lease(
    shared: RedisServer, broker: RedisBroker
) -> None:
    broker.renew(beat("w1", lease=20))
    key = f"{broker._client.base}lease"
    shared.ask("ZADD", key, str(broker.clock.now() + 3600), "w1")

    broker.reap(by="w2")

    left = float(shared.ask("ZSCORE", key, "w1")) - broker.clock.now()
    assert 0 < left <= 20


# Bytes and numbers


def test_results_bodies_and_numbers_come_back_as_they_went(shared: RedisServer) -> None:
    clock = ManualClock(now=1_764_000_000.123457)
    broker = RedisBroker(shared.fresh(), clock=clock)
    results = [b"null", b"", b'"\xc3\xa9"', b"\xff\x00\r\n", b"x" * 255, b"y" * 100_000]
    broker.send([message(str(number)) for number in range(len(results))])
    for held, result in zip(
        broker.claim("w1/0", ["default"], 100).deliveries, results, strict=True
    ):
        clock.advance(0.000001)
        ended = Settlement.succeed(held, at=clock.now(), started=clock.now() - 1, result=result)
        broker.settle([ended])
        record = broker.get(held.id)
        assert record is not None
        assert (record.result, record.finished, record.due) == (
            result, clock.now(), 1_764_000_000.123457,
        )  # fmt: skip
        assert broker.attempts(held.id)[0].ended == clock.now()


def test_names_of_any_characters_are_kept_apart(broker: RedisBroker) -> None:
    names = ["a:b", "a", "b:a", "ü {x} \n", "*"]
    broker.send([message(f"id of {name}", queue=name) for name in names])

    assert {each.queue: each.queued for each in broker.counts()} == dict.fromkeys(names, 1)
    for name in names:
        (held,) = broker.claim(f"w {name}/0", [name], 10).deliveries
        assert (held.queue, held.consumer) == (name, f"w {name}/0")


def test_many_tasks_are_searched_and_purged_in_short_steps(
    shared: RedisServer, broker: RedisBroker
) -> None:
    shared.ask("CONFIG", "SET", "slowlog-log-slower-than", 200_000)
    shared.ask("SLOWLOG", "RESET")
    for start in range(0, 20_000, 2000):
        broker.send([message(str(start + number)) for number in range(2000)])

    assert broker.search(Filter(id_part="19999"))[0].id == "19999"
    assert broker.search(Filter(id_part="nowhere")) == []
    assert broker.search(Filter(task="shop.resize"), before=5)[-1].id == "0"
    assert broker.purge("default") == 20_000
    assert broker.search(Filter()) == []
    assert broker.counts() == []
    assert shared.ask("SLOWLOG", "LEN") == 0


def test_a_search_in_large_messages_is_many_short_steps(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        broker.send([much(str(number))])
    run, steps = broker._client.run, []

    def counted(script: Script, *args: Any, **options: Any) -> Any:
        steps.append(script)
        return run(script, *args, **options)

    monkeypatch.setattr(broker._client, "run", counted)

    assert broker.search(Filter(text="nowhere")) == []
    assert len(steps) >= 4
    found = broker.search(Filter(text="xxx"))
    assert [record.id for record in found] == [str(number) for number in reversed(range(40))]


def test_a_search_that_finds_large_results_is_many_short_steps(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        broker.send([message(str(number))])
        (held,) = broker.claim("w1/0", ["default"], 1).deliveries
        broker.settle([Settlement.succeed(held, at=2.0, started=1.0, result=b"1" * 2**20)])
    run, steps = broker._client.run, []

    def counted(script: Script, *args: Any, **options: Any) -> Any:
        steps.append(script)
        return run(script, *args, **options)

    monkeypatch.setattr(broker._client, "run", counted)

    found = broker.search(Filter(states=(State.SUCCESS,)))
    assert [record.id for record in found] == [str(number) for number in reversed(range(40))]
    assert len(steps) >= 4


def test_nothing_is_left_of_what_was_deleted(shared: RedisServer) -> None:
    clock = ManualClock()
    broker = RedisBroker(shared.fresh(), clock=clock)
    for number, kind in enumerate(["success", "failure", "failure by hand", "retry"]):
        broker.send([message(f"task-{number}", priority=number)])
        (held,) = broker.claim("w1/0", ["default"], 1).deliveries
        broker.save(held.id, held.token, b"1")
        broker.report(held.id, held.token, Progress(done=1))
        broker.settle([settlements(held, clock.now())[kind]])
    broker.purge("default")
    broker.prune(succeeded_before=clock.now() + 1, failed_before=clock.now() + 1, limit=10)
    broker.leave("w1")
    broker.reap(by="w1")

    base = broker._client.base
    left = {key.decode().removeprefix(base) for key in shared.ask("KEYS", f"{base}*")}
    assert {key for key in left if not key.startswith("wake:")} <= {"tag", "gone", "lanes:default"}


def broker_ids(broker: RedisBroker, state: State) -> set[str]:
    try:
        return {each.id for each in broker.search(Filter(states=(state,)), limit=1000)}
    except BrokerError:
        return set()


def _done(call: Callable[[], object]) -> bool:
    try:
        call()
    except BrokerError:
        return False
    return True


def _work(broker: RedisBroker) -> None:
    """Claim and settle as a worker does: what it does not know of it gives back."""
    try:
        held = broker.claim("w1/0", ["default"], 10).deliveries
    except BrokerError:
        until(lambda: _done(lambda: _give_back(broker)))
        return
    now = broker.clock.now()
    done = [Settlement.succeed(each, at=now, started=now, result=b"1") for each in held]
    until(lambda: _done(lambda: broker.settle(done)))


def _give_back(broker: RedisBroker) -> None:
    now = broker.clock.now()
    unknown = broker.seize("w1/0", by="w1/0")
    broker.settle([Settlement.unstarted(held, at=now) for held in unknown])


def _seized(broker: RedisBroker) -> list[Delivery]:
    broker.claim("w1/0", ["default"], 10)
    return broker.seize("w1/0", by="w2")


def test_a_claim_that_arrives_after_its_process_was_buried_takes_nothing(
    broker: RedisBroker,
) -> None:
    """It was on its way when the process was killed; its tasks would be held for ever."""
    supervisor, successor = RedisBroker(broker.address), RedisBroker(broker.address)
    broker.send([message("a"), message("b")])
    assert claimed(broker, 1) == ["a"]
    assert [held.id for held in supervisor.seize("w1/0", by="w1/s")] == ["a"]

    assert claimed(broker) == []

    assert claimed(successor) == ["b"]
    assert claimed(broker, 0) == []
    assert len(supervisor.seize("w1", by="w2/s")) == 2
    broker.send([message("c")])
    assert claimed(successor) == []
    assert [held.id for held in supervisor.claim("w2/0", ["default"], 9).deliveries] == ["c"]
