"""`acked list` and `acked show`."""

from __future__ import annotations

import itertools
import sys
from datetime import UTC, datetime

import click

from acked.cli.finding import STATE_NAMES, Query, find, resolve
from acked.cli.output import say, write, write_json
from acked.cli.processes import pids_running
from acked.cli.render.task import list_blocks, story_blocks
from acked.cli.source import Source, json_option, source_options, target_argument
from acked.escaping import one_line
from acked.story import story as read_story
from acked.story import task_line

state_option = click.option(
    "--state", "states", multiple=True, metavar="STATE",
    type=click.Choice(STATE_NAMES, case_sensitive=False),
    help=f"In this state; repeatable. One of {', '.join(STATE_NAMES)}.",
)  # fmt: skip
queue_option = click.option("--queue", metavar="NAME", help="In this queue.")
task_option = click.option("--task", metavar="NAME", help="Of this task, as in shop.scan.")


@click.command("list")
@target_argument
@state_option
@queue_option
@task_option
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True,
    help="At most this many.",
)  # fmt: skip
@click.option("--before", metavar="ID", help="Only tasks sent before this one: the next page.")
@json_option
@source_options
@click.pass_obj
def list_(
    source: Source, target: str | None, states: tuple[str, ...], queue: str | None,
    task: str | None, limit: int, before: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Tasks, newest first.

    On a terminal ids are cut to their last 12 characters, which every command takes; in a pipe
    they are whole, and columns are separated by tabs.

    PENDING and RETRY are Celery's names for waiting tasks: without a failed or lost attempt behind
    them, and with one. STARTED is RUNNING.

    \b
    Examples:
      acked -A shop:app list --state FAILURE --task shop.scan
      acked -A shop:app list --limit 20 --before 9b1fa0c2d345
    """
    with source.open(target) as opened:
        records = opened.records
        older_than = None if before is None else resolve(records, before).tag
        query = Query(states=states, queue=queue, task=task)
        found = itertools.islice(find(records, query, before=older_than), limit + 1)
        lines = [task_line(record) for record in found]
    more = len(lines) > limit
    del lines[limit:]
    if as_json:
        write_json(lines)
    else:
        write(list_blocks(lines, datetime.now(UTC), whole_ids=not sys.stdout.isatty()))
    if more:
        say(f"{limit} shown; --limit N or --before {one_line(lines[-1].id)} for more")


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--traceback", is_flag=True, help="With the tracebacks of its failures.")
@click.option("--logs", is_flag=True, help="With what each attempt logged.")
@json_option
@source_options
@click.pass_obj
def show(source: Source, task_id: str, traceback: bool, logs: bool, as_json: bool) -> None:
    """The whole story of one task.

    What was sent, where it stands and why, and every attempt: when, where, how long, how it ended,
    when it runs again. ID may be cut to any 6 or more characters of its beginning or end that no
    other task has.

    Values whose key contains password, passwd, secret, token, api_key, authorization, cookie,
    session or dsn are shown as ***. Positional arguments are recognised by their parameter's name
    when the app is given; with --broker alone they are shown.

    \b
    Examples:
      acked -A shop:app show 9b1fa0c2d345
      acked -A shop:app show 9b1fa0c2d345 --traceback --logs
      acked -A shop:app show 9b1fa0c2d345 --json | jq .attempts
    """
    with source.open() as opened:
        now = opened.broker.clock.now()
        record = resolve(opened.records, task_id)
        pids = pids_running(opened.records, record)
        story = read_story(opened.records, record, now=now, app=opened.app, pids=pids)
    if as_json:
        write_json(story)
    else:
        write(
            story_blocks(
                story,
                datetime.fromtimestamp(now, UTC),
                tracebacks=traceback,
                logs=logs,
                whole_times=not sys.stdout.isatty(),
            )
        )
