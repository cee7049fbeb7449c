"""`acked ping`: for probes of service managers and containers."""

from __future__ import annotations

import socket

import click

from acked.broker import WorkerRecord
from acked.cli.exits import Exit
from acked.cli.output import write, write_json
from acked.cli.render.blocks import Line
from acked.cli.source import Source, json_option, source_options, target_argument
from acked.escaping import one_line


@click.command()
@target_argument
@click.option("--any-host", is_flag=True, help="Any worker will do, wherever it runs.")
@json_option
@source_options
@click.pass_obj
def ping(source: Source, target: str | None, any_host: bool, as_json: bool) -> Exit:
    """Say whether a worker of this host is alive: exit code 0 if one is, 1 if none.

    A worker is alive while its heartbeat reaches the broker: what is asked is the broker, so a
    worker that has lost it counts as dead. With --broker the app is not imported, which takes a
    probe less time.

    \b
    Examples:
      acked ping shop:app
      acked ping --broker redis://redis:6379/0 --any-host
    """
    host = socket.gethostname()
    with source.open(target) as opened:
        alive = [
            each
            for each in opened.records.workers()
            if each.lease_left > 0 and (any_host or each.host == host)
        ]
    where = "anywhere" if any_host else f"on {host}"
    if as_json:
        write_json([_about(each) for each in alive])
    elif alive:
        write(
            [
                Line(one_line(f"{each.worker}: alive, lease {each.lease_left:.1f} s"))
                for each in alive
            ]
        )
    else:
        write([Line(f"no worker is alive {where}")])
    return Exit.FINE if alive else Exit.FAILED


def _about(worker: WorkerRecord) -> dict[str, object]:
    return {"worker": worker.worker, "host": worker.host, "lease_left": worker.lease_left}
