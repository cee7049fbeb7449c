"""What is broken under PostgreSQL's users, and what becomes of their tasks."""

from __future__ import annotations

import os
import pwd
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import psycopg
import pytest
from msgspec import Raw

from acked.broker import DEFAULT_LEASE, Engine, Filter
from acked.brokers.postgres import PostgresBroker
from acked.brokers.postgres.address import signed
from acked.brokers.postgres.connection import Call
from acked.brokers.postgres.looking import note
from acked.brokers.postgres.queue import CAP, SEIZE, TAKE
from acked.brokers.postgres.values import int4, text, texts
from acked.brokers.postgres.waiting import NET
from acked.clock import ServerClock
from acked.delivery import Settlement
from acked.errors import BrokerError, BrokerUnavailable, ConfigurationError
from acked.message import Message, new_id
from acked.testing.timeline import Background, beat, message, much
from tests.harness.places import Servers
from tests.harness.workers import until
from tests.servers.clock import HostClock
from tests.servers.postgres import UNPRIVILEGED, PostgresServer
from tests.servers.proxy import Proxy

LONG = os.environ.get("ACKED_LONG") == "1"
PATIENCE = 30.0

TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'acked' AND {condition}
"""


@pytest.fixture
def live(servers: Servers) -> PostgresServer:
    """A server that answers, whatever the test before did to it."""
    server = servers.get("postgres")
    assert isinstance(server, PostgresServer)
    return server


@pytest.fixture
def url(live: PostgresServer) -> str:
    return live.fresh()


@pytest.fixture
def broker(url: str) -> Iterator[PostgresBroker]:
    broker = PostgresBroker(url, timeout=2.0)
    broker.setup()
    yield broker
    broker.close()


def terminate(server: PostgresServer, condition: str = "true") -> int:
    """End sessions of acked's as an operator would; how many there were."""
    with server.operator() as operator:
        row = operator.execute(TERMINATE.replace("{condition}", condition).encode()).fetchone()
    assert row is not None
    return int(row[0])


class Producer(threading.Thread):
    """Sends tasks one by one until it is told to stop; remembers which calls returned."""

    def __init__(self, broker: Engine) -> None:
        super().__init__(daemon=True)
        self._broker = broker
        self.stopping = False
        self.sent: list[str] = []
        self.failed: list[str] = []
        self.start()

    def run(self) -> None:
        while not self.stopping:
            task_id = new_id()
            try:
                self._broker.send([Message(id=task_id, task="t")])
            except BrokerError:
                self.failed.append(task_id)
                time.sleep(0.01)
            else:
                self.sent.append(task_id)

    def until_more(self, count: int) -> None:
        """Wait for *count* further calls that return."""
        before = len(self.sent)
        until(lambda: len(self.sent) >= before + count, f"{count} more sends")

    def stop(self) -> None:
        self.stopping = True
        self.join(PATIENCE)


def drain(broker: Engine) -> list[str]:
    """Claim and settle everything; the ids, in order."""
    ids: list[str] = []
    held: list[Settlement] = []
    while True:
        claim = broker.claim("w/0", ["default"], 200, settlements=held)
        assert claim.refused == []
        now = broker.clock.now()
        held = [Settlement.succeed(d, at=now, started=now, result=b"1") for d in claim.deliveries]
        ids += [delivery.id for delivery in claim.deliveries]
        if not held:
            return ids


@pytest.mark.chaos
def test_nothing_that_was_acknowledged_is_lost_when_the_server_is_killed(
    live: PostgresServer, broker: PostgresBroker
) -> None:
    producers = [Producer(broker) for _ in range(3)]
    for _ in range(20 if LONG else 1):
        producers[0].until_more(50)
        live.kill()
        live.start()
    producers[0].until_more(1)
    for producer in producers:
        producer.stop()

    ran = drain(broker)

    assert len(ran) == len(set(ran))
    for producer in producers:
        assert set(producer.sent) <= set(ran)
    assert set(ran) <= {each for p in producers for each in (*p.sent, *p.failed)}


def test_ending_every_session_again_and_again_loses_and_doubles_nothing(
    live: PostgresServer, broker: PostgresBroker
) -> None:
    producer = Producer(broker)
    for _ in range(20):
        terminate(live)
        producer.until_more(1)
    producer.stop()

    ran = drain(broker)

    assert len(ran) == len(set(ran))
    assert set(producer.sent) <= set(ran)


def test_a_server_that_is_gone_is_told_at_once_and_works_again_as_soon_as_it_answers(
    live: PostgresServer, broker: PostgresBroker
) -> None:
    broker.send([message("a")])
    live.kill()

    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        broker.send([message("b")])
    with pytest.raises(BrokerUnavailable):
        broker.wait(["default"], 10)

    live.start()
    broker.send([message("c")])
    assert {record.id for record in broker.search(Filter())} == {"a", "c"}


def test_a_server_that_stands_still_is_given_up_within_the_time_limit(
    live: PostgresServer, broker: PostgresBroker
) -> None:
    broker.send([message("a")])
    live.freeze()
    try:
        for call in (
            lambda: broker.send([message("b")]),
            lambda: broker.claim("w/0", ["default"], 1),
            lambda: broker.get("a"),
            lambda: broker.wait(["default"], 60),
        ):
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable, match="no answer within 2 s"):
                call()
            assert time.monotonic() - started < 4
    finally:
        live.thaw()
    until(lambda: broker.get("a") is not None, "an answer")


def test_a_network_that_swallows_everything_is_given_up_within_the_time_limit(
    live: PostgresServer, url: str
) -> None:
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(live.port))
        broker = PostgresBroker(url.replace(f":{live.port}/", f":{proxy.port}/"), timeout=1.0)
        stack.callback(broker.close)
        broker.send([message("a")])
        proxy.set(black_hole=True)
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            broker.get("a")
        assert time.monotonic() - started < 3
        proxy.heal()
        assert broker.get("a") is not None


def test_a_waiter_whose_connection_is_cut_comes_back_and_hears_again(
    live: PostgresServer, broker: PostgresBroker
) -> None:
    for number in range(5):
        waiting = Background(lambda: broker.wait(["default"], 600))
        until(lambda: terminate(live, "query LIKE '%next_work%'") > 0, "a session that waits")
        waiting.answer()
        again = Background(lambda: broker.wait(["default"], 600))
        broker.send([message(f"task-{number}")])
        again.answer()
        assert drain(broker) == [f"task-{number}"]


def test_a_task_whose_wake_up_is_lost_is_found_all_the_same(
    broker: PostgresBroker, url: str
) -> None:
    waiting = Background(lambda: broker.wait(["default"], 600))
    with psycopg.connect(url) as other:
        until(
            lambda: (
                other.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'").fetchone()
                is not None
            ),
            "a waiter",
        )
        other.execute(
            "SELECT acked.send(ARRAY['a'::bytea], ARRAY['t'::bytea], ARRAY['default'::bytea],"
            " '{0}', '{NULL}', '{0}', ARRAY['{}'::bytea], NULL)"
        )
    started = time.monotonic()
    waiting.answer()
    assert time.monotonic() - started < NET + 5


def test_no_wake_up_is_lost_on_the_way_to_sleep(
    broker: PostgresBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acked.brokers.postgres.waiting.NET", 600.0)
    for number in range(300):
        waiting = Background(lambda: broker.wait(["default"], 600))
        broker.send([message(f"task-{number}")])
        waiting.answer()
        assert len(broker.claim("w/0", ["default"], 5).deliveries) == 1


def test_nobody_is_notified_where_nobody_waits(broker: PostgresBroker, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(f'LISTEN "{_channel(broker)}"'.encode())
        broker.send([message("a")])
        other.execute("SELECT 1")
        assert list(other.notifies(timeout=0)) == []


def _channel(broker: PostgresBroker) -> str:
    (statement,) = broker._waiting._listen([signed("default")])
    return statement.sql.split('"')[1]


def test_a_forked_child_leaves_its_parents_connections_alone(broker: PostgresBroker) -> None:
    broker.send([message("a")])
    broker.wait(["default"], 0)
    sessions = set(broker._database._sessions)
    child = os.fork()
    if child == 0:
        try:
            broker.send([message("b")])
            broker.wait(["default"], 0)
            broker.close()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    broker.send([message("c")])

    assert [delivery.id for delivery in broker.claim("w/0", ["default"], 9).deliveries] == [
        "a", "b", "c",
    ]  # fmt: skip
    assert set(broker._database._sessions) == sessions


def test_a_password_is_never_shown(live: PostgresServer) -> None:
    login = f"postgresql://shop:hunter2@127.0.0.1:{live.port}"
    for url in (
        f"{login}/nowhere",
        f"{login}/nowhere?sslpassword=hunter2",
        f"{login}/x?nonsense=1",
    ):
        with pytest.raises(Exception, match=r"\*\*\*|nonsense") as caught:
            PostgresBroker(url, timeout=1.0).setup()
        assert "hunter2" not in str(caught.value)
    broker = PostgresBroker(f"{login}/shop?password=hunter2")
    assert "hunter2" not in f"{broker!r}{broker.url}{broker.presence_dir}"
    assert broker.address.count("hunter2") == 2


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hun/ter2@host/db",
        "postgresql://user:hun/ter2@host:5432/db?sslmode=require",
        "postgresql://us@er:hun/ter2@host/db",
        "postgresql://user:hun#ter2@host/db",
        "postgresql://user:hun?ter2@host/db",
        "postgresql://user:hun?schema=ter2@host/db",
        "postgresql://user@host/db?password=hun@ter2",
        "postgresql://user@host/db?password=hun#ter2",
    ],
)
def test_a_url_whose_password_ends_too_early_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="%2F %23 %3F %40") as refusal:
        PostgresBroker(url)
    assert "hun" not in str(refusal.value)
    assert "ter2" not in str(refusal.value)


def test_a_password_of_any_characters_is_written_with_percent_signs() -> None:
    broker = PostgresBroker("postgresql://user:a%2Fb%23c%3Fd%40e@127.0.0.1/db")
    assert " password=a/b#c?d@e " in broker._address.conninfo
    assert broker.url == "postgresql://user:***@127.0.0.1/db"


def test_a_lock_that_somebody_keeps_is_waited_for_within_the_time_limit(
    broker: PostgresBroker, url: str
) -> None:
    with psycopg.connect(url) as other:
        other.execute("LOCK acked.task")
        with pytest.raises(BrokerUnavailable, match="within 2 s"):
            broker.send([message("a")])
    broker.send([message("a")])


def test_a_statement_that_cannot_be_prepared_spoils_no_other(
    broker: PostgresBroker, url: str
) -> None:
    with psycopg.connect(url, autocommit=True) as operator:
        rename = "ALTER FUNCTION acked.{}(integer, integer[]) RENAME TO {}"
        operator.execute(rename.format("wake", "away").encode())
        with pytest.raises(ConfigurationError, match="lacks something"):
            broker.send([message("a")])
        operator.execute(rename.format("away", "wake").encode())

    broker.send([message("a")])


def test_a_beat_that_was_cancelled_behind_a_lock_is_followed_by_others(
    broker: PostgresBroker, url: str
) -> None:
    with psycopg.connect(url) as locking, psycopg.connect(url, autocommit=True) as operator:
        locking.execute("LOCK acked.running")
        beating = Background(lambda: broker.renew(beat("w1")))
        cancel = (
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND application_name = 'acked'"
            " AND datname = current_database()"
        )
        until(lambda: operator.execute(cancel).fetchone() is not None, "a beat that waits")
        with pytest.raises(BrokerUnavailable, match="could not do it"):
            beating.answer()

    broker.renew(beat("w1"))


def test_settings_that_lose_tasks_are_warned_of(broker: PostgresBroker, url: str) -> None:
    told = {each.subject: each for each in broker.conditions()}
    assert {name: each.level for name, each in told.items()} == {
        "version": "ok",
        "durability": "ok",
    }
    assert told["durability"].is_promise
    with psycopg.connect(url, autocommit=True) as operator:
        name = operator.info.dbname
        operator.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    anew = PostgresBroker(url)
    warned = [each for each in anew.conditions() if each.level == "warn"]
    anew.close()
    assert [each.subject for each in warned] == ["synchronous_commit"]
    assert warned[0].remedy


def test_a_remote_host_is_spoken_to_with_a_checked_certificate_unless_told_otherwise() -> None:
    safe = PostgresBroker("postgresql://db.example.com/shop")
    assert "sslmode=verify-full" in safe._address.conninfo
    plain = PostgresBroker("postgresql://db.example.com/shop?sslmode=disable")
    assert plain._address.remote
    assert not plain._address.encrypted
    here = PostgresBroker("postgresql:///shop?host=/run/postgresql")
    assert not here._address.remote


def test_names_may_hold_a_nul(broker: PostgresBroker) -> None:
    broker.send([message("a\0b", queue="q\0")])
    (held,) = broker.claim("w/0", ["q\0"], 1).deliveries
    assert held.id == "a\0b"
    broker.settle([Settlement.revoke(held, at=1.0, started=0.5, reason="x\0\ud800")])
    record = broker.get("a\0b")
    assert record is not None
    assert record.reason == "x\0?"


def test_nobody_is_declared_dead_by_a_clock_that_was_set(broker: PostgresBroker, url: str) -> None:
    broker.send([message("a")])
    broker.claim("w1/0", ["default"], 1)
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute("UPDATE acked.worker SET lease_until = 1")
    # What an answer from before would have said.
    broker._server_clock.sync(time.time() + 3600, ServerClock.here())
    broker.renew(beat("w2"))

    assert broker.reap(by="w2") == []
    broker._server_clock._jumped_at -= 60
    assert [held.id for held in broker.reap(by="w2")] == ["a"]


def test_everybody_has_the_time_of_a_lease_to_beat_once_the_clock_was_set(
    broker: PostgresBroker, url: str
) -> None:
    for worker, lease in (("w1", 2.0), ("w2", 60.0)):
        broker.renew(beat(worker, lease=lease))
        broker.send([message(f"of {worker}")])
        broker.claim(f"{worker}/0", ["default"], 1)
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute("UPDATE acked.worker SET lease_until = lease_until - 3600")
    # What an answer from before would have said.
    broker._server_clock.sync(time.time() - 3600, ServerClock.here())
    broker.renew(beat("w3"))

    def reaped_after(seconds: float) -> list[str]:
        broker._server_clock._jumped_at = time.clock_gettime(time.CLOCK_BOOTTIME) - seconds
        return [held.id for held in broker.reap(by="w3")]

    assert reaped_after(1.5) == []
    assert reaped_after(2.5) == ["of w1"]
    assert reaped_after(59) == []
    assert reaped_after(61) == ["of w2"]


def test_a_worker_that_vanished_as_the_clock_was_set_back_is_missed_after_its_lease() -> None:
    clocks: list[HostClock] = []
    with ExitStack() as stack:
        servers = Servers(lambda server: clocks.append(HostClock(server)))
        stack.callback(servers.stop)
        broker = PostgresBroker(servers.get("postgres").fresh())
        stack.callback(broker.close)
        broker.setup()
        broker.renew(beat("w1", lease=2))
        broker.send([message("a")])
        broker.claim("w1/0", ["default"], 1)
        clocks[0].jump_to(-3600)
        jumped = time.monotonic()

        def seized() -> bool:
            broker.renew(beat("w2"))
            return [held.id for held in broker.reap(by="w2")] == ["a"]

        until(seized, "what w1 held")
        # Not after that of who beats, nor after that of who never did.
        assert 1.9 < time.monotonic() - jumped < DEFAULT_LEASE


def test_nobody_is_declared_dead_while_the_jump_of_the_clock_is_not_noticed(
    broker: PostgresBroker,
) -> None:
    broker.send([message("a")])
    broker.renew(beat("w1"))
    broker.claim("w1/0", ["default"], 1)
    # As if the server had told an earlier time until now: it was set forward by an hour.
    clock = broker._server_clock
    assert clock._least is not None
    with psycopg.connect(broker.address, autocommit=True) as operator:
        operator.execute("UPDATE acked.worker SET lease_until = lease_until - 3600")
    clock._least, clock._most = clock._least - 3600, clock._most - 3600

    assert broker.reap(by="w2") == []


@pytest.mark.parametrize("lease", [2.0, 60.0])
def test_a_server_whose_clock_was_set_back_prolongs_no_lease(
    broker: PostgresBroker, lease: float
) -> None:
    gone = msgspec.structs.replace(beat("w1", lease=lease), queues=('"lease":9000,\0', "ü"))
    broker.renew(gone)
    broker.renew(beat("w2", lease=3600))
    broker.send([message("a")])
    broker.claim("w3/0", ["default"], 1)
    with psycopg.connect(broker.address, autocommit=True) as operator:
        operator.execute("UPDATE acked.worker SET lease_until = lease_until + 3600")

    broker.reap(by="w2")

    left = {each.worker: each.lease_left for each in broker.workers()}
    assert 0 < left["w1"] <= lease
    assert 3590 < left["w2"] <= 3600
    with psycopg.connect(broker.address) as operator:
        asked = "SELECT lease_until - extract(epoch FROM clock_timestamp()) FROM acked.worker"
        row = operator.execute(asked + " WHERE worker = 'w3'").fetchone()
    # It claimed before its first beat.
    assert row is not None
    assert 0 < row[0] <= DEFAULT_LEASE


def test_a_beat_does_not_wait_for_who_reaps(broker: PostgresBroker) -> None:
    broker.renew(beat("w1"))
    sql = CAP.sql.replace("{schema}", "acked")
    with psycopg.connect(broker.address) as reaping:
        reaping.execute(f"PREPARE cap AS {sql}; EXECUTE cap (NULL, 10, 1)".encode())
        broker.renew(beat("w1"))


def test_claims_stay_short_while_an_old_snapshot_keeps_what_was_claimed(
    broker: PostgresBroker, url: str
) -> None:
    with psycopg.connect(url) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM acked.task")
        for _ in range(6):
            broker.send([Message(id=new_id(), task="t") for _ in range(2000)])
        drain(broker)
        broker._looks.begin_anew(["default"])
        first, *others = (_walked(broker) for _ in range(6))
        broker.send([message("high", priority=7), message("low", priority=-7), message("plain")])
        claimed = [broker.claim("w/0", ["default"], 1).deliveries[0].id for _ in range(3)]
    assert first >= 12_000
    # One that comes late begins at the beginning again.
    assert min(others) < 100
    assert claimed == ["high", "plain", "low"]


def _walked(broker: PostgresBroker) -> int:
    """How many entries of the index a claim of nothing walks over."""
    parameters = [
        text("w/0"), text("w"), texts(["default"]), int4(1),
        *broker._looks.parameters(["default"]), *broker._claiming(),
    ]  # fmt: skip
    ((row,),) = broker._database.run(Call(TAKE, parameters))
    note(broker._looks, [row])
    return int(row[3])


@pytest.fixture
def small(live: PostgresServer) -> Iterator[tuple[str, Callable[[], None]]]:
    """A URL of a database on a volume of 24 MiB, and what makes the volume twice as large."""
    volume, name = live.directory / "small", live.fresh().rpartition("/")[2]
    volume.mkdir()
    user = pwd.getpwnam(UNPRIVILEGED).pw_uid
    options = f"size=24m,mode=700,uid={user}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(volume)], check=True)
    try:
        with live.operator() as operator:
            operator.execute(f"CREATE TABLESPACE small LOCATION '{volume}'".encode())
            operator.execute(f"ALTER DATABASE {name} SET TABLESPACE small".encode())
        grow = ["mount", "-o", "remount,size=48m", str(volume)]
        yield live.address(name), lambda: subprocess.run(grow, check=True) and None
        with live.operator() as operator:
            operator.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            operator.execute(b"DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "-l", str(volume)], check=True)
        volume.rmdir()


@pytest.mark.chaos
@pytest.mark.skipif(os.geteuid() != 0, reason="a volume of its own is root's to mount")
def test_a_full_disk_refuses_each_send_in_time_and_stores_nothing_by_half(
    small: tuple[str, Callable[[], None]],
) -> None:
    url, grow = small
    broker = PostgresBroker(url)
    # More than is compressed away.
    body = Raw(b'["%s"]' % os.urandom(50_000).hex().encode())
    stored: list[str] = []
    refusal = ""
    while not refusal:
        try:
            broker.send([Message(id=(new := new_id()), task="t", args=body)])
        except BrokerError as error:
            refusal = str(error)
        else:
            stored.append(new)
    waits = []
    for _ in range(100 if LONG else 10):
        refused, began = new_id(), time.monotonic()
        with pytest.raises(BrokerError, match="no room left"):
            broker.send([Message(id=refused, task="t", args=body)])
        waits.append(time.monotonic() - began)
        assert broker.get(refused) is None
    print(f"\n{len(waits)} sends to a full PostgreSQL, longest {max(waits):.2f} s")
    assert max(waits) <= 5.0

    grow()
    broker.send([Message(id="after", task="t", args=body)])
    held = broker.claim("w/0", ["default"], 1_000).deliveries
    assert [each.id for each in held] == [*stored, "after"]
    broker.close()


def test_over_a_slow_line_a_dead_worker_is_buried_in_portions(
    live: PostgresServer, url: str, broker: PostgresBroker
) -> None:
    """What it held is more than the line carries in the time there is for one answer."""
    broker.send([much(f"task-{number}") for number in range(16)])
    broker.claim("w1/0", ["default"], 16)
    broker.leave("w1")
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(live.port))
        far = PostgresBroker(url.replace(f":{live.port}/", f":{proxy.port}/"), timeout=2.0)
        stack.callback(far.close)
        far.setup()
        proxy.set(rate=5e6)
        assert len({held.id for held in far.reap(by="w2")}) == 16


def test_a_portion_is_as_much_work_however_many_were_seized_before(
    broker: PostgresBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where *by* is the holder, too, what it seized is not looked through again and again."""
    broker.send([message(f"task-{number}") for number in range(3_500)])
    (known, *unknown) = broker.claim("w1/0", ["default"], 3_500).deliveries
    sizes: list[int] = []
    run = broker._database.run

    def noted(*calls: Call, **options: Any) -> Any:
        sizes.extend(
            sum(len(each or b"") for each in call.parameters)
            for call in calls
            if call.statement is SEIZE
        )
        return run(*calls, **options)

    monkeypatch.setattr(broker._database, "run", noted)
    seized = broker.seize("w1/0", by="w1/0", keep={known.token})
    assert [held.id for held in seized] == [held.id for held in unknown]
    assert len(sizes) == 5
    assert len(set(sizes)) == 1
