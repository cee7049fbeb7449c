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

_CRON = "periodic tasks are not built in: call delay() from cron, or from a systemd timer"
_LIMITS = "a task has its limit, @app.task({0}=...), or all have one, Acked(..., task_{0}=...)"
_NO_PREFETCH = "a worker claims as many tasks as will start at once"
_PURGE = "acked purge --queue NAME deletes what waits, before a worker is started"
_QUEUES = "-Q names the queues that are wanted"
_IMPORTS = "start the worker with the module that imports all your tasks: acked worker scans:app"
_LOGFILE = "a worker logs to standard error: 2>>FILE, or the journal of systemd"
_NO_TALK = "workers do not talk to each other: leave it out"
_HEARTBEAT = "the settings heartbeat and lease say how a worker shows that it lives"
_SERVICE = "a worker stays in the foreground: start it as a service, under systemd for one"
_OF_THE_SERVICE = (
    "what starts the worker says it: User=, Group=, UMask=, WorkingDirectory= of systemd"
)
_STATE = "what is revoked stands in the broker's records"

OPTIONS: dict[str, str] = {
    "-B": _BEAT,
    "--beat": _BEAT,
    "-s": _CRON,
    "--schedule": _CRON,
    "--schedule-filename": _CRON,
    "--scheduler": _CRON,
    "-E": _EVENTS,
    "--events": _EVENTS,
    "--task-events": _EVENTS,
    "-O": _OPTIMIZATION,
    "--optimization": _OPTIMIZATION,
    "--prefetch-multiplier": _NO_PREFETCH,
    "--disable-prefetch": _NO_PREFETCH,
    "--autoscale": _AUTOSCALE,
    "--time-limit": _LIMITS.format("time_limit"),
    "--soft-time-limit": _LIMITS.format("soft_time_limit"),
    "--purge": _PURGE,
    "--discard": _PURGE,
    "-X": _QUEUES,
    "--exclude-queues": _QUEUES,
    "-I": _IMPORTS,
    "--include": _IMPORTS,
    "-f": _LOGFILE,
    "--logfile": _LOGFILE,
    "--without-gossip": _NO_TALK,
    "--without-mingle": _NO_TALK,
    "--without-heartbeat": _HEARTBEAT,
    "--heartbeat-interval": _HEARTBEAT,
    "-S": _STATE,
    "--statedb": _STATE,
    "-D": _SERVICE,
    "--detach": _SERVICE,
    "--pidfile": _SERVICE,
    "--uid": _OF_THE_SERVICE,
    "--gid": _OF_THE_SERVICE,
    "--umask": _OF_THE_SERVICE,
    "--workdir": _OF_THE_SERVICE,
}
"""Of `celery worker`, and of `celery` before it."""

COMMANDS: dict[str, str] = {
    "inspect": "acked ping says whether a worker lives, acked status what runs and who runs it; "
    "acked list and show tell of tasks",
    "control": "acked revoke, pause and resume act on the broker's records; signals stop or reload "
    "a worker",
    "beat": _CRON,
    "flower": "acked status --watch shows queues and workers, and acked show one task",
    "events": "acked status --watch shows what runs; acked show tells every attempt of a task",
    "result": "acked show ID tells the result of a task",
    "multi": "start each worker as a service of its own, under systemd for one",
    "call": "app.send_task(NAME, args) sends a task by its name, in a line of Python",
    "shell": "import your application in a shell of Python's",
    "report": "acked version and acked doctor say what is there and whether it can work",
    "amqp": "rabbitmqctl and rabbitmqadmin of RabbitMQ look at its queues",
    "graph": "acked status shows queues and workers",
    "upgrade": "Acked(...) takes Celery's settings in lower case, and says what each other one is",
    "logtool": "acked worker --log-format json writes lines for the tools that read logs",
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


class RootGroup(WorkerCommand, click.Group):
    """Says what there is instead of a command of `COMMANDS`, and of an option before it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if (hint := COMMANDS.get(args[0])) is not None:
            raise click.UsageError(f"no command {args[0]}: {hint}", ctx)
        return super().resolve_command(ctx, args)
