"""The conformance suite: what `acked.broker` promises, one test for each promise."""

from __future__ import annotations

from acked.testing.claiming import ClaimingPromises
from acked.testing.leases import LeasePromises
from acked.testing.ledger import LedgerPromises
from acked.testing.operating import OperatingPromises
from acked.testing.reading import ReadingPromises
from acked.testing.sending import SendingPromises
from acked.testing.settling import SettlingPromises
from acked.testing.waiting import WaitingPromises


class BrokerConformance(
    SendingPromises,
    ClaimingPromises,
    SettlingPromises,
    LeasePromises,
    OperatingPromises,
    ReadingPromises,
    WaitingPromises,
):
    """Subclass it, give `make_broker` and `plant_raw`, and get every promise tested.

    ::

    class TestMyBroker(BrokerConformance):
        def make_broker(self, clock):
            return MyBroker(clock=clock)

        def plant_raw(self, broker, body):
            ...
    """


class LedgerConformance(BrokerConformance, LedgerPromises):
    """The same, and the promises of an engine that can keep the records for RabbitMQ."""
