"""RabbitMQ: what its messages come to when something fails between it and the ledger."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from acked.brokers.rabbitmq import RabbitMQBroker
from acked.brokers.rabbitmq.link import Link
from acked.brokers.rabbitmq.outgoing import Outgoing
from acked.brokers.rabbitmq.publishing import REFUSED_FOR
from acked.brokers.rabbitmq.recovering import AT_ONCE, OVERDUE
from acked.brokers.rabbitmq.topology import BANDS, DEAD, line, lines
from acked.brokers.sqlite import SQLiteBroker
from acked.clock import ManualClock
from acked.delivery import Delivery, Settlement, State
from acked.errors import BrokerError, BrokerRefused, BrokerUnavailable
from acked.message import encode
from acked.testing.timeline import message, settlements
from tests.harness.places import Place, readdress
from tests.harness.rabbitmq import (
    PATIENCE,
    Opener,
    can_send,
    claim,
    nothing_comes,
    publish,
    reap,
)
from tests.harness.workers import until
from tests.servers.rabbitmq import RabbitServer

LONG = os.environ.get("ACKED_LONG") == "1"
TIMEOUT = 2.0


@contextlib.contextmanager
def at_hand(broker: RabbitMQBroker, count: int) -> Iterator[None]:
    """*count* messages have arrived, and none goes back, as somebody waits."""
    with broker._sessions.use() as session:
        shelves = session.consumer.shelves
        shelves.come(["default"], waiting=1)
        try:
            session.ask(session.consumer.open(["default"], count))
            shelf = shelves._shelves["default"]
            until(lambda: len(shelf.tickets) == count, f"{count} messages")
            yield
        finally:
            shelves.come(["default"], waiting=-1)


def try_to_claim(broker: RabbitMQBroker) -> list[Delivery]:
    """A task, if one comes; nothing while connections break."""
    with contextlib.suppress(BrokerError):
        return broker.claim("w1/0", ["default"], 1).deliveries
    return []


def dead_letters(broker: RabbitMQBroker) -> int:
    with broker._sessions.use() as session:
        return session.ask(session.consumer.describe())[1]


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """An address to which a connection is neither made nor refused."""
    with contextlib.ExitStack() as sockets:
        hole = sockets.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(4):  # More than it takes.
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(hole.getsockname())
        yield hole.getsockname()


def refuse_to_publish(monkeypatch: pytest.MonkeyPatch, broker: RabbitMQBroker) -> None:
    """From now on the connection fails whenever *broker* publishes."""

    async def publish(_: Sequence[Outgoing], **__: float) -> None:
        raise BrokerUnavailable("the connection was cut.")

    with broker._sessions.use() as session:
        monkeypatch.setattr(session.publisher, "publish", publish)


class TestBetweenLedgerAndRabbitMQ:
    def test_a_send_that_the_ledger_refuses_leaves_nothing(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = connect()

        def send(*_: object) -> None:
            raise BrokerError("no room left")

        monkeypatch.setattr(broker._ledger, "send_by", send)
        with pytest.raises(BrokerError, match="no room left"):
            broker.send([message("a")])

        monkeypatch.undo()
        assert broker.get("a") is None
        assert nothing_comes(broker)

    def test_a_task_whose_send_died_before_its_message_is_found_and_runs_once(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = ManualClock()
        broker = connect(clock)
        refuse_to_publish(monkeypatch, broker)
        with pytest.raises(BrokerUnavailable, match="in the records"):
            broker.send([message("a")])
        monkeypatch.undo()
        assert nothing_comes(broker)

        reap(broker)
        assert nothing_comes(broker), "it may be on its way"
        clock.advance(OVERDUE + 1)
        reap(broker)

        assert [held.id for held in claim(broker, 1)] == ["a"]
        assert nothing_comes(broker)

    def test_sending_again_is_harmless(self, connect: Opener) -> None:
        broker = connect()
        for _ in range(3):
            broker.send([message("a"), message("b")])

        assert sorted(held.id for held in claim(broker, 2)) == ["a", "b"]
        assert nothing_comes(broker)

    @pytest.mark.parametrize("kind", ["unstarted", "retry", "lost, again later"])
    def test_a_settled_task_whose_message_is_refused_is_sent_as_soon_as_that_is_possible(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        broker = connect()
        broker.send([message("a")])
        (held,) = claim(broker, 1)
        refuse_to_publish(monkeypatch, broker)
        settlement = settlements(held, broker.clock.now() - 60)[kind]

        assert broker.settle([settlement]) == []
        record = broker.get("a")
        assert record is not None
        assert record.is_waiting
        monkeypatch.undo()

        assert claim(broker, 1)[0].id == "a"

    @pytest.mark.parametrize("kind", ["unstarted", "retry", "lost, again later"])
    def test_a_settled_task_whose_worker_died_before_its_message_is_found(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        clock = ManualClock()
        broker, other = connect(clock), connect(clock)
        broker.send([message("a")])
        (held,) = claim(broker, 1)
        broker._ledger.settle([settlements(held, clock.now())[kind]])  # and then it died
        broker.close()

        clock.advance(60 + OVERDUE + 1)
        reap(other)

        assert claim(other, 1)[0].id == "a"

    def test_only_what_has_no_message_is_sent_again(self, connect: Opener) -> None:
        clock = ManualClock()
        broker = connect(clock)
        broker._ledger.send([message("lost")])
        clock.advance(1)
        broker.send([message("first")])
        clock.advance(OVERDUE * 3)
        broker.send([message("second")])

        reap(broker)  # The message at the head is as old: "lost" may still be behind it.
        assert sorted(held.id for held in claim(broker, 2)) == ["first", "second"]
        assert nothing_comes(broker)
        broker.send([message("third")])
        reap(broker)

        assert sorted(held.id for held in claim(broker, 2)) == ["lost", "third"]
        assert nothing_comes(broker)

    def test_the_message_at_the_head_of_a_line_stays_there_when_it_is_asked_for(
        self, connect: Opener
    ) -> None:
        broker, place = connect(), line("default", 0)
        for age in (30, 20, 10):
            each = message(f"age-{age}")
            sent = Outgoing.of_message(each, encode(each), 1000.0 - age)
            with broker._sessions.use() as session:
                session.ask(session.publisher.publish([sent]))
        link = session.ask(session.publisher.get_ready())

        for _ in range(3):
            until(lambda: session.ask(link.ready(place)) == 3, "all of them there")
            assert session.ask(session.heads.ask([place, line("none", 0)])) == {
                place: 970.0, line("none", 0): None,
            }  # fmt: skip

    def test_a_message_too_many_is_thrown_away(self, connect: Opener) -> None:
        broker, other = connect(), connect()
        broker.send([message("a")])
        (held,) = claim(broker, 1)
        publish(broker, "a", "a")
        assert nothing_comes(other, "w2/0"), "it runs already"
        broker.settle([settlements(held, broker.clock.now())["success"]])
        publish(broker, "a")

        assert nothing_comes(other, "w2/0"), "it has ended"
        assert dead_letters(broker) == 0

    def test_a_message_whose_acknowledgement_was_lost_lets_nothing_run_twice(
        self, connect: Opener, server: RabbitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = connect()
        broker.send([message("a"), message("b")])
        with broker._sessions.use() as session:
            monkeypatch.setattr(session.consumer, "settle", lambda *_: None)
        held = claim(broker, 2)
        server.close_connections()

        assert nothing_comes(connect(), "w2/0")
        assert broker.settle([settlements(h, broker.clock.now())["success"] for h in held]) == []

    def test_messages_without_a_task_are_kept_as_dead_letters(self, connect: Opener) -> None:
        broker = connect()
        broker.send([message("a"), message("b")])
        assert broker.discard(["a"]) == 1

        assert [held.id for held in claim(broker, 1)] == ["b"]
        until(lambda: dead_letters(broker) == 1, "the dead letter")
        assert any(DEAD in each.text for each in broker.conditions())

    def test_a_purge_leaves_nothing_to_run(self, connect: Opener) -> None:
        broker, other = connect(), connect()
        broker.send([message(f"task-{number}") for number in range(50)])
        broker.send([msgspec.structs.replace(message("later"), eta=time.time() + 0.1)])
        assert len(other.claim("w2/0", ["default"], 1).deliveries) == 1  # More are on its shelf.

        assert broker.purge("default") == 50
        broker.send([message("new")])

        assert [held.id for held in claim(broker, 1)] == ["new"]
        assert nothing_comes(other, "w2/0")
        assert nothing_comes(broker)


class TestFaults:
    @pytest.mark.chaos
    def test_an_alarm_fails_sends_at_once_and_stops_neither_claims_nor_settlements(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        broker = connect(timeout=5.0)
        broker.send([message("a"), message("b"), message("c")])
        (held,) = claim(broker, 1)
        server.alarm(True)
        try:
            waits = []
            for task_id in ("x", *(f"y{number}" for number in range(100 if LONG else 3))):
                began = time.monotonic()
                with pytest.raises(BrokerUnavailable, match="memory"):
                    broker.send([message(task_id)])
                waits.append(time.monotonic() - began)
                stored = broker.get(task_id) is not None
                assert not stored or task_id == "x", "RabbitMQ had said no before it was stored"
            print(f"\n{len(waits)} sends to RabbitMQ without memory, longest {max(waits):.2f} s")
            assert max(waits) <= 5.0
            fresh = connect(timeout=5.0)
            with pytest.raises(BrokerUnavailable, match="memory"):
                fresh.send([message("z")])
            assert fresh.get("z") is None

            now = broker.clock.now()
            assert broker.settle([Settlement.unstarted(held, at=now)]) == []
            others = claim(broker, 2)
            assert broker.settle([settlements(h, now)["success"] for h in others]) == []
        finally:
            server.alarm(False)

        came: list[str] = []
        until(lambda: "a" in came or came.extend(h.id for h in claim(broker, 1)), "the retry")
        assert set(came) <= {"a", "x"}

    def test_a_killed_server_loses_nothing_that_was_sent(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        broker = connect(timeout=3.0)
        broker.send([msgspec.structs.replace(message("later"), eta=time.time() + 2)])
        sent: list[str] = []
        unsure: list[str] = []
        stop = threading.Event()

        def produce() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    broker.send([message(f"task-{number}")])
                except BrokerError:
                    unsure.append(f"task-{number}")
                else:
                    sent.append(f"task-{number}")

        producer = threading.Thread(target=produce)
        producer.start()
        until(lambda: len(sent) > 50, "sends")
        server.kill()
        until(lambda: unsure, "a send that fails")
        server.start()
        before = len(sent)
        until(lambda: len(sent) > before + 10, "sends after the restart", within=60)
        stop.set()
        producer.join(PATIENCE)

        held: list[str] = []

        def drained() -> bool:
            # A queue that was new when the server died is made anew, and its tasks are found.
            broker.reap(by="w1/0")
            held.extend(each.id for each in broker.claim("w1/0", ["default"], 1000).deliveries)
            return {*sent, "later"} <= set(held)

        until(drained, "every task that was sent", within=60)
        assert len(held) == len(set(held))
        assert {*sent, "later"} <= set(held) <= {*sent, *unsure, "later"}

    def test_closed_connections_are_made_again(self, connect: Opener, server: RabbitServer) -> None:
        broker = connect()
        for number in range(5):
            broker.send([message(f"task-{number}")])
            server.close_connections()
            deadline = time.monotonic() + PATIENCE
            held: list[Delivery] = []
            while not held:
                assert time.monotonic() < deadline
                try:
                    held = broker.claim("w1/0", ["default"], 1).deliveries
                except BrokerError:
                    continue
            assert held[0].id == f"task-{number}"
            broker.settle([settlements(held[0], broker.clock.now())["success"]])
            # Publishing may notice with the send, which then says so.
            until(lambda: can_send(broker), "a send")
            claim(broker, 1)

    def test_a_connection_that_is_made_anew_asks_for_no_queue_that_was_there(
        self, connect: Opener, server: RabbitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = connect()
        assert nothing_comes(broker)
        asked: list[str] = []
        make = Link.make

        async def counted(link: Link, place: Any, announce: Any) -> None:
            if link.name == "acked: consuming":
                asked.append(place.name)
            await make(link, place, announce)

        monkeypatch.setattr(Link, "make", counted)
        server.close_connections()
        connect().send([message("a")])
        assert until(lambda: try_to_claim(broker), "the task")[0].id == "a"
        assert asked == []

    def test_a_queue_that_is_gone_when_the_connection_is_back_is_made_again(
        self, connect: Opener
    ) -> None:
        broker = connect()
        with broker._sessions.use() as session:
            # As if they had been there before the connection was lost.
            session.consumer._made |= {DEAD, *lines("default")}
        with pytest.raises(BrokerError, match="no queue 'acked.queue.default"):
            broker.claim("w1/0", ["default"], 1)
        broker.send([message("a")])
        assert until(lambda: try_to_claim(broker), "the task")[0].id == "a"

    def test_connections_that_are_made_anew_at_once_share_one_thread_for_names(
        self, connect: Opener
    ) -> None:
        broker = connect()
        before = set(threading.enumerate())
        with broker._sessions.use() as session:
            for _ in range(3):
                opening = [
                    session.begin(Link.open(broker._address, f"test {n}", 5.0)) for n in range(8)
                ]
                for each in opening:
                    link = each.result(PATIENCE)
                    session.tell(link.abort)

        names = sorted(each.name for each in set(threading.enumerate()) - before)
        assert names == ["acked-lookup_0", "acked-rabbitmq"]

    def test_a_waiting_consumer_goes_on_after_its_connection_was_closed(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        consumer, sender = connect(), connect()
        assert nothing_comes(consumer)
        waiting = threading.Thread(target=consumer.wait, args=(["default"], 600))
        waiting.start()
        server.close_connections()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()

        until(lambda: can_send(sender), "a send")
        assert len(claim(consumer, 1)) == 1

    def test_no_call_outlasts_its_timeout_while_the_server_is_frozen(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        broker = connect(timeout=TIMEOUT)
        broker.send([message("a"), message("b")])
        (held,) = claim(broker, 1)
        claim(broker, 1)
        server.freeze()
        try:
            for call in (
                lambda: broker.send([message("c")]),
                lambda: broker.claim("w1/0", ["default"], 1),
                lambda: broker.purge("default"),
                lambda: connect(timeout=TIMEOUT).send([message("d")]),
            ):
                began = time.monotonic()
                with pytest.raises(BrokerUnavailable):
                    call()
                assert time.monotonic() - began < TIMEOUT + 5
            began = time.monotonic()
            now = broker.clock.now()
            assert broker.settle([Settlement.unstarted(held, at=now)]) == []
            broker.reap(by="w1/0")
            assert time.monotonic() - began < TIMEOUT + 5
        finally:
            server.thaw()

        assert "a" in {each.id for each in claim(broker, 1)} | {
            each.id for each in broker.claim("w1/0", ["default"], 10).deliveries
        }

    def test_a_claim_reaches_the_second_address_of_a_host_whose_first_answers_nothing(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = RabbitMQBroker(
            readdress(place.url, "rabbit.test", {port: port for port in place.ports}),
            SQLiteBroker(tmp_path / "records.db"),
            timeout=TIMEOUT,
        )
        broker.setup()
        with black_hole() as hole:
            addresses = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", each)
                for each in (hole, ("127.0.0.1", place.running.port))
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
            with pytest.raises(BrokerUnavailable, match="did not answer within"):
                broker.claim("w1/0", ["default"], 1)

            until(lambda: _can_claim(broker), "a claim")
        broker.close()

    def test_a_server_that_is_away_fails_at_once_and_stores_nothing(self, tmp_path: Path) -> None:
        broker = RabbitMQBroker("amqp://u:hush@127.0.0.1:1/v", SQLiteBroker(tmp_path / "r.db"))

        with pytest.raises(BrokerUnavailable, match="cannot be reached") as caught:
            broker.send([message("a")])

        assert "hush" not in str(caught.value)
        assert broker.get("a") is None
        broker.close()

    def test_wrong_credentials_are_told_without_them(
        self, place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = place.url.replace("guest:guest", "guest:hush")
        broker = RabbitMQBroker(url, SQLiteBroker(tmp_path / "r.db"))

        with pytest.raises(BrokerRefused, match="authenticate_user guest PASSWORD") as caught:
            broker.send([message("a")])

        assert "hush" not in f"{caught.value} {broker.url} {broker!r} {caplog.text}"
        assert broker.address == url
        broker.close()

    def test_a_virtual_host_that_is_not_there_is_named(self, place: Place, tmp_path: Path) -> None:
        broker = RabbitMQBroker(f"{place.url}-absent", SQLiteBroker(tmp_path / "r.db"))

        broker.setup()

        with pytest.raises(BrokerRefused, match="-absent"):
            broker.send([message("a")])
        broker.close()

    def test_a_deleted_queue_is_made_again(self, connect: Opener, server: RabbitServer) -> None:
        broker = connect()
        broker.send([message("a")])
        assert len(claim(broker, 1)) == 1
        vhost = broker._address.vhost
        server.evaluate(
            '[rabbit_amqqueue:delete_with(rabbit_misc:r(<<"' + vhost + '">>, queue, '
            'Name), false, false, <<"acked">>) || Name <- ['
            + ", ".join(f'<<"{name}">>' for name in lines("default"))
            + "]]"
        )

        broker.send([message("b")])
        assert claim(broker, 1)[0].id == "b"

    def test_a_message_that_is_refused_is_sent_again_for_a_while(
        self, connect: Opener, server: RabbitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = connect(timeout=PATIENCE)
        broker.send([message("a")])
        server.limit_queues(broker._address.vhost, 1)
        until(lambda: not can_send(broker), "a full queue")
        with pytest.raises(BrokerError, match="refused 1 of 1 messages: a queue is full"):
            broker.send([message("b")])

        began = time.monotonic()
        with pytest.raises(BrokerError, match="a queue is full"):
            broker.send([message("b")])
        assert time.monotonic() - began < REFUSED_FOR, "that it is full is known by now"
        with broker._sessions.use() as session:
            publisher = session.publisher
        monkeypatch.setattr("acked.brokers.rabbitmq.publishing.REFUSED_FOR", PATIENCE)
        publisher._refusing.clear()
        sending = threading.Thread(target=broker.send, args=([message("c")],))
        sending.start()
        until(lambda: publisher._refusing, "a refusal")
        server.limit_queues(broker._address.vhost, 1000)
        sending.join(PATIENCE)
        assert not sending.is_alive()
        assert not publisher._refusing

        came: list[str] = []
        until(lambda: "c" in came or came.extend(h.id for h in claim(broker, 1)), "the message")

    def test_a_long_task_outlives_the_time_that_rabbitmq_gives_consumers(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        server.evaluate(
            "application:set_env(rabbit, consumer_timeout, 300), "
            "application:set_env(rabbit, channel_tick_interval, 100)"
        )
        try:
            broker = connect()
            broker.send([message("long")])
            (held,) = claim(broker, 1)
            began = time.monotonic()
            while time.monotonic() - began < 2:
                assert broker.claim("w1/1", ["default"], 1).deliveries == []
            broker.send([message("next")])
            assert claim(broker, 1)[0].id == "next"
            assert broker.settle([settlements(held, broker.clock.now())["success"]]) == []
        finally:
            server.evaluate(
                "application:set_env(rabbit, consumer_timeout, 1800000), "
                "application:set_env(rabbit, channel_tick_interval, 60000)"
            )


class TestUnwellLines:
    """One line fails, and all others go on."""

    @pytest.mark.parametrize("fault", ["end_queue", "hang_queue"])
    def test_a_line_that_does_not_answer_keeps_no_lost_message_of_another_from_being_found(
        self, connect: Opener, server: RabbitServer, fault: str
    ) -> None:
        clock = ManualClock()
        broker = connect(clock)
        broker.send([message("a", queue="bad")])
        broker._ledger.send([message("b")])
        clock.advance(OVERDUE + 1)
        bad = broker._address.vhost, line("bad", 0)
        assert broker.claim("w1/0", ["default"], 1).deliveries == []
        with broker._sessions.use() as session:
            consuming = session.consumer._link
        spoil = getattr(server, fault)
        spoil(*bad)
        try:
            reap(broker)
            session.ask(session.consumer.answered())

            assert [held.id for held in claim(broker, 1)] == ["b"]
            assert session.consumer._link is consuming, "its connection was cut"
            assert broker._lost._sent.keys() == {"b"}, "a message was where it should be"
        finally:
            spoil(*bad, **{"ended" if fault == "end_queue" else "hung": False})
        came = until(lambda: broker.claim("w1/0", ["bad"], 1).deliveries, "the line")
        assert [held.id for held in came] == ["a"]

    def test_a_line_with_a_long_backlog_keeps_no_lost_message_of_another_from_being_found(
        self, connect: Opener
    ) -> None:
        clock = ManualClock()
        broker = connect(clock)
        broker.send([message(f"long-{n}", queue="long") for n in range(AT_ONCE)])
        clock.advance(1)
        broker._ledger.send([message("lost")])
        clock.advance(OVERDUE + 1)

        reap(broker)

        assert [held.id for held in claim(broker, 1)] == ["lost"]
        assert broker._lost._sent.keys() == {"lost"}, "a message was where it should be"

    @pytest.mark.parametrize("fault", ["refuses", "confirms nothing"])
    def test_a_message_owed_to_a_line_that_takes_none_holds_up_no_other(
        self, connect: Opener, server: RabbitServer, fault: str
    ) -> None:
        broker = connect()
        vhost, full = broker._address.vhost, line("bad", 0)
        broker.send([message("a", queue="bad"), message("b")])
        claim(broker, 1)
        if fault == "refuses":
            server.limit_queues(vhost, 1, full)
            until(lambda: not can_send(broker, "bad"), "a full queue")
        else:
            server.hang_queue(vhost, full)
        paid: list[str] = []
        with broker._sessions.use() as session:
            for task_id, queue in (("c", "bad"), ("b", "default"), ("d", "bad")):
                each = message(task_id, queue=queue)
                owed = Outgoing.of_message(each, encode(each), time.time())
                session.tell(session.debts.owe, owed, partial(paid.append, task_id))

        debts = session.debts._owed
        until(lambda: "b" in paid, "the message of another queue", within=PATIENCE / 2)
        until(lambda: debts.keys() == {full}, "those of this one alone")

        if fault == "refuses":
            server.limit_queues(vhost, 1000, full)
        else:
            server.hang_queue(vhost, full, hung=False)
        until(lambda: not debts, "the others")
        assert sorted(paid) == ["b", "c", "d"]

    def test_of_messages_owed_together_only_those_that_were_refused_are_sent_again(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        broker = connect()
        vhost, full = broker._address.vhost, line("bad", 0)
        broker.send([message("a", queue="bad"), message("b")])
        server.limit_queues(vhost, 1, full)
        until(lambda: not can_send(broker, "bad"), "a full queue")
        both = [message("c", queue="bad"), message("d")]
        owed = [Outgoing.of_message(each, encode(each), time.time()) for each in both]
        with broker._sessions.use() as session:
            publisher = session.publisher
            before = publisher._sent
            session.ask(session.debts.publish_or_owe(owed))
            until(lambda: publisher._sent >= before + 6, "two tries together, and more")
            link = session.ask(publisher.get_ready())
            copies = session.ask(link.ready(line("default", 0))) - 1

        assert copies <= 2


class TestTimesAndTurns:
    def test_a_delayed_task_comes_when_it_is_due(self, connect: Opener) -> None:
        broker = connect()
        began = time.time()
        waits = {"a": 0.05, "b": 0.4, "c": 1.3, "d": 2.7}
        broker.send([msgspec.structs.replace(message(i), eta=began + w) for i, w in waits.items()])
        came: dict[str, float] = {}
        while len(came) < len(waits):
            assert time.time() < began + PATIENCE
            for held in broker.claim("w1/0", ["default"], 10).deliveries:
                came[held.id] = time.time() - began
            broker.wait(["default"], 0.5)

        for task_id, wait in waits.items():
            assert wait <= came[task_id] < wait + 1.0, came

    def test_what_has_been_delivered_is_claimed_by_priority_then_age_within_a_band_and_across(
        self, connect: Opener
    ) -> None:
        broker = connect()
        priorities = [-255, -1, 0, 1, 3, 4, 9, 255]
        assert len(BANDS) < len(priorities)
        for n in ("first", "second"):
            broker.send([message(f"{p} {n}", priority=p) for p in priorities])

        with at_hand(broker, 16):
            held = broker.claim("w1/0", ["default"], 16).deliveries

        assert [each.id for each in held] == [
            f"{p} {n}" for p in reversed(priorities) for n in ("first", "second")
        ]

    def test_a_task_that_comes_back_is_not_behind_what_was_sent_since(
        self, connect: Opener
    ) -> None:
        broker = connect()
        broker.send([message("a")])
        (held,) = claim(broker, 1)
        broker.send([message(f"task-{number}") for number in range(300)])
        time.sleep(0.2)  # It counts as one that has waited.
        broker.settle([settlements(held, broker.clock.now())["lost, again at once"]])

        assert "a" in [each.id for each in claim(broker, 30)]

    def test_what_a_busy_process_has_at_hand_goes_to_another(self, connect: Opener) -> None:
        busy, free = connect(), connect()
        assert busy.claim("w1/0", ["default"], 100).deliveries == []
        busy.send([message(f"task-{number}") for number in range(40)])
        assert len(busy.claim("w1/0", ["default"], 1).deliveries) == 1  # And now it is busy.

        assert len(claim(free, 39, "w2/0")) == 39

    def test_a_paused_queue_holds_its_tasks_until_another_process_resumes_it(
        self, connect: Opener
    ) -> None:
        broker, operator = connect(), connect()
        operator.pause("default")
        broker.send([message("a")])
        assert nothing_comes(broker)
        operator.resume("default")

        def came() -> list[Delivery]:
            broker.wait(["default"], 1)
            return broker.claim("w1/0", ["default"], 1).deliveries

        assert until(came, "the task")[0].id == "a"

    def test_threads_may_use_one_broker(self, connect: Opener) -> None:
        broker = connect()
        held: list[str] = []
        failed: list[BaseException] = []

        def produce(number: int) -> None:
            try:
                for each in range(20):
                    broker.send([message(f"{number}-{each}")])
            except BaseException as error:  # told to the test's own thread
                failed.append(error)

        def consume(number: int) -> None:
            try:
                deadline = time.monotonic() + PATIENCE
                while len(held) < 160 and time.monotonic() < deadline:
                    for each in broker.claim(f"w1/{number}", ["default"], 7).deliveries:
                        held.append(each.id)
                        now = broker.clock.now()
                        broker.settle([settlements(each, now)["success"]])
            except BaseException as error:  # told to the test's own thread
                failed.append(error)

        threads = [threading.Thread(target=produce, args=(n,)) for n in range(8)]
        threads += [threading.Thread(target=consume, args=(n,)) for n in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(PATIENCE * 2)

        assert failed == []
        assert sorted(held) == sorted(f"{n}-{each}" for n in range(8) for each in range(20))

    def test_a_forked_child_has_connections_of_its_own(self, connect: Opener) -> None:
        broker = connect()
        broker.send([message("before")])
        assert len(claim(broker, 1)) == 1
        child = os.fork()
        if child == 0:
            code = 1
            try:
                broker.send([message("child")])
                code = 0
            finally:
                os._exit(code)
        broker.send([message("parent")])
        assert os.waitpid(child, 0)[1] == 0

        assert sorted(held.id for held in claim(broker, 2)) == ["child", "parent"]

    def test_a_task_id_may_be_as_long_as_a_message_allows(self, connect: Opener) -> None:
        broker = connect()
        task_id = "\N{SNOWMAN}" * 200
        broker.send([message(task_id)])

        assert claim(broker, 1)[0].id == task_id
        record = broker.get(task_id)
        assert record is not None
        assert record.state is State.RUNNING


def _can_claim(broker: RabbitMQBroker) -> bool:
    try:
        broker.claim("w1/0", ["default"], 1)
    except BrokerUnavailable:
        return False
    return True
