"""`acked migrate`."""

from __future__ import annotations

import click

from acked.broker import Migrates
from acked.cli.exits import Exit
from acked.cli.output import say, write_json
from acked.cli.source import Source, json_option, source_options, target_argument


@click.command()
@target_argument
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 where something is due.")
@json_option
@source_options
@click.pass_obj
def migrate(source: Source, target: str | None, check: bool, as_json: bool) -> int:
    """Make the tables of the broker's database, or bring them up to date.

    PostgreSQL needs it once before the first use, and after an upgrade of acked that says so. Until
    then workers and producers refuse to start. Each step is one transaction; several that run it at
    once do each step once. Other brokers need none.

    \b
    Examples:
      acked -A shop:app migrate
      acked migrate --check --broker postgresql://shop@db.example.com/shop
    """
    with source.open_unprepared(target) as broker:
        migrates = isinstance(broker, Migrates)
        applied = broker.migrate() if isinstance(broker, Migrates) and not check else []
        pending = broker.pending() if isinstance(broker, Migrates) and check else []
        url = broker.url
    if as_json:
        write_json({"broker": url, "applied": applied, "pending": pending})
    else:
        for name in applied or pending:
            click.echo(name)
        if not migrates:
            say(f"there is nothing to migrate in {url}: it makes its own tables")
        elif check:
            say(f"{len(pending)} due: run acked migrate" if pending else "everything is up to date")
        else:
            say(f"{len(applied)} applied" if applied else "everything was up to date")
    return Exit.FAILED if pending else Exit.FINE
