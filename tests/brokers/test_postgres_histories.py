"""Random histories of PostgreSQL beside the pure model."""

from __future__ import annotations

from typing import ClassVar

import pytest

from acked.brokers.postgres import PostgresBroker
from acked.clock import Clock
from acked.testing import BrokerStateMachine
from tests.brokers.test_postgres import empty
from tests.harness.places import Servers


class PostgresHistories(BrokerStateMachine):
    url: ClassVar[str]

    def make_broker(self, clock: Clock) -> PostgresBroker:
        # One database for all histories, emptied for each.
        empty(self.url)
        return PostgresBroker(self.url, clock=clock)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
class TestPostgresHistories(PostgresHistories.TestCase):
    @pytest.fixture(autouse=True)
    def _place(self, servers: Servers) -> None:
        PostgresHistories.url = servers.get("postgres").fresh()
