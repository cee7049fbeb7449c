"""What there is instead of the options and commands of Celery that acked does not have."""

from __future__ import annotations

import click

_BEAT = (
    "periodic tasks are not built in: call delay() from cron, or from a systemd timer, and start "
    "workers without -B"
)
_EVENTS = (
    "no event stream is needed: the broker's records hold every attempt, and status, list and "
    "show read them"
)
_OPTIMIZATION = "it is always fair: a worker claims as many tasks as will start at once"
_AUTOSCALE = "a worker keeps one number of processes, -c N; --threads and --coroutines add to it"

OPTIONS: dict[str, str] = {
    "-B": _BEAT,
    "--beat": _BEAT,
    "-E": _EVENTS,
    "--events": _EVENTS,
    "--task-events": _EVENTS,
    "-O": _OPTIMIZATION,
    "--optimization": _OPTIMIZATION,
    "--autoscale": _AUTOSCALE,
}
"""Of `celery worker`."""

COMMANDS: dict[str, str] = {
    "inspect": "acked ping says whether a worker lives, acked status what runs and who runs it; "
    "acked list and show tell of tasks",
    "control": "acked revoke, pause and resume act on the broker's records; signals stop or reload "
    "a worker",
    "beat": "periodic tasks are not built in: call delay() from cron, or from a systemd timer",
    "flower": "acked status --watch shows queues and workers, and acked show one task",
    "events": "acked status --watch shows what runs; acked show tells every attempt of a task",
    "result": "acked show ID tells the result of a task",
    "multi": "start each worker as a service of its own, under systemd for one",
}
"""Of `celery`."""


class WorkerCommand(click.Command):
    """Says what there is instead of an option of `OPTIONS`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = OPTIONS.get(error.option_name)
            if hint is None:
                raise
            raise click.UsageError(f"no option {error.option_name}: {hint}", ctx) from None


class RootGroup(click.Group):
    """Says what there is instead of a command of `COMMANDS`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if (hint := COMMANDS.get(args[0])) is not None:
            raise click.UsageError(f"no command {args[0]}: {hint}", ctx)
        return super().resolve_command(ctx, args)
