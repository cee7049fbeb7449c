"""The parts of the dashboard that touch nothing: searches, causes, charts, the way of a task."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from acked.dashboard.causes import causes, fingerprint, generalised, is_dead_letter, literal_of
from acked.dashboard.charts import HEIGHT, WIDTH, bar_chart, round_up, time_chart
from acked.dashboard.machine import machine, way
from acked.dashboard.query import Query, moment_of
from acked.dashboard.rates import SPANS, RateReader, rates_of
from acked.dashboard.rerun import WrongInput, parse, restored
from acked.dashboard.times import Times
from acked.dashboard.words import data, relative, size
from acked.delivery import TRANSITIONS, Event, Failure, State
from acked.message import Message, encode
from acked.record import Attempt, Record
from acked.tally import Count

NOW = 1_800_000_000.0


def failed(
    message: str, *, type_: str = "ValueError", task: str = "shop.scan", **more: Any
) -> Record:
    return Record(
        id=more.pop("id", "1"), body=b"{}", task=task, state=State.FAILURE,
        failure=Failure(type_, message), **more,
    )  # fmt: skip


# -- searches --------------------------------------------------------------------------------------


def test_a_query_survives_its_own_address() -> None:
    query, wrong = Query.parse([
        ("state", "FAILURE"), ("state", "REVOKED"), ("task", " shop.scan "), ("text", 'a"b&c=é'),
        ("since", "2h"), ("before", "12"), ("unknown", "x"), ("queue", ""),
    ])  # fmt: skip
    assert wrong == []
    assert query == Query(
        state=("FAILURE", "REVOKED"), task="shop.scan", text='a"b&c=é', since="2h"
    )
    assert Query.parse(query.pairs()) == (query, [])
    assert "before=7" in query.encoded(before=7)
    assert "state" not in query.encoded(state=None)


def test_what_is_wrong_in_a_query_is_said_and_left_out() -> None:
    query, wrong = Query.parse([("state", "GONE"), ("since", "yesterday"), ("queue", "mails")])
    assert query == Query(queue="mails")
    assert len(wrong) == 2
    assert "'GONE' is no state" in wrong[0]
    assert "'yesterday' is no time" in wrong[1]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", NOW - 90), ("30m", NOW - 1800), ("6h", NOW - 21600), ("2d", NOW - 172800),
        ("1970-01-02", 86400.0), ("1970-01-01T01:00+01:00", 0.0), ("h", None), ("-3h", None),
        ("9999999h", None), ("2026-13-01", None), ("٣h", None), ("", None),
    ],
)  # fmt: skip
def test_times_are_read_as_they_are_typed(text: str, at: float | None) -> None:
    assert moment_of(text, now=NOW) == at


# -- causes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timeout after 30.5 s", "timeout after 7 s"),
        ("no order 4711 of 'ada'", "no order 12 of 'bob'"),
        ('no key "x"', 'no key "a longer one"'),
        ("id 01a20f30a0d46b9b25dde821 is gone", "id ffa20f30a0d46b9b25dde8ff is gone"),
        (
            "no 6a0f0c1e-8a53-4a43-9a0b-0d6f3f1c2b4e",
            "no 00000000-8a53-4a43-9a0b-aaaaaaaaaaaa",
        ),
        ("at 0x7f00aa", "at 0x1"),
        ("[1, 2, 3] is wrong", "[4, 5] is wrong"),
        ("10.0.0.1:8080 refused", "192.168.17.2:443 refused"),
    ],
)
def test_failures_that_differ_in_values_alone_have_one_cause(one: str, other: str) -> None:
    assert generalised(one) == generalised(other)


def test_failures_of_other_tasks_types_or_words_have_other_causes() -> None:
    prints = {
        fingerprint(each)
        for each in (
            failed("down"), failed("up"), failed("down", task="b"), failed("don't"),
            failed("down", type_="KeyError"), failed("it's"),
        )
    }  # fmt: skip
    assert len(prints) == 6


def test_causes_are_counted_with_their_first_and_last_time() -> None:
    found = causes([
        failed("no 1", id="a", finished=10.0), failed("no 2", id="b", finished=30.0),
        failed("other", id="c", finished=40.0), failed("no 3", id="d", finished=20.0),
    ])  # fmt: skip
    assert [(each.count, each.first, each.last, each.example) for each in found] == [
        (3, 10.0, 30.0, "b"), (1, 40.0, 40.0, "c"),
    ]  # fmt: skip
    assert found[0].said == "no 2"


def test_a_cause_shows_no_secret_and_searches_for_none() -> None:
    (cause,) = causes([failed("cannot log in with password=hunter2 at example")])
    assert "hunter2" not in f"{cause}"
    assert cause.literal == "cannot log in with password="
    assert literal_of("…") == ""


@pytest.mark.timeout(30)
def test_a_hostile_message_costs_no_more_than_its_length() -> None:
    for text in ("'" * 100_000, "0x" * 50_000, "a1" * 50_000, "-" * 100_000, '"a' * 50_000):
        causes([failed(text)])


def test_what_is_being_retried_is_counted_apart_in_the_group_of_its_cause() -> None:
    waiting = structs.replace(
        failed("no 3", id="c", claimed=40.0), state=State.SCHEDULED, finished=None
    )
    (found,) = causes([failed("no 1", id="a", finished=10.0)], [waiting])
    assert (found.count, found.retrying, found.first, found.last) == (1, 1, 10.0, 40.0)
    assert found.example == "c"
    (alone,) = causes([], [waiting])
    assert (alone.count, alone.retrying) == (0, 1)


def test_a_group_is_as_large_as_all_its_tasks() -> None:
    waiting = [structs.replace(failed("up"), state=State.SCHEDULED) for _ in range(3)]
    found = causes([failed("down"), failed("down")], waiting)
    assert [each.fingerprint.message for each in found] == ["up", "down"]


def test_a_task_that_ended_with_its_worker_is_a_dead_letter() -> None:
    record = failed("signal 9", type_="WorkerLostError", finished=2.0)
    assert is_dead_letter(record, [run(Event.FAIL, loss=True)])
    assert not is_dead_letter(record, [run(Event.FAIL)])
    earlier = run(Event.RELEASE, loss=True), Attempt(
        number=2, event=Event.FAIL, started=3.0, ended=4.0
    )  # fmt: skip
    assert not is_dead_letter(structs.replace(record, finished=4.0), earlier)


def test_a_message_of_which_no_attempt_began_is_a_dead_letter() -> None:
    record = failed("not a message", type_="MessageUnreadable", finished=9.0)
    assert is_dead_letter(record, [])
    assert is_dead_letter(record, [run(Event.FAIL)])  # that was before it was requeued
    assert not is_dead_letter(structs.replace(record, finished=2.0), [run(Event.FAIL)])


def test_no_text_of_a_failure_makes_a_dead_letter() -> None:
    for type_ in ("ValueError", "WorkerLostError", "MessageUnreadable", "shop.WorkerLostError"):
        record = failed("lost; poison: it took its worker 3 times", type_=type_, finished=2.0)
        assert not is_dead_letter(record, [run(Event.FAIL)])
    assert not is_dead_letter(structs.replace(record, failure=None), [])
    assert not is_dead_letter(structs.replace(record, state=State.SCHEDULED), [])


# -- charts and rates ------------------------------------------------------------------------------


def test_bars_stay_inside_the_drawing_and_say_what_they_are() -> None:
    chart = bar_chart("Done", "success", [0, 1, 1000, 0], first=60, step=1, unit="minute")
    assert [bar.label for bar in chart.bars] == ["01:01 UTC: 1", "01:02 UTC: 1,000"]
    assert chart.summary == "Done: 1,001 in all, at most 1,000 in a minute"
    for bar in chart.bars:
        assert bar.x >= 0 and bar.x + bar.width <= WIDTH
        assert bar.y >= 0 and bar.y + bar.height <= HEIGHT + 0.01
    assert chart.bars[0].height >= 1.5  # one among a thousand is seen


def test_a_chart_of_nothing_says_so() -> None:
    chart = bar_chart("Done", "success", [0] * 60, first=0, step=1, unit="minute")
    assert (chart.bars, chart.total, chart.summary) == ([], "0", "Done: 0")


NOTHING = Times((None, None, None))


def test_a_chart_of_times_has_a_pale_bar_to_p95_and_one_to_the_median_in_front() -> None:
    steps = [Times((0.5, 1.0, 1.5)), NOTHING, Times((0.001, 2.0, 9.0))]
    chart = time_chart("Waited", "wait", steps, total=steps[2], first=60, step=1, unit="minute")
    assert (chart.top, chart.total) == ("2.0 s", "p95 2.0 s")
    assert [(bar.pale, bar.height) for bar in chart.bars] == [
        (True, HEIGHT / 2), (False, HEIGHT / 4), (True, HEIGHT), (False, 1.5),
    ]  # fmt: skip
    assert chart.bars[0].label == "01:00 UTC: half within 500 ms, 95 % within 1.0 s"
    assert chart.summary == (
        "Waited: half within 1 ms, 95 % within 2.0 s; in the worst minute, 95 % within 2.0 s"
    )
    for bar in chart.bars:
        assert bar.x >= 0 and bar.x + bar.width <= WIDTH
        assert bar.y >= 0 and bar.y + bar.height <= HEIGHT + 0.01


def test_a_chart_of_no_times_says_so() -> None:
    chart = time_chart("Ran", "run", [NOTHING] * 60, total=NOTHING, first=0, step=1, unit="minute")
    assert (chart.bars, chart.summary) == ([], "Ran: nothing measured")


@pytest.mark.parametrize(
    ("worst", "top"), [(0.0011, "2 ms"), (0.9, "1.0 s"), (200.0, "5 min"), (100_000.0, "2 d")]
)
def test_the_upper_edge_of_a_chart_of_times_is_a_round_time(worst: float, top: str) -> None:
    times = Times((worst, worst, worst))
    chart = time_chart("Ran", "run", [times], total=times, first=0, step=1, unit="minute")
    assert chart.top == top


@pytest.mark.parametrize(("value", "top"), [(0, 1), (1, 1), (3, 5), (6, 10), (11, 20), (999, 1000)])
def test_the_upper_edge_is_a_round_number(value: int, top: int) -> None:
    assert round_up(value) == top


@pytest.mark.parametrize(("step", "count"), [(1, 60), (15, 96)])
def test_the_axis_has_a_few_round_times(step: int, count: int) -> None:
    chart = bar_chart("x", "success", [1] * count, first=7, step=step, unit="minute")
    assert 2 <= len(chart.ticks) <= 6
    assert all(0 <= place < 1 for place, _ in chart.ticks)


def test_rates_add_up_by_step_and_by_task() -> None:
    steps = [
        {("a", "success"): 3, ("a", "run:0"): 3, ("b", "failure"): 1},
        {("a", "success"): 1, ("a", "run:40"): 1, ("b", "loss"): 2},
    ]
    rates = rates_of(SPANS["hour"], 10, steps)
    assert rates.series["success"] == [3, 1]
    assert rates.series["loss"] == [0, 2]
    assert (rates.total.done, rates.total.failed, rates.total.lost) == (4, 1, 2)
    assert [each.task for each in rates.tasks] == ["a", "b"]
    p50, p95, _ = rates.tasks[0].run.shares
    assert p50 == pytest.approx(0.001)
    assert p95 is not None and p95 > 1
    assert rates.total.wait.shares == (None, None, None)
    quick, slow = rates.times["run"]
    assert quick.p95 == pytest.approx(0.001)
    assert slow.p50 is not None and slow.p50 > 1
    assert [each.p50 for each in rates.times["wait"]] == [None, None]


class Counters:
    """The counters of a broker that notes how far it was asked to look."""

    def __init__(self, counts: list[Count]) -> None:
        self.counts = counts
        self.asked: list[tuple[int, int]] = []

    def counted(self, first: int, last: int) -> list[Count]:
        self.asked.append((first, last))
        return [each for each in self.counts if first <= each.minute <= last]


@pytest.mark.parametrize("span", ["hour", "day"])
def test_steps_that_are_over_are_read_once_and_open_ones_again(span: str) -> None:
    minute = 1_000_001
    counters: Any = Counters([Count(minute - 30, "q", "t", "success", 5)])
    reader = RateReader()
    assert reader.read(counters, SPANS[span], now=minute * 60.0).total.done == 5
    counters.counts.append(Count(minute, "q", "t", "success", 2))
    assert reader.read(counters, SPANS[span], now=minute * 60.0 + 9).total.done == 7
    (whole, again) = counters.asked
    assert whole[1] - whole[0] >= SPANS[span].minutes - 30
    assert again[1] - again[0] <= SPANS[span].step + 2
    later = reader.read(counters, SPANS[span], now=(minute + 2 * 1440) * 60.0)
    assert later.total.done == 0


# -- the way of a task -----------------------------------------------------------------------------


def sent(**more: Any) -> Record:
    eta = more.pop("eta", None)
    body = encode(Message(id="1", task="t", sent=100.0, eta=eta))
    return Record(id="1", body=body, sent=100.0, **more)


def run(event: Event, number: int = 1, **more: Any) -> Attempt:
    return Attempt(number=number, event=event, started=1.0, ended=2.0, **more)


def told(record: Record, *attempts: Attempt) -> str:
    moves = way(record, attempts)
    for move in moves[1:]:
        assert move.before is not None
        assert TRANSITIONS[move.before][Event(move.event)] is move.after
    return " ".join(f"{move.event}>{move.after}" for move in moves)


def test_a_task_that_was_retried_after_its_worker_was_lost() -> None:
    record = sent(state=State.SCHEDULED)
    attempts = run(Event.RELEASE, loss=True), run(Event.RETRY, 2)
    assert told(record, *attempts) == (
        "send>QUEUED claim>RUNNING release>QUEUED claim>RUNNING retry>SCHEDULED"
    )


def test_every_way_is_made_of_transitions_that_there_are() -> None:
    endings = [(), *[(run(event),) for event in (
        Event.SUCCEED, Event.FAIL, Event.RETRY, Event.POSTPONE, Event.RELEASE, Event.REVOKE,
    )]]  # fmt: skip
    for state in State:
        for eta in (None, 500.0):
            for first in endings:
                for second in endings:
                    done = any(each.event is Event.SUCCEED for each in (*first, *second)[:-1])
                    last = (*first, *second)[-1:]
                    after_success = last and last[0].event is Event.SUCCEED
                    if done or (after_success and state is not State.SUCCESS):
                        continue  # nothing follows a success
                    reached = told(sent(state=state, eta=eta), *first, *second)
                    assert reached.endswith(f">{state}"), (state, eta, first, second)


def test_the_picture_has_every_state_and_every_transition_once() -> None:
    drawn = machine(sent(state=State.RUNNING), [])
    assert {box.state for box in drawn.boxes} == set(State)
    assert [box.state for box in drawn.boxes if box.here] == [State.RUNNING]
    named = sorted(name for line in drawn.lines for name in line.label.split(" · "))
    assert named == sorted(event for following in TRANSITIONS.values() for event in following)
    assert sum(line.taken for line in drawn.lines) == 1
    assert set(drawn.meanings) == set(Event)


def test_a_message_that_cannot_be_read_has_a_way_as_well() -> None:
    record = Record(id="1", body=b"\xff", state=State.FAILURE)
    assert told(record) == "send>QUEUED claim>RUNNING fail>FAILURE"


# -- running by hand -------------------------------------------------------------------------------


def test_what_was_left_as_it_was_shown_is_sent_as_it_is() -> None:
    real = [{"token": "t1", "url": "http://u:p@x", "n": 10**30}, "plain"]
    shown = [{"token": "***", "url": "http://u:***@x", "n": 10**30}, "plain"]
    assert restored(shown, shown, real) == real
    edited = [{"token": "***", "url": "http://other", "n": 1, "new": None}]
    assert restored(edited, shown, real) == [
        {"token": "t1", "url": "http://other", "n": 1, "new": None}
    ]


@pytest.mark.parametrize("edited", [{"other": "***"}, {"token": ["***"]}, {"a": {"b": "x***"}}])
def test_a_mask_in_another_place_is_refused(edited: Any) -> None:
    with pytest.raises(WrongInput, match="stands for a secret"):
        restored(edited, {"token": "***"}, {"token": "t1"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"), ("[]", "expected a JSON object"), ('{"a": 1, "a": 2}', "twice"),
        ('{"a": NaN}', "NaN is no JSON"), ("[" * 100_000, "not JSON"), ("x" * 1_000_001, "more"),
    ],
)  # fmt: skip
def test_what_is_no_call_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(WrongInput, match=said):
        parse(text, "Keyword arguments", dict)


def test_every_digit_of_a_number_is_kept() -> None:
    long = 123456789012345678901234567890
    assert parse(f'{{"n": {long}}}', "x", dict) == {"n": long}
    assert data({"n": long}) == f'{{\n  "n": {long}\n}}'
    assert "left out" in data(["x" * 300_000])


def test_data_that_would_turn_the_direction_of_text_is_escaped_and_stays_the_same() -> None:
    text = data(["\u202eabc\x9b"])
    assert text.isascii()
    assert parse(text, "x", list) == ["\u202eabc\x9b"]


def test_times_and_sizes_are_said_in_one_unit() -> None:
    assert [relative(NOW + each, NOW) for each in (0, -5, -119, -121, 7200, -400_000)] == [
        "now", "5 s ago", "119 s ago", "2 min ago", "in 2 h", "5 d ago",
    ]  # fmt: skip
    assert relative(None, NOW) == "\u2013"
    assert relative(1e300, NOW).startswith("in ")
    assert [size(each) for each in (0, 1023, 1536, 10 * 1024, 5 * 2**20, 3 * 2**30)] == [
        "0 B", "1023 B", "1.5 KiB", "10 KiB", "5.0 MiB", "3.0 GiB",
    ]  # fmt: skip
