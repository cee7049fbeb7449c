"""The two forms of a test with faults: short in ``make test``, long in ``make chaos``."""

from __future__ import annotations

import os

LEASES = {"rabbitmq": (10.0, 2.0)}
"""Lease and heartbeat of hosts that vanish, where they are not `SHORT_LEASE`. RabbitMQ has to
notice by its own heartbeats that a consumer is gone, to whom it would give what restarts; they are
made for the lease that is the default."""

SHORT_LEASE = 2.0, 0.5
"""Lease and heartbeat, seconds."""

LONG = os.environ.get("ACKED_LONG") == "1"
EVERYWHERE = LONG or os.environ.get("ACKED_EVERYWHERE") == "1"
"""On every broker, also what the short form has on some alone (``make kills``)."""

LEASE = 4.0
"""Seconds of the lease in tests that set no other."""


def sizes(short: int, long: int) -> int:
    """How much of something there is, in this run's form."""
    return long if LONG else short


def report(name: str, verdict: object) -> None:
    """Print what was found, for those who look (``pytest -s``)."""
    print(f"\n{name}: {verdict}")
