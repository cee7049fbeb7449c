"""The checker finds what it is there to find, and excuses what has an excuse."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from acked.broker import Records
from acked.delivery import Event, State
from acked.record import Attempt, Record
from tests.harness.checker import Verdict, check

LEASE = 3.0
SUCCEEDED = Attempt(number=1, event=Event.SUCCEED, started=0.0, ended=0.0)
LAPSED = msgspec.structs.replace(SUCCEEDED, event=Event.RELEASE, reason="its lease ran out")


def lost(started: float, ended: float) -> Attempt:
    """An attempt that started and was declared lost then, wall clock."""
    return msgspec.structs.replace(
        SUCCEEDED, event=Event.RELEASE, started=started, ended=ended, loss=True
    )


class Stored:
    """Records of `a`, and of the same about `b`."""

    def __init__(self, record: Record | None, *attempts: Attempt) -> None:
        self._record = record
        self._attempts = list(attempts)

    def get(self, task_id: str) -> Record | None:
        return self._record if task_id in ("a", "b") else None

    def attempts(self, task_id: str) -> list[Attempt]:
        return self._attempts


def line(event: str, at: float, pid: int = 1, thread: int = 7, **facts: Any) -> dict[str, Any]:
    return {"event": event, "at": at, "wall": 1_000 + at, "pid": pid, "thread": thread, **facts}


def run(start: float, end: float | None = None, pid: int = 1) -> list[dict[str, Any]]:
    ended = [] if end is None else [line("end", end, pid, task="a")]
    return [line("start", start, pid, task="a"), *ended]


def kill(at: float, pid: int = 1) -> dict[str, Any]:
    return line("kill", at, pid=99, victim=pid)


def cut(at: float, pid: int = 1) -> dict[str, Any]:
    return line("cut", at, pid=99, victim=pid)


def lives(at: float, pid: int = 1) -> dict[str, Any]:
    return line("lives", at, pid=99, victim=pid)


def given(at: float, token: int, pid: int = 1) -> dict[str, Any]:
    """*token* of `a` arrived then, asked for half a second before."""
    return line("given", at, pid, asked=at - 0.5, tasks=[["a", token]])


def settle(
    at: float, token: int, event: str = Event.SUCCEED, pid: int = 1, took: float = 0.5
) -> list[dict[str, Any]]:
    """A settlement of `a` that was accepted at that moment."""
    return [
        line("settling", at - took, pid, tasks=[["a", token]]),
        line("settled", at, pid, asked=at - took, accepted=[["a", token, event]], refused=[]),
    ]


def refuse(at: float, token: int, pid: int = 1) -> dict[str, Any]:
    return line("settled", at, pid, asked=at - 0.5, accepted=[], refused=[["a", token, "SUCCEED"]])


TWICE = [*run(1), kill(2), *run(4, 5, pid=2)]
"""Killed, and run again in process 2."""


def judge(
    history: list[dict[str, Any]], *attempts: Attempt, state: State = State.SUCCESS,
    sent: tuple[str, ...] = ("a",), stored: bool = True, **facts: Any,
) -> Verdict:  # fmt: skip
    unsure = facts.pop("unsure", ())
    record = Record(id="a", body=b"", state=state, **facts) if stored else None
    records = cast("Records", Stored(record, *(attempts or (SUCCEEDED,))))
    ordered = sorted(history, key=lambda x: x["at"])
    return check(ordered, list(sent), records, unsure=unsure, lease=LEASE)


GOOD = {
    "once": judge(run(1, 2)),
    "killed and run again": judge([*run(1), kill(2), *run(3, 4, pid=2)], losses=1),
    "cut off, and its lease ran out": judge(
        [*run(1, 9), cut(2), *run(6, 7, pid=2)], LAPSED, SUCCEEDED, losses=1
    ),
    "cut off twice, lapsed once": judge(
        [cut(0), *run(1, 9), cut(2), *run(6, 7, pid=2)], LAPSED, SUCCEEDED
    ),
    "lapsed, and cut off again before the next start": judge(
        [*run(1, 9), cut(2), cut(5.5), *run(6, 7, pid=2)], LAPSED, SUCCEEDED, losses=1
    ),
    "killed between its last line and its return": judge(
        [*run(1, 2), kill(2.04), *run(3, 4, pid=2)], losses=1
    ),
    "the same beside another thread's next task": judge(
        [*run(1, 2), line("start", 2.01, thread=8, task="b"), kill(2.04), *run(3, 4, pid=2)],
        losses=1,
        sent=("a", "b"),
    ),
    "killed before it wrote a line": judge(
        [kill(1.0), *run(3, 4, pid=2)], lost(1000.8, 1001.1), SUCCEEDED, losses=1, runs=2
    ),
    "started between the line of the kill and the kill": judge(
        [kill(1.0), *run(3, 4, pid=2)], lost(1001.02, 1001.1), SUCCEEDED, losses=1, runs=2
    ),
    "its end came a while after the reason for it": judge(
        [*run(1, 3.9), kill(2), lives(3.92), *run(5, 6, pid=2)], losses=1
    ),
    "settled by who had it, and refused to who had it before": judge(
        [*TWICE, given(0.9, 70), given(3, 30, 2), *settle(6, 30, pid=2), refuse(7, 70)], losses=1
    ),
    "settled while it was given to another": judge(
        [*TWICE, given(0.9, 70), *settle(3, 70, Event.RELEASE), given(3, 30, 2)], losses=1
    ),
    "repeated after it was given to another": judge(
        [
            *TWICE,
            given(0.9, 70),
            *settle(2, 70, Event.RELEASE),
            given(3, 30, 2),
            *settle(4, 70, Event.RELEASE, pid=3),
        ],
        losses=1,
    ),
    "unsure and absent": judge([], sent=(), unsure=("a",), stored=False),
    "unsure and stored": judge(run(1, 2), sent=(), unsure=("a",)),
}
BAD = {
    "lost: a has no record": judge([], stored=False),
    "lost: a is QUEUED": judge([], state=State.QUEUED),
    "unexpected: a": judge(run(1, 2), sent=()),
    "unexcused duplicate: a": judge([*run(1, 2), *run(3, 4, pid=2)]),
    "finished and run again: a": judge([*run(1, 2), kill(3), *run(4, 5, pid=2)]),
    "finished and run again: a had ended": judge(
        [*run(1, 2), line("start", 2.001, task="b"), kill(2.002), *run(4, 5, pid=2)]
    ),
    "finished and run again: a had ended in pid 1": judge(
        [*run(1, 2.5), kill(2), lives(3), *run(4, 5, pid=2)]
    ),
    "overlap: a started again before": judge([*run(1), *run(2, 3, pid=2), kill(4)]),
    "overlap: a started again before pid 1 was dead": judge(
        [*run(1), kill(2), lives(4), *run(3, 5, pid=2)]
    ),
    "overlap: a started again and pid 1 went on": judge(
        [*run(0.5, 4), kill(1), *run(1.5, 2, pid=2)]
    ),
    "overlap: a started again and pid 1 went on with it": judge(
        [*run(0.5), kill(1), *run(1.5, 2, pid=2), line("step", 3, task="a")]
    ),
    "overlap: a started again while": judge(
        [*run(1, 9), cut(2), *run(4, 5, pid=2)], LAPSED, SUCCEEDED
    ),
    "unexcused duplicate: a ran again and pid": judge(
        [cut(1), *run(4, 9), *run(6, 7, pid=2)], LAPSED, SUCCEEDED
    ),
    "unexcused duplicate: a ran again and pid 1 was not": judge([*run(1), cut(2), *run(6, 7, 2)]),
    "double settle: a with 70": judge(
        [*TWICE, given(0.9, 70), given(3, 30, 2), *settle(4, 70, Event.RELEASE)], losses=1
    ),
    "double settle: a came to its end 2 times": judge(
        [*TWICE, given(0.9, 70), *settle(3.2, 70), given(3, 30, 2), *settle(6, 30, pid=2)],
        losses=1,
    ),
    "settled 2 times: a": judge(run(1, 2), SUCCEEDED, SUCCEEDED),
    "misjudged: a has 1 losses, 0": judge(run(1, 2), losses=1),
    "misjudged: a has 1 losses": judge(
        [kill(1.0), *run(3, 4, pid=2)], lost(1000.5, 1000.9), SUCCEEDED, losses=1, runs=2
    ),
    "misjudged: a has 1 losses, 0 of its": judge(
        [kill(1.0), *run(3, 4, pid=2)], lost(1001.5, 1001.9), SUCCEEDED, losses=1, runs=2
    ),
    "misjudged: a was charged 1 retries": judge(run(1, 2), retries=1),
    "unexcused duplicate: a ran": judge(
        [*run(1, 2), *run(3, 4, pid=2)], sent=(), unsure=("a",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_has_an_excuse_is_no_violation(name: str) -> None:
    assert GOOD[name].violations == []


@pytest.mark.parametrize("violation", BAD)
def test_each_broken_rule_is_named(violation: str) -> None:
    assert any(each.startswith(violation) for each in BAD[violation].violations)


def test_the_wait_from_the_fault_to_the_restart_is_measured() -> None:
    assert GOOD["killed and run again"].recovered_after == [1]
    assert GOOD["cut off, and its lease ran out"].recovered_after == [4]
    assert GOOD["unsure and stored"].unsure == 1


def test_settlements_are_counted() -> None:
    verdict = GOOD["settled by who had it, and refused to who had it before"]
    assert (verdict.settled, verdict.refused) == (1, 1)
