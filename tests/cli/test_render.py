"""Output as text, in a pipe and on a terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from rich.console import Console

from acked.broker import Engine
from acked.cli.moments import clock_time, distance, duration, moment
from acked.cli.overview import overview
from acked.cli.render.blocks import Block, Facts, Grid, Line, Passage, on_terminal, plain, show
from acked.cli.render.overview import overview_blocks
from acked.cli.render.task import DATA_LIMIT, list_blocks, story_blocks
from acked.cli.story import story, task_line
from acked.clock import ManualClock
from acked.message import Message
from tests.cli.scenario import IDS

BOX_DRAWING = set(map(chr, range(0x2500, 0x2580)))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(blocks: list[Block], width: int = 120) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, highlight=False, markup=False)
    console.print(on_terminal(blocks))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (0.0042, "4 ms"),
        (0.9996, "1.0 s"),
        (3.21, "3.2 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3_600, "1 h"),
        (11_520, "3 h 12 min"),
        (93_600, "1 d 2 h"),
    ],
)
def test_a_length_of_time_has_at_most_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_moment_is_told_by_its_distance() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    assert distance(now - timedelta(seconds=3), now) == "3.0 s ago"
    assert distance(now + timedelta(minutes=5), now) == "in 5 min"
    assert distance(None, now) == ""


def test_the_last_moment_a_datetime_holds_can_be_shown() -> None:
    assert clock_time(moment(1e300)).startswith("9999-12-31")


def test_a_table_in_a_pipe_is_tab_separated() -> None:
    table = Grid("ignored", ("id", ">n"), [("a", "1"), ("b\tc", "2")])
    assert plain([table, Line("x"), Line("y")]) == "id\tn\na\t1\nb\\tc\t2\n\nx\ny\n"


def test_facts_and_passages_in_a_pipe_keep_their_lines() -> None:
    blocks: list[Block] = [Facts([("id", "a\nb")]), Passage("Traceback", "one\ntwo\x1b[2J\n")]
    assert plain(blocks) == "id\ta\\nb\n\nTraceback\n    one\n    two\\x1b[2J\n"


def test_output_is_plain_unless_the_stream_is_a_terminal() -> None:
    blocks: list[Block] = [Grid("title", ("state",), [("FAILURE",)])]
    pipe, terminal = io.StringIO(), Terminal()
    show(blocks, pipe)
    show(blocks, terminal)
    assert pipe.getvalue() == "state\nFAILURE\n"
    assert BOX_DRAWING & set(terminal.getvalue())


def test_states_are_coloured_on_a_terminal() -> None:
    assert "\x1b[1;31mFAILURE" in drawn([Grid("", ("state",), [("FAILURE",)])])


@pytest.mark.parametrize("hostile", ["[red]x[/red]", "[/]", ":smile:", "\x1b[2J", "a\nb"])
def test_text_of_tasks_steers_neither_terminal_nor_markup(hostile: str) -> None:
    blocks: list[Block] = [
        Grid(hostile, ("c",), [(hostile,)]), Facts([(hostile, hostile)]), Line(hostile),
        Passage(hostile, hostile),
    ]  # fmt: skip
    text = drawn(blocks)
    assert "\x1b[2J" not in text
    assert hostile in text or hostile.encode("unicode_escape").decode() in text


def test_an_empty_table_says_so_on_a_terminal_and_is_its_heading_in_a_pipe() -> None:
    table = Grid("", ("id",), [], "no such task")
    assert "no such task" in drawn([table])
    assert plain([table]) == "id\n"


def test_the_overview_shows_queues_workers_and_what_runs(
    memory: Engine, clock: ManualClock
) -> None:
    clock.advance(65)
    memory.pause("mails")
    now = clock.now()
    text = plain(
        overview_blocks(overview(memory, memory, now=now), datetime.fromtimestamp(now, UTC))
    )
    rows = [line.split("\t") for line in text.splitlines()]
    assert ["default", "1", "0", "1", "1", "1", "1", "", "1", ""] in rows
    assert ["mails", "0", "1", "0", "0", "0", "0", "1 min 5 s", "0", "paused"] in rows
    assert [
        "box.77.abc",
        "box",
        "77",
        "default",
        "2",
        "1",
        "1 min 5 s ago",
        "58 min 55 s left",
    ] in rows
    assert [
        "running_____", "shop.scan", "default", "box.77.abc/0", "1", "1 min 5 s",
        "75% (3 of 4) resizing",
    ] in rows  # fmt: skip


def test_a_worker_whose_lease_ran_out_is_dead(memory: Engine, clock: ManualClock) -> None:
    clock.advance(4_000)
    seen = overview(memory, memory, now=clock.now())
    assert [worker.alive for worker in seen.workers] == [False]
    assert [queue.workers for queue in seen.queues] == [0, 0]


def test_a_list_shows_short_ids_on_a_terminal_and_whole_ones_in_a_pipe(
    memory: Engine, clock: ManualClock
) -> None:
    record = memory.get(IDS["failed"])
    assert record is not None
    lines, now = [task_line(record)], datetime.fromtimestamp(clock.now() + 3, UTC)
    assert plain(list_blocks(lines, now, whole_ids=True)).splitlines()[1] == (
        f"{IDS['failed']}\tshop.scan\tFAILURE\tdefault\t2\t3.0 s\tValueError: password=***"
    )
    assert (
        plain(list_blocks(lines, now, whole_ids=False)).splitlines()[1].startswith("failed______\t")
    )


def test_tracebacks_are_shown_when_asked_for(memory: Engine, clock: ManualClock) -> None:
    record = memory.get(IDS["failed"])
    assert record is not None
    told = story(memory, record, now=clock.now(), app=None)
    now = datetime.fromtimestamp(clock.now(), UTC)
    assert "Traceback:" not in plain(story_blocks(told, now, tracebacks=False))
    shown = plain(story_blocks(told, now, tracebacks=True))
    assert 'attempt 2: ValueError\n    Traceback:\n      File "shop.py", line 3\n' in shown


def test_long_arguments_are_cut_and_say_so(memory: Engine, clock: ManualClock) -> None:
    big = msgspec.Raw(msgspec.json.encode(["x" * 100_000]))
    memory.send([Message(id="big-arguments", task="t", args=big)])
    record = memory.get("big-arguments")
    assert record is not None
    told = story(memory, record, now=clock.now(), app=None)
    shown = plain(story_blocks(told, datetime.now(UTC), tracebacks=False))
    assert len(shown) < DATA_LIMIT + 1_000
    assert "100004 characters; --json shows them" in shown
