"""The state machine of one task, with the way it took. Drawn from the table of transitions, so
that the picture cannot tell another story than the code.

The way is told by the records: how the task was sent, how each attempt ended, where it stands.
What leaves no trace (an operator's requeue between two attempts, a delivery taken over from a dead
worker) is concluded from what came after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from acked.delivery import FINAL, TRANSITIONS, Event, State
from acked.errors import MessageUnreadable
from acked.message import decode
from acked.record import Attempt, Record

PLACES: dict[State, tuple[int, int]] = {
    State.SCHEDULED: (64, 126),
    State.QUEUED: (264, 126),
    State.RUNNING: (464, 126),
    State.SUCCESS: (696, 46),
    State.FAILURE: (696, 126),
    State.REVOKED: (696, 206),
}
"""The middle of each state's box."""

_LINES: dict[tuple[State, State], tuple[str, int, int]] = {
    (State.SCHEDULED, State.QUEUED): ("M118 126 H204", 160, 119),
    (State.QUEUED, State.RUNNING): ("M318 126 H404", 360, 119),
    (State.RUNNING, State.SUCCESS): ("M518 118 C580 118 570 46 636 46", 556, 68),
    (State.RUNNING, State.FAILURE): ("M518 126 H636", 590, 119),
    (State.RUNNING, State.REVOKED): ("M518 134 C580 134 570 200 636 200", 612, 172),
    (State.RUNNING, State.SCHEDULED): ("M456 109 C456 6 72 6 72 103", 264, 25),
    (State.RUNNING, State.QUEUED): ("M440 109 C430 64 292 64 280 103", 360, 68),
    (State.RUNNING, State.RUNNING): ("M472 109 C470 74 512 74 500 103", 520, 86),
    (State.FAILURE, State.QUEUED): ("M650 143 C600 172 340 186 288 149", 470, 166),
    (State.REVOKED, State.QUEUED): ("M642 212 C500 226 300 214 270 149", 430, 205),
    (State.QUEUED, State.REVOKED): ("M250 143 C256 246 480 240 636 218", 352, 229),
    (State.SCHEDULED, State.REVOKED): (
        "M64 143 C64 256 200 262 380 262 S690 262 690 229",
        180,
        246,
    ),
}
"""The line between two states, and where its name stands."""


MEANINGS: dict[Event, str] = {
    Event.DUE: "the time it was to run at has come",
    Event.CLAIM: "a worker took it from the queue",
    Event.SEIZE: "whoever held it was lost, and another took it over to decide what becomes of it",
    Event.SUCCEED: "it returned",
    Event.RETRY: "it failed or asked for it, and runs again later, which costs one of its retries",
    Event.POSTPONE: "it runs again later, which costs no retry",
    Event.RELEASE: "it went back to the queue at once, as after a lost or stopped worker",
    Event.FAIL: "it failed and is not tried again",
    Event.REVOKE: "somebody called it off, or it had expired",
    Event.REQUEUE: "an operator had it run again",
}
"""What the names in the picture say to somebody who has not read the code."""


class Move(msgspec.Struct, frozen=True):
    """One step of the way; `before` is None for the first, when the task was sent."""

    before: State | None
    event: str
    after: State


class Box(msgspec.Struct, frozen=True):
    """A state in the picture. `visits` is how often the task came there."""

    state: State
    x: int
    y: int
    visits: int
    here: bool


class Line(msgspec.Struct, frozen=True):
    """An arrow in the picture, with the names of its events and how often it was taken."""

    path: str
    label: str
    x: int
    y: int
    taken: int


class Machine(msgspec.Struct, frozen=True):
    """The picture, and its text."""

    boxes: list[Box]
    lines: list[Line]
    moves: list[Move]
    meanings: dict[Event, str]


_ENDS = {
    Event.SUCCEED: State.SUCCESS,
    Event.FAIL: State.FAILURE,
    Event.REVOKE: State.REVOKED,
    Event.RETRY: State.SCHEDULED,
    Event.POSTPONE: State.SCHEDULED,
    Event.RELEASE: State.QUEUED,
}


def way(record: Record, attempts: Sequence[Attempt]) -> list[Move]:
    """The moves of *record* so far, oldest first."""
    moves = [Move(None, "send", _first_state(record))]
    for attempt in attempts:
        _to_running(moves)
        moves.append(Move(State.RUNNING, attempt.event.value, _ends(attempt)))
    _to_present(moves, record)
    return moves


def _first_state(record: Record) -> State:
    try:
        eta = decode(record.body).eta
    except MessageUnreadable:
        return State.QUEUED
    return State.SCHEDULED if eta is not None and eta > record.sent else State.QUEUED


def _ends(attempt: Attempt) -> State:
    return _ENDS.get(attempt.event, State.QUEUED)


def _to_queued(moves: list[Move]) -> None:
    last = moves[-1].after
    if last is State.SCHEDULED:
        moves.append(Move(last, Event.DUE.value, State.QUEUED))
    elif last in FINAL and Event.REQUEUE in TRANSITIONS[last]:
        moves.append(Move(last, Event.REQUEUE.value, State.QUEUED))


def _to_running(moves: list[Move]) -> None:
    _to_queued(moves)
    if moves[-1].after is State.QUEUED:
        moves.append(Move(State.QUEUED, Event.CLAIM.value, State.RUNNING))


def _to_present(moves: list[Move], record: Record) -> None:
    """From the end of the last attempt to where the task stands now."""
    last = moves[-1].after
    if record.state is last and not (last is State.QUEUED and record.reason == "requeued"):
        return
    match record.state:
        case State.RUNNING:
            _to_running(moves)
        case State.QUEUED:
            _to_queued(moves)
        case State.SCHEDULED:
            # Put off without having started: nobody knew the task.
            _to_running(moves)
            moves.append(Move(State.RUNNING, Event.POSTPONE.value, State.SCHEDULED))
        case State.REVOKED if last in {State.SCHEDULED, State.QUEUED}:
            moves.append(Move(last, Event.REVOKE.value, State.REVOKED))
        case State.SUCCESS | State.FAILURE | State.REVOKED:
            # It ended without having started: nobody could read it, or it had expired.
            _to_running(moves)
            ending = {State.FAILURE: Event.FAIL, State.REVOKED: Event.REVOKE}
            event = ending.get(record.state, Event.SUCCEED)
            moves.append(Move(State.RUNNING, event.value, record.state))


def machine(record: Record, attempts: Sequence[Attempt]) -> Machine:
    """The picture for *record*."""
    moves = way(record, attempts)
    taken = Counter((move.before, move.after) for move in moves)
    visits = Counter(move.after for move in moves)
    arrows: dict[tuple[State, State], list[Event]] = {}
    for before, following in TRANSITIONS.items():
        for event, after in following.items():
            arrows.setdefault((before, after), []).append(event)
    lines = [
        Line(
            _LINES[ends][0], " · ".join(event.value for event in events), _LINES[ends][1],
            _LINES[ends][2], taken[ends],
        )
        for ends, events in arrows.items()
    ]  # fmt: skip
    return Machine(
        boxes=[
            Box(state, x, y, visits[state], record.state is state)
            for state, (x, y) in PLACES.items()
        ],
        # Those that were taken are drawn above the others.
        lines=sorted(lines, key=lambda line: line.taken > 0),
        moves=moves,
        meanings=MEANINGS,
    )
