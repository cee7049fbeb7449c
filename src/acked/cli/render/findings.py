"""`acked doctor` as blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from acked.cli.checks.finding import Finding
from acked.cli.render.blocks import Block, Grid, Line


def findings_blocks(findings: Sequence[Finding]) -> list[Block]:
    """*findings* in order, and how many there are of each level."""
    rows = [
        (
            each.level, each.check, each.text, each.remedy,
        )
        for each in findings
    ]  # fmt: skip
    counts: Counter[str] = Counter(each.level for each in findings)
    levels = ("fail", "warn", "info", "ok")
    summary = ", ".join(f"{counts[level]} {level}" for level in levels if counts[level])
    return [Grid("", ("level", "check", "finding", "remedy"), rows, prose=True), Line(summary)]
