"""Percentiles of times."""

from __future__ import annotations

import msgspec

SHARES = (0.5, 0.95, 0.99)
"""The percentiles that are shown."""


class Times(msgspec.Struct, frozen=True):
    """Percentiles of a time by `SHARES`, seconds; None where nothing was measured."""

    shares: tuple[float | None, ...]

    @property
    def p50(self) -> float | None:
        """The median."""
        return self.shares[0]

    @property
    def p95(self) -> float | None:
        """What 95 of 100 did not exceed."""
        return self.shares[1]
