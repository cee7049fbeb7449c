"""Figures taken once in each round: their median, their spread, their ratio, their target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """One figure, once per round, in the order of the rounds."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Series:
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def over(self, other: Series) -> Series:
        """The ratio within each round, so that what slows a whole round down drops out."""
        return Series.of([mine / its for mine, its in zip(self.values, other.values, strict=True)])

    @classmethod
    def best(cls, several: Sequence[Series]) -> Series:
        """The largest of *several* in each round."""
        return cls.of(
            [max(values) for values in zip(*(one.values for one in several), strict=True)]
        )

    def text(self, digits: int = 0, *, factor: float = 1.0) -> str:
        """Median, and in brackets smallest and largest."""
        median, low, high = (
            f"{value * factor:,.{digits}f}"
            for value in (self.median, min(self.values), max(self.values))
        )
        return median if len(self.values) == 1 else f"{median} ({low}-{high})"


@dataclass(frozen=True)
class Target:
    """What a figure is wanted to be, and what it was.

    Args:
        what: The figure.
        wanted, measured: In the same unit.
        unit: Written behind both.
        at_most: Smaller is better.
    """

    what: str
    wanted: float
    measured: float
    unit: str = ""
    at_most: bool = False

    @property
    def met(self) -> bool:
        if self.at_most:
            return self.measured <= self.wanted
        return self.measured >= self.wanted

    def text(self) -> str:
        """One line that says plainly whether it is met, and if not, by how much it is missed."""
        bound = "at most" if self.at_most else "at least"
        line = (
            f"{self.what}: target {bound} {_number(self.wanted)}{self.unit},"
            f" measured {_number(self.measured)}{self.unit}"
        )
        if self.met:
            return f"met     {line}"
        short = abs(self.measured - self.wanted) / self.wanted
        return f"MISSED  {line} ({short:.0%} {'over' if self.at_most else 'short'})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which *share* (0 to 1) of *values* lie; the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
