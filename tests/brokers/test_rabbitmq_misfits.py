"""RabbitMQ: what is too large for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec
import pytest

from acked.brokers.rabbitmq import publishing
from acked.brokers.rabbitmq.outgoing import Outgoing
from acked.brokers.rabbitmq.recovering import OVERDUE
from acked.clock import ManualClock
from acked.errors import BrokerError, BrokerUnavailable
from acked.message import Message, encode
from acked.testing.timeline import message, settlements
from tests.harness.rabbitmq import PATIENCE, Opener, claim, nothing_comes, reap
from tests.harness.workers import until
from tests.servers.rabbitmq import RabbitServer

MAX_SIZE = 64 * 1024

LONG = "\N{CJK UNIFIED IDEOGRAPH-8A3A}" * 80
"""A queue's name for which a line has no room; characters do not count, bytes do."""


@pytest.fixture
def small(server: RabbitServer) -> Iterator[None]:
    """RabbitMQ takes messages of `MAX_SIZE`; larger ones after the test again."""
    _limit_messages(server, MAX_SIZE)
    yield
    _limit_messages(server, 128 * 1024 * 1024)


def large(task_id: str) -> Message:
    """A call whose message is larger than that."""
    return msgspec.structs.replace(message(task_id), args=msgspec.Raw(b'["%s"]' % (b"x" * 99_000)))


class TestLongNames:
    def test_a_queue_with_too_long_a_name_is_refused_before_anything_is_stored(
        self, connect: Opener
    ) -> None:
        broker = connect()

        with pytest.raises(BrokerError, match="name of 240 bytes.*a shorter one") as caught:
            broker.send([message("a"), message("b", queue=LONG)])

        assert caught.value.nothing_stored
        assert broker.get("a") is None
        assert broker.get("b") is None

    def test_a_record_with_too_long_a_name_keeps_no_other_from_being_recovered(
        self, connect: Opener, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = ManualClock()
        broker = connect(clock)
        # Another broker has the same ledger.
        broker._ledger.send([message("a", queue=LONG), message("b")])
        clock.advance(OVERDUE + 1)

        with caplog.at_level(logging.WARNING, "acked.broker"):
            reap(broker)
            reap(broker)

        assert [held.id for held in claim(broker, 1)] == ["b"]
        assert caplog.text.count("no room for the name") == 1

    def test_a_task_whose_queue_has_too_long_a_name_is_settled_and_purged(
        self, connect: Opener
    ) -> None:
        broker = connect()
        broker._ledger.send([message("a", queue=LONG)])
        (held,) = broker._ledger.claim("w1/0", [LONG], 1).deliveries

        now = broker.clock.now()
        assert broker.settle([settlements(held, now)["unstarted"]]) == []
        assert broker.purge(LONG) == 1

    def test_a_claim_of_a_queue_with_too_long_a_name_is_refused_as_a_broker_refuses(
        self, connect: Opener
    ) -> None:
        broker = connect()

        with pytest.raises(BrokerError, match="a shorter one"):
            broker.claim("w1/0", [LONG], 1)
        with pytest.raises(BrokerError, match="a shorter one"):
            connect().wait([LONG], 1)
        assert nothing_comes(broker)


@pytest.mark.usefixtures("small")
class TestLargeMessages:
    def test_a_send_says_that_it_is_too_large_and_the_next_one_stores_nothing(
        self, connect: Opener
    ) -> None:
        broker = connect()
        sizes = f"'a' has {len(encode(large('a'))):,} bytes.*more than {MAX_SIZE:,}"

        with pytest.raises(BrokerError, match=f"{sizes}.*max_message_size.*in the records") as told:
            broker.send([large("a")])
        assert not isinstance(told.value, BrokerUnavailable), "trying again does not help"
        with pytest.raises(BrokerError, match="max_message_size") as told:
            broker.send([message("b"), large("c")])

        assert told.value.nothing_stored
        assert broker.get("b") is None
        broker.send([message("d")])
        assert claim(broker, 1)[0].id == "d"

    def test_one_that_is_owed_holds_up_no_other(
        self, connect: Opener, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = ManualClock()
        broker = connect(clock)
        broker._ledger.send([message("a"), large("b"), message("c")])
        clock.advance(OVERDUE + 1)

        with caplog.at_level(logging.ERROR, "acked.broker"):
            reap(broker)
            assert {held.id for held in claim(broker, 2)} == {"a", "c"}

        assert "task 'b' has" in caplog.text
        with broker._sessions.use() as session:
            until(lambda: not session.debts._owed, "an end of the debts")

    def test_it_is_sent_once_rabbitmq_takes_it(
        self, connect: Opener, server: RabbitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publishing, "LIMIT_KNOWN", 1.0)
        clock = ManualClock()
        broker = connect(clock)
        with pytest.raises(BrokerError, match="max_message_size"):
            broker.send([large("a")])
        _limit_messages(server, MAX_SIZE * 2)
        clock.advance(OVERDUE + 1)

        def comes() -> list[str]:
            broker._lost._sent.clear()
            reap(broker)
            return [held.id for held in broker.claim("w1/0", ["default"], 1).deliveries]

        assert until(comes, "the task") == ["a"]

    def test_it_fails_no_other_send_of_the_same_process(self, connect: Opener) -> None:
        broker = connect()
        broker.send([message("first")])
        now = broker.clock.now()
        batches = [[message(f"task-{n}") for n in range(200)], [large("large")]]
        with broker._sessions.use() as session:
            sending = [
                session.begin(
                    session.publisher.publish(
                        [Outgoing.of_message(each, encode(each), now) for each in batch],
                        until=session.deadline(),
                    )
                )
                for batch in batches
            ]
            ends = [each.exception(PATIENCE) for each in sending]

        assert ends[0] is None
        assert "max_message_size" in str(ends[1])


def _limit_messages(server: RabbitServer, size: int) -> None:
    """It holds for channels that are opened from now on."""
    server.evaluate(f"application:set_env(rabbit, max_message_size, {size})")
