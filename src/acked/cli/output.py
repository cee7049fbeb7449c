"""Writing to standard output: JSON for scripts, blocks for people, and questions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from acked.cli.exits import Exit, Stop
from acked.cli.render.blocks import Block, show


def write_json(data: Any) -> None:
    """*data* as JSON; times are ISO 8601 in UTC."""
    text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode()
    sys.stdout.write(text + "\n")


def write(blocks: Sequence[Block]) -> None:
    """*blocks* in the form that suits standard output."""
    show(blocks, sys.stdout)


def say(text: str) -> None:
    """A remark that is not the output: on standard error."""
    click.echo(text, err=True)


def confirmed(question: str, yes: bool) -> bool:
    """Whether the operator agrees; *yes* is their ``--yes``.

    Raises:
        Stop: There is no terminal to ask at.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Stop(f"{question} There is no terminal to ask at: give --yes", Exit.USAGE)
    return click.confirm(question, err=True)
