"""Random histories of PostgreSQL beside the pure model."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest
from hypothesis import settings

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


LONG = os.environ.get("ACKED_LONG") == "1"

FEW = settings(PostgresHistories.TestCase.settings, max_examples=500 if LONG else 20)
"""In the short form, as emptying the database takes most of the time."""


@pytest.mark.chaos
@pytest.mark.timeout(3600)
class TestPostgresHistories(PostgresHistories.TestCase):
    settings = FEW

    @pytest.fixture(autouse=True)
    def _place(self, servers: Servers) -> None:
        PostgresHistories.url = servers.get("postgres").fresh()
