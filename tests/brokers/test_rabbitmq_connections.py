"""RabbitMQ: a connection that ends at a moment of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pika.exceptions import AMQPError, ChannelWrongStateError

from acked.brokers.rabbitmq import RabbitMQBroker
from acked.brokers.rabbitmq.link import Link
from acked.brokers.rabbitmq.outgoing import Outgoing
from acked.brokers.rabbitmq.shelf import UNASKED
from acked.brokers.rabbitmq.topology import delay, line
from acked.errors import BrokerError, BrokerUnavailable
from acked.testing.timeline import message, settlements
from tests.harness.places import Place
from tests.harness.rabbitmq import Opener, claim, publish
from tests.harness.workers import until
from tests.servers.rabbitmq import RabbitServer


def lose_it_when_a_queue_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next connection that publishes ends while it waits for its queue."""
    make = Link.make

    async def lost(link: Link, place: Any, announce: Any) -> None:
        await make(link, place, announce)
        if link.name == "acked: publishing":
            monkeypatch.setattr(Link, "make", make)
            link.abort()

    monkeypatch.setattr(Link, "make", lost)


SENDS_LATE = """
import sys
import threading
from acked import Acked

app = Acked("shop", broker=sys.argv[1], results=sys.argv[2])

@app.task
def first(): ...

@app.task(queue="other")
def second(): ...

def send():
    threading.main_thread().join()
    first.delay()
    second.delay()
    print("sent")
    app.close()

if sys.argv[3] == "connected":
    first.delay()
threading.Thread(target=send).start()
"""


class TestTheEndOfAProcess:
    @pytest.mark.parametrize("before", ["connected", "unconnected"])
    def test_a_thread_that_outlives_the_main_one_sends(
        self, place: Place, tmp_path: Path, before: str
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-c", SENDS_LATE, place.url, f"sqlite:///{tmp_path}/late.db", before],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout == "sent\n", done.stderr


class TestLostWhilePublishing:
    def test_a_send_says_what_it_leaves(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = connect()
        lose_it_when_a_queue_is_made(monkeypatch)

        with pytest.raises(BrokerUnavailable, match="in the records"):
            broker.send([message("a")])

    def test_a_settlement_is_done_and_its_message_owed(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = connect()
        broker._ledger.send([message("a")])
        (held,) = broker._ledger.claim("w1/0", ["default"], 1).deliveries
        lose_it_when_a_queue_is_made(monkeypatch)

        assert broker.settle([settlements(held, broker.clock.now())["unstarted"]]) == []
        assert claim(broker, 1)[0].id == "a"

    @pytest.mark.parametrize("error", [ChannelWrongStateError("closed"), TimeoutError()])
    def test_whatever_goes_wrong_a_settlement_does_not_fail_with_it(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch, error: AMQPError | TimeoutError
    ) -> None:
        broker = connect()
        broker.send([message("a")])
        (held,) = claim(broker, 1)
        with broker._sessions.use() as session:
            publish, failed = session.publisher.publish_once, []

        async def fail(messages: Sequence[Outgoing]) -> Any:
            failed.append(messages)
            raise error

        monkeypatch.setattr(session.publisher, "publish_once", fail)
        assert broker.settle([settlements(held, broker.clock.now())["unstarted"]]) == []
        until(lambda: len(failed) == 2, "a try to pay what is owed")
        monkeypatch.setattr(session.publisher, "publish_once", publish)
        assert claim(broker, 1)[0].id == "a"

    def test_a_question_on_a_connection_that_has_ended_says_so(self, connect: Opener) -> None:
        broker = connect()
        with broker._sessions.use() as session:
            link = session.ask(session.publisher.get_ready())
            session.tell(link.abort)
            for question in (link.ready("acked.dead"), link.head("acked.dead")):
                with pytest.raises(BrokerUnavailable):
                    session.ask(question)


class TestConsumers:
    def test_no_consumer_is_left_behind_where_its_end_was_not_confirmed_in_time(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        broker = connect(timeout=1.0)
        until(lambda: _can_claim(broker, 1), "a claim")
        server.freeze()
        try:
            with pytest.raises(BrokerError):
                broker.claim("w1/0", ["default"], 100)
        finally:
            server.thaw()

        name = f'rabbit_misc:r(<<"{broker._address.vhost}">>, queue, <<"{line("default", 0)}">>)'
        consumers = f"length(rabbit_amqqueue:consumers(element(2, rabbit_amqqueue:lookup({name}))))"

        def is_alone() -> bool:
            return _can_claim(broker, 100) and server.evaluate(consumers).strip() == "{ok, 1}"

        until(is_alone, "one consumer alone")


class TestAlarms:
    @pytest.mark.parametrize("known", [True, False])
    def test_a_message_that_comes_early_keeps_no_other_from_being_claimed(
        self, connect: Opener, server: RabbitServer, known: bool
    ) -> None:
        broker, worker = connect(), connect()
        due = broker.clock.now() + 3600
        early = [msgspec.structs.replace(message(f"early-{n}"), eta=due) for n in range(UNASKED)]
        broker._ledger.send(early)
        publish(broker, *(each.id for each in early))
        broker.send([message("a"), message("b")])
        server.alarm(True)
        try:
            if known:
                until(lambda: _is_blocked(worker), "the alarm")
            assert {held.id for held in claim(worker, 2)} == {"a", "b"}
        finally:
            server.alarm(False)

        with worker._sessions.use() as session:
            until(lambda: not session.debts._owed, "the early ones in their delays")
            link = session.ask(session.publisher.get_ready())
            assert session.ask(link.ready(delay(3599))) == UNASKED


def _can_claim(broker: RabbitMQBroker, limit: int) -> bool:
    try:
        broker.claim("w1/0", ["default"], limit)
    except BrokerError:
        return False
    return True


def _is_blocked(broker: RabbitMQBroker) -> bool:
    with contextlib.suppress(BrokerError):
        broker.send([message("probe")])
    with broker._sessions.use() as session:
        return bool(session.publisher.blocked)
