"""Output as text, in a pipe and on a terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from rich.console import Console

from acked.broker import Engine, Filter
from acked.cli.overview import overview
from acked.cli.render.blocks import Block, Facts, Grid, Line, Passage, on_terminal, plain, show
from acked.cli.render.overview import overview_blocks
from acked.cli.render.task import DATA_LIMIT, list_blocks, story_blocks
from acked.clock import ManualClock
from acked.delivery import Failure
from acked.message import Message
from acked.moments import clock_time, distance, duration, moment
from acked.outcome import TaskPolicy, TaskUnknown, decide
from acked.story import story, task_line
from tests.cli.scenario import IDS

BOX_DRAWING = set(map(chr, range(0x2500, 0x2580)))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(blocks: list[Block], width: int = 120, *, coloured: bool = True) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=coloured, width=width, highlight=False, markup=False
    )
    console.print(on_terminal(blocks), crop=False)
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
    assert ["box.77.abc", "77", "default", "2", "1", "1 min 5 s", "58 min 55 s", ""] in rows
    assert [
        "running_____", "shop.scan", "box.77.abc/0", "1", "1 min 5 s",
        "75% (3 of 4) resizing",
    ] in rows  # fmt: skip


def test_80_columns_hold_names_ids_and_times_whole(memory: Engine, clock: ManualClock) -> None:
    clock.advance(100)
    memory.pause("mails")
    at = datetime.fromtimestamp(clock.now(), UTC)
    record = memory.get(IDS["failed"])
    assert record is not None
    lines = [task_line(each) for each in memory.search(Filter())]
    seen = drawn(
        [
            *overview_blocks(overview(memory, memory, now=clock.now()), at),
            *list_blocks(lines, at, whole_ids=False),
            *story_blocks(
                story(memory, record, now=clock.now(), app=None), at, tracebacks=False,
                whole_times=False,
            ),
        ],
        80,
        coloured=False,
    )  # fmt: skip
    assert max(map(len, seen.splitlines())) <= 80
    for whole in (
        "failed______", "1 min 40 s", "sched", "workers", "paused", "box.77.abc/0", "3 of 4",
        "ValueError: password=***", "attempts on 20",
    ):  # fmt: skip
        assert whole in seen


def test_a_long_reason_wraps_between_words_below_its_row() -> None:
    why = "WorkerLostError: exit code 9, " * 4
    table = Grid("", ("id", "why"), [("x" * 70, why)], prose=True)
    first, *rest = drawn([table], 80, coloured=False).rstrip().splitlines()[2:]
    assert first == "x" * 70
    assert " ".join(" ".join(rest).split()) == why.strip()
    assert all(line.startswith("  ") and len(line) <= 80 for line in rest)


def test_a_name_wider_than_the_terminal_is_not_cut() -> None:
    assert "x" * 100 in drawn([Grid("", ("task",), [("x" * 100,)])], 80, coloured=False)


def test_columns_with_nothing_in_them_are_left_out_on_a_terminal() -> None:
    table = Grid(
        "", ("id", ">ok", ">lost", "note"), [("a", "0", "0", "")], sparse=frozenset({">lost"})
    )
    assert drawn([table], coloured=False).split()[:2] == ["id", "ok"]
    assert "lost" not in drawn([table])
    assert plain([table]) == "id\tok\tlost\tnote\na\t0\t0\t\n"


def test_tasks_that_no_worker_knows_are_noted_and_hinted_at(
    memory: Engine, clock: ManualClock
) -> None:
    (held,) = memory.claim("w/0", ["mails"], 1).deliveries
    put_off = decide(held, TaskUnknown("shop.mail"), TaskPolicy(), now=clock.now(), roll=0.0)
    memory.settle([put_off])
    now = datetime.fromtimestamp(clock.now(), UTC)
    seen = plain(overview_blocks(overview(memory, memory, now=clock.now()), now))
    assert "\t1 task no worker knows; see acked list\n" in seen
    record = memory.get(held.id)
    assert record is not None
    told = story(memory, record, now=clock.now(), app=None)
    assert "is its module imported" in plain(story_blocks(told, now, tracebacks=False))


@pytest.mark.parametrize(("name", "label"), [("failed", "failure"), ("retrying", "last failure")])
def test_the_failure_of_an_unfinished_task_is_its_last(
    memory: Engine, clock: ManualClock, name: str, label: str
) -> None:
    record = memory.get(IDS[name])
    assert record is not None
    record = msgspec.structs.replace(record, failure=Failure("ValueError", "boom"))
    told = story(memory, record, now=clock.now(), app=None)
    shown = plain(story_blocks(told, datetime.now(UTC), tracebacks=False))
    assert f"\n{label}\tValueError: boom\n" in shown


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
