"""RabbitMQ: what is too large for it."""

from __future__ import annotations

import logging

import pytest

from acked.brokers.rabbitmq.recovering import OVERDUE
from acked.clock import ManualClock
from acked.errors import BrokerError
from acked.testing.timeline import message, settlements
from tests.harness.rabbitmq import Opener, claim, nothing_comes, reap

LONG = "\N{CJK UNIFIED IDEOGRAPH-8A3A}" * 80
"""A queue's name for which a line has no room; characters do not count, bytes do."""


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
