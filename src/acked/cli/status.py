"""`acked status`."""

from __future__ import annotations

import contextlib
import sys
import time
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.live import Live

from acked.cli.exits import line_for
from acked.cli.output import write, write_json
from acked.cli.overview import overview
from acked.cli.render.blocks import Block, Line, on_terminal
from acked.cli.render.overview import overview_blocks
from acked.cli.source import Opened, Source, json_option, source_options, target_argument
from acked.errors import BrokerError

WATCH_INTERVAL = 1.0


@click.command()
@target_argument
@click.option("--watch", is_flag=True, help="Keep showing it, until Ctrl-C.")
@json_option
@source_options
@click.pass_obj
def status(source: Source, target: str | None, watch: bool, as_json: bool) -> None:
    """Queues, workers, and what runs now.

    For each queue: how many tasks are in each state, since when the oldest one waits, and how many
    live workers consume it. For each worker: where it is, what it consumes, how many tasks it has
    claimed, and what is left of its lease (it counts as dead when that runs out).

    \b
    Examples:
      acked -A shop:app status
      acked status --watch --broker sqlite:////srv/shop/shop.acked.db
      acked -A shop:app status --json | jq '.queues[] | select(.queued > 100)'
    """
    if watch and (as_json or not sys.stdout.isatty()):
        raise click.UsageError("--watch needs a terminal; scripts call status --json repeatedly")
    with source.open(target) as opened:
        if watch:
            _watch(opened)
        elif as_json:
            write_json(overview(opened.broker, opened.records, now=opened.broker.clock.now()))
        else:
            write(_blocks(opened))


def _blocks(opened: Opened) -> list[Block]:
    now = opened.broker.clock.now()
    seen = overview(opened.broker, opened.records, now=now)
    return overview_blocks(seen, datetime.fromtimestamp(now, UTC))


def _watch(opened: Opened) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            try:
                blocks = _blocks(opened)
            except BrokerError as error:
                # It may come back; who watches an outage wants to see its end.
                blocks = [Line(line_for(str(error)))]
            live.update(on_terminal(blocks), refresh=True)
            time.sleep(WATCH_INTERVAL)
