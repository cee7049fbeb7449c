"""What every test shares: how long Hypothesis searches, and the servers of the session."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.harness.places import Servers

# Slow machines are no failures, hence no deadline and no check of speed.
settings.register_profile(
    "short", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", settings.get_profile("short"), max_examples=5000)
settings.load_profile("long" if os.environ.get("ACKED_LONG") == "1" else "short")


LONGEST = ("worker", "brokers", "pages", "dashboard")
"""Directories whose files take longest, the longest first: where several processes share the files,
none is left to run one of these alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        directory = item.path.parent.name
        return LONGEST.index(directory) if directory in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Private servers, started when they are first asked for and gone with the session."""
    servers = Servers()
    # For the ends of a session that run no fixture's second half.
    atexit.register(servers.stop)
    yield servers
    servers.stop()
