"""`acked worker`."""

from __future__ import annotations

import re
import socket
from typing import Any

import click

from acked.cli.celery_hints import WorkerCommand
from acked.cli.source import Source, app_option, split_names, target_argument
from acked.config import BROKER_URL_VARIABLE
from acked.worker.options import WorkerOptions
from acked.worker.supervisor import run

_KIB = {"": 1, "k": 1, "m": 1024, "g": 1024**2, "t": 1024**3}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?)?", re.IGNORECASE)

_REFUSED_POOLS = {
    "threads": "-P threads is --threads N here: threads live inside supervised processes, "
    "where the hard time limit can end them",
    "solo": "-P solo runs tasks in the worker's own process, where nothing could kill a task that "
    "hangs; -c 1 runs one at a time",
    "gevent": "-P gevent patches the standard library, and no time limit can hold in it; write "
    "the task as async def (--coroutines N at once), or use --threads N",
    "eventlet": "-P eventlet patches the standard library, and no time limit can hold in it; "
    "write the task as async def (--coroutines N at once), or use --threads N",
}


def _memory_size(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | None:
    """A size in KiB, as Celery takes it, or with a unit."""
    if value is None:
        return None
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is no size: write 300000 (KiB), 300MB or 2GB")
    size = int(float(match[1]) * _KIB[(match[2] or "").lower()])
    if size < 1:
        raise click.BadParameter(f"{value!r} is less than 1 KiB")
    return size


def _queues(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...] | None:
    return split_names(context, parameter, value) or None


def _pool(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and value in _REFUSED_POOLS:
        raise click.UsageError(_REFUSED_POOLS[value], context)


def _hostname(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Celery's ``%h``, ``%n`` and ``%d``: host, its first part, and the rest."""
    if value is None:
        return None
    host = socket.gethostname()
    name, _, domain = host.partition(".")
    expanded = value.replace("%h", host).replace("%n", name).replace("%d", domain)
    if not expanded or "/" in expanded:
        raise click.BadParameter(f"{expanded!r} must be a name without a slash")
    return expanded


_DEFAULTS = WorkerOptions()


@click.command(cls=WorkerCommand)
@target_argument
@click.option(
    "-Q", "--queues", multiple=True, metavar="NAME,...", callback=_queues,
    help="Queues to consume; earlier ones first.  [default: the app's default queue]",
)  # fmt: skip
@click.option(
    "-c", "--concurrency", type=click.IntRange(min=1), metavar="N",
    help="Task processes.  [default: one per CPU]",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(min=0), metavar="N",
    help="Threads in each process, for tasks that mostly wait. 0 runs tasks in the process's main "
    f"thread, one at a time.  [default: {_DEFAULTS.threads}]",
)  # fmt: skip
@click.option(
    "--coroutines", type=click.IntRange(min=1), metavar="N",
    help="async def tasks that run at once in each process.  "
    f"[default: {_DEFAULTS.coroutines}]",
)  # fmt: skip
@click.option(
    "--grace", type=click.FloatRange(min=0), metavar="SECONDS",
    help="What running tasks are given after SIGTERM. After that they are interrupted, and run "
    f"again elsewhere without losing a retry.  [default: {_DEFAULTS.grace:g}]",
)  # fmt: skip
@click.option(
    "--max-tasks-per-child", type=click.IntRange(min=1), metavar="N",
    help="Replace a process after N tasks.",
)  # fmt: skip
@click.option(
    "--max-memory-per-child", metavar="SIZE", callback=_memory_size,
    help="Replace a process, between tasks, once its resident memory is above SIZE: KiB as in "
    "Celery, or 300MB, 2GB (powers of 1024).",
)  # fmt: skip
@click.option(
    "-l", "--loglevel", metavar="LEVEL",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], case_sensitive=False),
    help="DEBUG, INFO, WARNING, ERROR or CRITICAL. INFO tells the end of each task.  "
    f"[default: {_DEFAULTS.loglevel}]",
)  # fmt: skip
@click.option(
    "--log-format", type=click.Choice(["text", "json"]),
    help=f"json writes one object per line.  [default: {_DEFAULTS.log_format}]",
)  # fmt: skip
@click.option(
    "-n", "--hostname", metavar="NAME", callback=_hostname,
    help="Name of the worker; %h, %n and %d stand for host, its first part, and its domain.  "
    "[default: the host's name]",
)  # fmt: skip
@click.option("--burst", is_flag=True, default=None, help="Stop once the queues are empty.")
@click.option(
    "-P", "--pool", metavar="POOL", callback=_pool, expose_value=False,
    type=click.Choice(["prefork", *_REFUSED_POOLS]),
    help="For Celery's command lines: prefork is taken, and is what always runs.",
)  # fmt: skip
@app_option
@click.pass_obj
def worker(source: Source, /, target: str | None, **given: Any) -> int:
    """Run tasks, until told to stop.

    MODULE:APP is what Python would import: shop:app is `app` in shop.py. The current directory is
    searched first. `acked -A shop:app worker` is the same.

    Each process runs one ordinary task at a time and many `async def` tasks at once. A process
    that dies is replaced, and its task runs again at once.

    \b
    Signals:
      SIGTERM, SIGINT         take no new tasks, give the running ones --grace seconds, stop
      SIGQUIT, SIGINT again   interrupt them now; they run again elsewhere
      SIGHUP                  replace the processes one by one, with the code as it is now

    \b
    Examples:
      acked worker shop:app
      acked -A shop:app worker -Q mails,default -c 8 -l INFO
      acked worker shop:app --burst --log-format json
    """
    if source.broker is not None:
        raise click.UsageError(
            f"a worker uses its app's broker, not --broker: set {BROKER_URL_VARIABLE}, "
            "or broker= in the app"
        )
    named = source.app_target(target)
    if named is None:
        raise click.UsageError("no app given: acked worker MODULE:APP, as in shop:app")
    options = WorkerOptions(**{name: value for name, value in given.items() if value is not None})
    try:
        return run(named, options)
    except BrokenPipeError as error:
        # Of one of its own pipes: not the reader of this command's output that has seen enough.
        raise RuntimeError("the worker lost a pipe to one of its processes") from error
