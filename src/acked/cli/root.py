"""The command `acked` and what belongs to it."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed_version

import apsw
import click

from acked.cli import exits
from acked.cli.celery_hints import RootGroup
from acked.cli.dashboard import dashboard
from acked.cli.doctor import doctor
from acked.cli.migrate import migrate
from acked.cli.operate import discard, retry, revoke
from acked.cli.ping import ping
from acked.cli.queues import pause, purge, resume
from acked.cli.source import Source, source_options
from acked.cli.status import status
from acked.cli.tasks import list_, show
from acked.cli.worker import worker

VERSION = installed_version("acked")


@click.group(
    cls=RootGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=exits.table(),
)
@click.version_option(VERSION, message="acked %(version)s")
@source_options
@click.pass_context
def root(context: click.Context) -> None:
    """Run and watch tasks that finish what they started.

    The app is given as MODULE:APP, by -A before or after the command, as an argument of worker,
    dashboard, status, list and doctor, or by ACKED_APP. Who operates without the code gives
    --broker URL, or ACKED_BROKER_URL.

    \b
    Examples:
      acked worker shop:app                run its tasks
      acked -A shop:app status --watch     see what they do
      acked -A shop:app show 9b1fa0c2d345  one task's whole story

    Output is a table on a terminal and tab-separated text in a pipe; --json is for scripts. Errors
    are one line on standard error; ACKED_DEBUG=1 adds the traceback.
    """
    context.ensure_object(Source)


@click.command()
def version() -> None:
    """The versions of acked, Python and SQLite."""
    click.echo(
        f"acked {VERSION} (Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()})"
    )


for command in (
    worker, dashboard, status, list_, show, retry, revoke, discard, purge, pause, resume, ping,
    doctor, migrate, version,
):  # fmt: skip
    root.add_command(command)
