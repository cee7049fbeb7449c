"""A table on a terminal: its names, ids and times stay whole, and only its last column wraps."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

GAP = 2
"""Blanks between columns, and before prose that is below its row."""

BESIDE = 24
"""Characters that prose needs beside its row; with less, and if it is longer, it goes below."""


class Drawn(msgspec.Struct, frozen=True):
    """Cells that are ready to be drawn.

    Args:
        title: Above the table; empty for none.
        headings: Of the columns.
        right: Whether each column is aligned to the right.
        rows: Cells, one line each.
        prose: The last column may wrap. What is wider than the terminal otherwise is left to the
            terminal, since a cut name is no use in the next command.
    """

    title: str
    headings: Sequence[str]
    right: Sequence[bool]
    rows: Sequence[Sequence[Text]]
    prose: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [
            max(cell_len(heading), *(row[at].cell_len for row in self.rows))
            for at, heading in enumerate(self.headings)
        ]
        below = False
        if self.prose:
            left = options.max_width - sum(widths[:-1]) - GAP * (len(widths) - 1)
            below = left < min(BESIDE, widths[-1])
            widths[-1] = max(1, min(widths[-1], left))
        shown = len(widths) - below
        lines = [Text(self.title, "bold")] if self.title else []
        lines.append(
            self._line([Text(heading, "bold") for heading in self.headings], widths[:shown])
        )
        lines.append(Text("─" * min(options.max_width, sum(widths[:shown]) + GAP * (shown - 1))))
        for row in self.rows:
            if not self.prose:
                lines.append(self._line(row, widths))
            elif below:
                lines.append(self._line(row, widths[:-1]))
                lines += _indented(_wrapped(console, row[-1], options.max_width - GAP), GAP)
            else:
                first, *rest = _wrapped(console, row[-1], widths[-1]) or [Text("")]
                lines.append(self._line([*row[:-1], first], widths))
                lines += _indented(rest, sum(widths[:-1]) + GAP * (len(widths) - 1))
        for line in lines:
            line.no_wrap, line.overflow = True, "ignore"
            yield line

    def _line(self, cells: Sequence[Text], widths: Sequence[int]) -> Text:
        line = Text()
        for cell, width, right in zip(cells, widths, self.right, strict=False):
            blanks = " " * (width - cell.cell_len)
            line.append(blanks if right else "").append_text(cell)
            line.append(("" if right else blanks) + " " * GAP)
        line.rstrip()
        return line


def _wrapped(console: Console, text: Text, width: int) -> list[Text]:
    lines = list(text.wrap(console, max(1, width))) if text.plain else []
    for line in lines:
        line.rstrip()
    return lines


def _indented(lines: Sequence[Text], by: int) -> list[Text]:
    return [Text(" " * by).append_text(line) for line in lines]
