"""A program that sends over a network in plain text is told so, once, without asking anybody."""

from __future__ import annotations

import logging

import pytest

from acked import Acked
from acked.brokers import open_broker
from acked.errors import BrokerUnavailable


@pytest.mark.parametrize(
    ("url", "results", "warned"),
    [
        ("redis://cache.example.org", None, True),
        ("rediss://cache.example.org", None, False),
        ("redis://localhost", None, False),
        ("postgresql://db.example.org/shop?sslmode=prefer", None, True),
        ("postgresql://db.example.org/shop?sslmode=verify-full", None, False),
        ("amqp://me:hush@mq.example.org", "memory://", True),
        ("amqps://me:hush@mq.example.org", "memory://", False),
        ("amqps://me:hush@mq.example.org", "redis://cache.example.org", True),
        ("memory://", None, False),
    ],
)
def test_the_way_to_a_broker_is_judged_by_its_url(
    url: str, results: str | None, warned: bool
) -> None:
    broker = open_broker(url, results=results)

    found = [each for each in broker.connection_conditions() if each.level == "warn"]

    assert [each.subject for each in found] == (["encryption"] if warned else [])
    assert all(each.remedy for each in found)


def test_a_program_that_sends_is_warned_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = open_broker("redis://me:hush@192.0.2.1", timeout=0.05)  # an address nobody has
    app = Acked("shop", broker=broker)

    @app.task
    def ship(order: int) -> None: ...

    with caplog.at_level(logging.WARNING, "acked"):
        for order in range(3):
            with pytest.raises(BrokerUnavailable):
                ship.delay(order)

    (line,) = [each.getMessage() for each in caplog.records if each.name.startswith("acked")]
    assert "plain text" in line and "rediss://" in line
    assert "hush" not in line


def test_a_program_that_only_reads_is_not_warned(caplog: pytest.LogCaptureFixture) -> None:
    app = Acked("shop", broker=open_broker("redis://192.0.2.1", timeout=0.05))

    with caplog.at_level(logging.WARNING, "acked"), pytest.raises(BrokerUnavailable):
        app.records.get("order-4711")

    # Of acked's alone: what other tests left behind may be told of at any moment.
    assert [each for each in caplog.records if each.name.startswith("acked")] == []
