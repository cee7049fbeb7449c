"""The few shapes that output is made of, and their two forms: rich on a terminal, and plain text
(tabs, no colour, no drawing) in a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from acked.cli.render.grid import Drawn
from acked.escaping import indented, one_line

STYLES = {
    "SUCCESS": "green", "success": "green", "ok": "green",
    "RUNNING": "cyan", "running": "cyan", "info": "cyan",
    "FAILURE": "bold red", "failure": "bold red", "fail": "bold red", "dead": "bold red",
    "REVOKED": "magenta", "revoked": "magenta",
    "retry": "yellow", "lost": "yellow", "interrupted": "yellow", "put back": "yellow",
    "warn": "yellow", "paused": "yellow", "SCHEDULED": "blue",
}  # fmt: skip
"""Styles of cells, by what they say."""


class Grid(msgspec.Struct, frozen=True):
    """A table. On a terminal a column with nothing in it is left out.

    Args:
        title: Above it, on a terminal.
        columns: Headings; one that starts with ``>`` is aligned to the right.
        rows: Cells, one line each.
        empty: What a terminal shows when there are no rows; nothing at all where it is "".
        prose: The last column is text that may wrap; a terminal wraps no other.
        sparse: Headings of columns that a terminal leaves out where they hold nothing but ``0``.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    empty: str = "none"
    prose: bool = False
    sparse: frozenset[str] = frozenset()


class Facts(msgspec.Struct, frozen=True):
    """Names and what they stand for, one per line."""

    rows: Sequence[tuple[str, str]]


class Line(msgspec.Struct, frozen=True):
    """One line of text."""

    text: str


class Passage(msgspec.Struct, frozen=True):
    """Text with lines of its own, such as a traceback."""

    heading: str
    text: str


Block = Grid | Facts | Line | Passage


def show(blocks: Sequence[Block], stream: TextIO) -> None:
    """Write *blocks*, in the form that suits *stream*."""
    if stream.isatty():
        Console(file=stream, highlight=False, markup=False, emoji=False).print(
            # What is too wide is for the terminal to wrap, not to be cut.
            on_terminal(blocks),
            crop=False,
        )
    else:
        stream.write(plain(blocks))


def plain(blocks: Sequence[Block]) -> str:
    """*blocks* as plain text, a blank line between them; adjacent lines stay together."""
    text = ""
    previous: Block | None = None
    for block in blocks:
        together = isinstance(block, Line) and isinstance(previous, Line)
        if previous is not None and not together:
            text += "\n"
        text += _plain(block)
        previous = block
    return text


def _plain(block: Block) -> str:
    match block:
        case Grid(columns=columns, rows=rows):
            heading = [column.removeprefix(">") for column in columns]
            return "".join(_tabbed(row) for row in (heading, *rows))
        case Facts(rows=rows):
            return "".join(_tabbed(row) for row in rows)
        case Line(text=text):
            return one_line(text) + "\n"
        case Passage(heading=heading, text=text):
            return f"{one_line(heading)}\n{indented(text.rstrip())}\n"


def _tabbed(cells: Iterable[str]) -> str:
    return "\t".join(map(one_line, cells)) + "\n"


def on_terminal(blocks: Sequence[Block]) -> RenderableType:
    """*blocks* for rich."""
    return Group(*map(_rich, blocks))


def _rich(block: Block) -> RenderableType:
    match block:
        case Grid(title=title, rows=rows, empty=empty) if not rows:
            if not empty:
                return Group()
            return Text.assemble((f"{one_line(title)}: " if title else "", "bold"), (empty, "dim"))
        case Grid():
            return Group(_drawn(block), Text(""))
        case Facts(rows=rows):
            facts = Table.grid(padding=(0, 2, 0, 0))
            facts.add_column(style="dim", no_wrap=True)
            facts.add_column(overflow="fold")
            for name, value in rows:
                facts.add_row(Text(one_line(name)), _cell(value))
            return Group(facts, Text(""))
        case Line(text=text):
            return Text(one_line(text))
        case Passage(heading=heading, text=text):
            return Group(Text(one_line(heading), "bold"), Text(indented(text.rstrip())), Text(""))


def _drawn(grid: Grid) -> Drawn:
    def holds(at: int) -> bool:
        nothing = ("", "0") if grid.columns[at] in grid.sparse else ("",)
        return any(row[at] not in nothing for row in grid.rows)

    kept = [at for at in range(len(grid.columns)) if holds(at)]
    return Drawn(
        title=one_line(grid.title),
        headings=[grid.columns[at].removeprefix(">") for at in kept],
        right=[grid.columns[at].startswith(">") for at in kept],
        rows=[[_cell(row[at]) for at in kept] for row in grid.rows],
        prose=grid.prose and len(kept) > 1 and kept[-1] == len(grid.columns) - 1,
    )


def _cell(text: str) -> Text:
    return Text(one_line(text), STYLES.get(text, ""))
