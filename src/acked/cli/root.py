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
from acked.cli.source import Source, app_first, source_options
from acked.cli.status import status
from acked.cli.tasks import list_, show
from acked.cli.worker import worker

VERSION = installed_version("acked")


class AckedGroup(RootGroup):
    """Takes the app as first argument of every command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        parameters = {} if command is None else {each.name: each for each in command.params}
        if "app" in parameters and "target" not in parameters:
            takes_more = any(isinstance(each, click.Argument) for each in parameters.values())
            if not takes_more or len(rest) > 1:
                rest = app_first(ctx.find_object(Source), rest)
        return name, command, rest


@click.group(
    cls=AckedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=exits.table(),
)
@click.version_option(VERSION, message="acked %(version)s")
@source_options
@click.pass_context
def root(context: click.Context) -> None:
    """Run and watch tasks that finish what they started.

    The app is given as MODULE:APP, by -A before or after the command, as the first argument after
    it, or by ACKED_APP. Who operates without the code gives --broker URL, or ACKED_BROKER_URL.

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
