"""The two forms of a test with faults: short in ``make test``, long in ``make chaos``."""

from __future__ import annotations

import os

LONG = os.environ.get("ACKED_LONG") == "1"
LEASE = 4.0
"""Seconds of the lease in tests that set no other."""


def sizes(short: int, long: int) -> int:
    """How much of something there is, in this run's form."""
    return long if LONG else short


def report(name: str, verdict: object) -> None:
    """Print what was found, for those who look (``pytest -s``)."""
    print(f"\n{name}: {verdict}")
