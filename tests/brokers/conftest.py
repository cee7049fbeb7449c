"""RabbitMQ with its records in a file of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acked.brokers.rabbitmq import RabbitMQBroker
from acked.brokers.sqlite import SQLiteBroker
from acked.clock import Clock
from tests.harness.places import Place, Servers
from tests.harness.rabbitmq import Opener
from tests.servers.rabbitmq import RabbitServer


@pytest.fixture
def place(servers: Servers, tmp_path: Path) -> Place:
    return servers.place("rabbitmq", tmp_path, ledger="sqlite")


@pytest.fixture
def server(place: Place) -> RabbitServer:
    assert isinstance(place.server, RabbitServer)
    return place.server


@pytest.fixture
def connect(place: Place, tmp_path: Path) -> Iterator[Opener]:
    opened: list[RabbitMQBroker] = []

    def connect(clock: Clock | None = None, *, timeout: float = 10.0) -> RabbitMQBroker:
        ledger = SQLiteBroker(tmp_path / "records.db", clock=clock)
        broker = RabbitMQBroker(place.url, ledger, timeout=timeout)
        broker.setup()
        opened.append(broker)
        return broker

    yield connect
    for each in opened:
        each.close()
