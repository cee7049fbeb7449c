"""`acked retry`, `revoke` and `discard`: acting on tasks by id, or on many by what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import click

from acked.broker import Records
from acked.cli.exits import Exit, Stop
from acked.cli.finding import Query, find, resolve
from acked.cli.output import confirmed, say
from acked.cli.source import Source, source_options, yes_option
from acked.cli.tasks import queue_option, task_option
from acked.cli.wording import counted
from acked.delivery import FINAL, TRANSITIONS, Event, State
from acked.escaping import one_line
from acked.record import Record

CHUNK = 500
"""Tasks per write, so that a large requeue does not hold the broker up."""

_REQUEUED = tuple(sorted(state for state in State if Event.REQUEUE in TRANSITIONS[state]))
_UNFINISHED = frozenset(State) - FINAL
_DISCARDED = frozenset(State) - {State.RUNNING}

ids_argument = click.argument("task_ids", metavar="ID...", nargs=-1, required=True)


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every task that the options below ask for.")
@click.option(
    "--state", "states", multiple=True, metavar="STATE",
    type=click.Choice([state.value for state in _REQUEUED], case_sensitive=False),
    help="With --all: in this state, FAILURE or REVOKED; repeatable.  [default: FAILURE]",
)  # fmt: skip
@queue_option
@task_option
@click.option("--reason", metavar="TEXT", default="", help="Whose reason contains TEXT.")
@yes_option
@source_options
@click.pass_obj
def retry(
    source: Source, task_ids: tuple[str, ...], every: bool, states: tuple[str, ...],
    queue: str | None, task: str | None, reason: str, yes: bool,
) -> None:  # fmt: skip
    """Run tasks that finished without success again.

    They keep their id, arguments, history and checkpoint, and get all their retries back. ID may
    be cut to any 6 or more characters of its beginning or end that no other task has.

    \b
    Examples:
      acked -A shop:app retry 9b1fa0c2d345
      acked -A shop:app retry --all --task shop.scan --reason "HTTP 503"
      acked -A shop:app retry --all --state FAILURE --yes
    """
    if bool(task_ids) == every:
        raise click.UsageError("give either ids or --all")
    if not every and (states or queue or task or reason):
        raise click.UsageError("give --all with --state, --queue, --task or --reason, and no ids")
    with source.open() as opened:
        records = opened.records
        if not every:
            found = _resolved(records, task_ids)
            _act(found, _REQUEUED, records.requeue, "requeued")
            return
        query = Query(
            states=states or (State.FAILURE.value,), queue=queue, task=task, reason=reason
        )
        # Collected first: what is requeued may fail again, and would then be found once more.
        ids: list[str] = []
        names: Counter[str] = Counter()
        for record in find(records, query):
            ids.append(record.id)
            names[record.task] += 1
        if not ids:
            raise Stop("no task fits: nothing was requeued", Exit.FAILED)
        for name, count in names.most_common():
            say(f"  {count:>8}  {one_line(name)}")
        if not confirmed(f"Requeue {counted(len(ids), 'task')}?", yes):
            raise Stop("nothing was requeued", Exit.FAILED)
        click.echo(f"requeued {counted(_in_chunks(ids, records.requeue), 'task')}")


@click.command()
@ids_argument
@click.option("--terminate", is_flag=True, help="Also stop it where it runs, at once.")
@source_options
@click.pass_obj
def revoke(source: Source, task_ids: tuple[str, ...], terminate: bool) -> None:
    """Take tasks back for good.

    A waiting task ends as REVOKED at once, whether or not a worker is up. A running one finishes
    its attempt and is not run again; with --terminate it is stopped: a coroutine is cancelled, and
    otherwise the process is killed. Whatever else ran in that process is run again.

    \b
    Examples:
      acked -A shop:app revoke 9b1fa0c2d345 77aa0e10bc11
      acked -A shop:app revoke --terminate 9b1fa0c2d345
    """
    with source.open() as opened:
        records = opened.records

        def act(ids: Sequence[str]) -> int:
            return records.revoke(ids, terminate=terminate)

        chosen = _resolved(records, task_ids)

        def tell(count: int) -> None:
            # Asked afterwards: one that was waiting may have been claimed meanwhile.
            marked = [records.get(each.id) for each in chosen]
            running = sum(each is not None and each.state is State.RUNNING for each in marked)
            if count > running:
                click.echo(f"revoked {counted(count - running, 'task')}")
            if running:
                verb = "is" if running == 1 else "are"
                click.echo(
                    f"{counted(running, 'task')} {verb} running and will "
                    + (
                        "be stopped"
                        if terminate
                        else f"finish; --terminate stops {'it' if running == 1 else 'them'}"
                    )
                )

        _act(chosen, _UNFINISHED, act, "revoked", tell)


@click.command()
@ids_argument
@source_options
@click.pass_obj
def discard(source: Source, task_ids: tuple[str, ...]) -> None:
    """Delete tasks with their history and result.

    A running task is not deleted: revoke it first. To empty a queue, see purge.

    \b
    Example:
      acked -A shop:app discard 9b1fa0c2d345
    """
    with source.open() as opened:
        records = opened.records
        _act(_resolved(records, task_ids), _DISCARDED, records.discard, "discarded")


def _resolved(records: Records, parts: Sequence[str]) -> list[Record]:
    """The tasks that *parts* name, each once. All of them are found before any is touched."""
    found = {record.id: record for record in (resolve(records, part) for part in parts)}
    return list(found.values())


def _act(
    chosen: Sequence[Record],
    allowed: Sequence[State] | frozenset[State],
    act: Callable[[Sequence[str]], int],
    done: str,
    tell: Callable[[int], None] | None = None,
) -> None:
    """Do it to those whose state allows it, and name the others.

    Args:
        tell: Says to how many it was done, where *done* alone does not.

    Raises:
        Stop: Some were left out.
    """
    count = _in_chunks([record.id for record in chosen if record.state in allowed], act)
    left = [record for record in chosen if record.state not in allowed]
    if count and tell is not None:
        tell(count)
    elif count:
        click.echo(f"{done} {counted(count, 'task')}")
    if left:
        states = ", ".join(sorted(state.value for state in allowed))
        raise Stop(
            f"{counted(len(left), 'task')} not {done}: only tasks that are {states} can be",
            Exit.FAILED,
            tuple(f"  {each.id}  {each.task}  {each.state.value}" for each in left[:20]),
        )
    if count < len(chosen):
        raise Stop(
            f"{counted(len(chosen) - count, 'task')} not {done}: they changed meanwhile",
            Exit.FAILED,
        )


def _in_chunks(ids: Sequence[str], act: Callable[[Sequence[str]], int]) -> int:
    return sum(act(ids[start : start + CHUNK]) for start in range(0, len(ids), CHUNK))
