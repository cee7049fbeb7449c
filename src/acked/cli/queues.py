"""`acked purge`, `pause` and `resume`."""

from __future__ import annotations

import click

from acked.broker import QueueCounts, Records
from acked.cli.exits import Exit, Stop
from acked.cli.output import confirmed, say
from acked.cli.source import Source, source_options, split_names, yes_or_force_option
from acked.cli.wording import counted
from acked.escaping import one_line


@click.command()
@click.option(
    "-Q", "--queue", "queues", multiple=True, metavar="NAME,...", callback=split_names,
    help="These queues; repeatable.",
)  # fmt: skip
@click.option("--all", "every", is_flag=True, help="Every queue.")
@yes_or_force_option
@source_options
@click.pass_obj
def purge(source: Source, queues: tuple[str, ...], every: bool, yes: bool) -> None:
    """Delete every waiting task of a queue.

    Queued and scheduled tasks are gone for good, those that wait for a retry included. Running and
    finished ones stay. It refuses to guess: say which queues, and confirm.

    \b
    Examples:
      acked -A shop:app purge --queue emails
      acked -A shop:app purge --all --yes
    """
    if bool(queues) == every:
        raise click.UsageError(
            "purge deletes tasks for good: give either --queue NAME, or --all for every queue"
        )
    with source.open(makes=True) as opened:
        chosen = _chosen(opened.records, queues)
        waiting = sum(_waiting(counts) for counts in chosen)
        if not waiting:
            click.echo("nothing waits there")
            return
        for counts in chosen:
            say(f"  {_waiting(counts):>8}  {one_line(counts.queue)}")
        if not confirmed(
            f"Delete {counted(waiting, 'task', 'waiting')} of {opened.broker.url}?", yes
        ):
            raise Stop("nothing was deleted", Exit.FAILED)
        deleted = sum(opened.records.purge(counts.queue) for counts in chosen)
        click.echo(f"deleted {counted(deleted, 'task', 'waiting')}")


def _chosen(records: Records, queues: tuple[str, ...]) -> list[QueueCounts]:
    known = {counts.queue: counts for counts in records.counts()}
    if not queues:
        return list(known.values())
    if missing := [queue for queue in queues if queue not in known]:
        raise Stop(f"no queue {', '.join(map(repr, missing))}: {_known(known)}", Exit.NOT_FOUND)
    return [known[queue] for queue in dict.fromkeys(queues)]


def _known(names: dict[str, QueueCounts]) -> str:
    return f"there are {', '.join(map(repr, names))}" if names else "there are no tasks at all"


def _waiting(counts: QueueCounts) -> int:
    return counts.queued + counts.scheduled


@click.command()
@click.argument("queue")
@source_options
@click.pass_obj
def pause(source: Source, queue: str) -> None:
    """Let no worker start tasks of QUEUE until it is resumed.

    What runs goes on, and tasks can still be sent. It holds for every worker, and across restarts.

    \b
    Example:
      acked -A shop:app pause emails
    """
    with source.open(makes=True) as opened:
        known = {counts.queue for counts in opened.records.counts()}
        opened.records.pause(queue)
    click.echo(f"paused {queue}")
    if queue not in known:
        say(f"note: no task was ever in a queue {queue!r} here")


@click.command()
@click.argument("queue")
@source_options
@click.pass_obj
def resume(source: Source, queue: str) -> None:
    """Let workers start tasks of QUEUE again.

    \b
    Example:
      acked -A shop:app resume emails
    """
    with source.open() as opened:
        paused = {counts.queue for counts in opened.records.counts() if counts.paused}
        opened.records.resume(queue)
    click.echo(f"resumed {queue}")
    if queue not in paused:
        say(f"note: {queue!r} was not paused")
