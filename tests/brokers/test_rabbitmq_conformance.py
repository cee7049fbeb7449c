"""RabbitMQ with its records in each ledger, held to every promise of the interface."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import apsw
import psycopg
import pytest
from hypothesis import settings

from acked.broker import Claim, Engine, Filter, Ledger
from acked.brokers import open_broker
from acked.brokers.rabbitmq import RabbitMQBroker
from acked.brokers.rabbitmq.outgoing import Outgoing
from acked.brokers.redis import RedisBroker, scripts
from acked.clock import Clock
from acked.delivery import Delivery, Settlement, State
from acked.testing import BrokerConformance, BrokerStateMachine
from acked.testing.claiming import ClaimingPromises
from acked.testing.sending import SendingPromises
from acked.testing.timeline import Timeline
from tests.harness.places import Servers

LONG = os.environ.get("ACKED_LONG") == "1"

PROMPT = 10.0
"""Seconds in which RabbitMQ delivers what is there, however busy the machine."""


class OnASetClock(RabbitMQBroker):
    """RabbitMQ's own delays know nothing of a test's clock, and its deliveries come when they come.
    Here a claim sends what the set clock has made due, and waits for what the ledger says is there;
    and reaping, which lets the ledger forget that it was not due, sends it before.
    """

    def reap(self, *, by: str) -> list[Delivery]:
        self._send_what_is_due()
        return super().reap(by=by)

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Claim:
        refused = self.settle(settlements)
        self._send_what_is_due()
        held: list[Claim] = []
        deadline = time.monotonic() + PROMPT
        while (left := limit - sum(len(each.deliveries) for each in held)) > 0:
            held.append(super().claim(consumer, queues, left))
            if not self._waits_in(queues) or time.monotonic() > deadline:
                break
        deliveries = [delivery for each in held for delivery in each.deliveries]
        return Claim(deliveries, refused)

    def _send_what_is_due(self) -> None:
        now = self.clock.now()
        late = self._ledger.overdue(math.nextafter(now, math.inf), 1000)
        due = [Outgoing.of_record(r, now) for r in late if r.state is State.SCHEDULED]
        if due:
            with self._sessions.use() as session:
                session.ask(session.publisher.publish(due))

    def _waits_in(self, queues: Sequence[str]) -> bool:
        now = self.clock.now()
        paused = {each.queue for each in self._ledger.counts() if each.paused}
        return any(
            record.queue in queues and record.queue not in paused
            for record in self._ledger.search(Filter(states=(State.QUEUED, State.SCHEDULED)))
            if record.state is State.QUEUED or record.due <= now
        )


def open_ledger(url: str, clock: Clock) -> Ledger:
    ledger = open_broker(url, clock=clock)
    assert isinstance(ledger, Ledger)
    return ledger


SUITE = BrokerConformance if LONG else Timeline
"""What is run over a ledger that is not SQLite. Each engine has passed the promises of a ledger by
itself, so that the short form asks of the pair what touches both: sending and claiming."""


class OverLedger(SendingPromises, ClaimingPromises):
    """A suite over one ledger."""

    kind: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _place(self, servers: Servers, tmp_path: Path) -> None:
        self.place = servers.place("rabbitmq", tmp_path, ledger=self.kind)

    def make_broker(self, clock: Clock) -> RabbitMQBroker:
        assert self.place.results is not None
        return OnASetClock(self.place.url, open_ledger(self.place.results, clock))

    def plant_raw(self, broker: Engine, body: bytes) -> str:
        """Written into the ledger by another program, and named by a message."""
        assert isinstance(broker, RabbitMQBroker)
        assert self.place.results is not None
        self.plant(broker._ledger, self.place.results, body)
        with broker._sessions.use() as session:
            broker.publish_records(session, ["planted"])
        return "planted"

    def plant(self, ledger: Ledger, url: str, body: bytes) -> None:
        raise NotImplementedError


class TestRabbitMQWithSQLite(OverLedger, BrokerConformance):
    kind = "sqlite"

    def plant(self, ledger: Ledger, url: str, body: bytes) -> None:
        with apsw.Connection(url.removeprefix("sqlite:///")) as other:
            other.execute(
                "INSERT INTO task (id, name, queue, priority, state, due, sent, body) "
                "VALUES ('planted', '', 'default', 0, 'QUEUED', 0, 0, ?)",
                (body,),
            )
        other.close()


@pytest.mark.chaos
class TestRabbitMQWithRedis(OverLedger, SUITE):
    kind = "redis"

    def plant(self, ledger: Ledger, url: str, body: bytes) -> None:
        assert isinstance(ledger, RedisBroker)
        row = ["planted", "", "default", 0, False, 0.0]
        ledger._run(scripts.SEND, row, stored=[body])


@pytest.mark.chaos
class TestRabbitMQWithPostgreSQL(OverLedger, SUITE):
    kind = "postgres"

    def plant(self, ledger: Ledger, url: str, body: bytes) -> None:
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "WITH t AS (INSERT INTO acked.task (id, name, queue, priority, sent, body)"
                " VALUES ('planted', '', 'default', 0, 0, %s) RETURNING seq)"
                " INSERT INTO acked.waiting (seq, due, priority, scheduled, queue)"
                " SELECT seq, 0, 0, false, 'default' FROM t",
                (body,),
            )


class Histories(BrokerStateMachine):
    """Each history has a virtual host and a ledger of its own."""

    servers: ClassVar[Servers]
    directory: ClassVar[Path]
    number: ClassVar[int] = 0
    ledger: ClassVar[str] = "sqlite"

    def make_broker(self, clock: Clock) -> RabbitMQBroker:
        Histories.number += 1
        directory = self.directory / str(Histories.number)
        directory.mkdir()
        place = self.servers.place("rabbitmq", directory, ledger=self.ledger)
        assert place.results is not None
        return OnASetClock(place.url, open_ledger(place.results, clock))


@pytest.fixture(scope="module")
def _histories(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> None:
    Histories.servers = servers
    Histories.directory = tmp_path_factory.mktemp("histories")


FEW = settings(Histories.TestCase.settings, max_examples=500 if LONG else 6)
"""In the short form each ledger runs its own histories in full, and one here takes seconds."""


class HistoriesOverRedis(Histories):
    """With its records in Redis."""

    ledger = "redis"


class HistoriesOverPostgreSQL(Histories):
    """With its records in PostgreSQL."""

    ledger = "postgres"


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("_histories")
class TestRabbitMQHistories(Histories.TestCase):
    settings = FEW


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("_histories")
class TestRabbitMQHistoriesOverRedis(HistoriesOverRedis.TestCase):
    settings = FEW


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("_histories")
class TestRabbitMQHistoriesOverPostgreSQL(HistoriesOverPostgreSQL.TestCase):
    settings = FEW
