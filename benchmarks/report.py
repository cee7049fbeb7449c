"""What the benchmark prints: a table for each section, then the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Series, Target


@dataclass(frozen=True)
class Report:
    """What one section found.

    Args:
        title: Heading of its table.
        columns: The first names the rows.
        rows: Text, as wide as *columns*.
        targets: What it was to reach.
        series: Every figure of every round, for `--json`.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target]
    series: dict[str, Series]

    def show(self, console: Console) -> None:
        table = Table(title=self.title, title_justify="left", title_style="bold")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def as_json(self) -> dict[str, Any]:
        """Plain values: each figure of each round, and the targets."""
        return {
            "title": self.title,
            "figures": {name: series.values for name, series in self.series.items()},
            "targets": [asdict(target) | {"met": target.met} for target in self.targets],
        }


def show_targets(console: Console, reports: Sequence[Report]) -> None:
    """One line for each target, the missed ones in plain sight."""
    targets = [target for report in reports for target in report.targets]
    if not targets:
        return
    console.print("Targets", style="bold")
    for target in targets:
        console.print(f"  {target.text()}", style=None if target.met else "red", soft_wrap=True)
    missed = sum(not target.met for target in targets)
    console.print(f"{len(targets) - missed} of {len(targets)} targets met", style="bold")
