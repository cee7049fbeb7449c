"""What the broker's records say happened: the demo believes nothing else."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

import msgspec
from flaky_server import report

from acked.broker import Filter, Records
from acked.delivery import Event, State
from acked.record import Attempt, Record

CLOCK_SLACK = 0.01
"""Seconds by which two wall-clock times may disagree."""


@dataclass(frozen=True)
class Tally:
    """Counts over the records of many tasks."""

    done: int
    ended: int
    running: int
    retries: int
    losses: int
    most_losses_running: int
    """Of one task that runs now."""


def tally(records: Records, *, at_most: int) -> Tally:
    """What all records say now."""
    found = records.search(Filter(), limit=at_most)
    running = [record for record in found if record.state is State.RUNNING]
    return Tally(
        done=sum(record.state is State.SUCCESS for record in found),
        ended=sum(record.is_final for record in found),
        running=len(running),
        retries=sum(record.retries for record in found),
        losses=sum(record.losses for record in found),
        most_losses_running=max((record.losses for record in running), default=0),
    )


@dataclass(frozen=True)
class Audit:
    """The records, gone through one by one when all is over."""

    right: int
    attempts: int
    retries: int
    soft_limits: int
    hard_limits: int
    losses: int
    problems: list[str]


def audit(records: Records, expected: Mapping[str, str]) -> Audit:
    """Check each task and each of its attempts.

    Args:
        expected: The path that each task was to scan, by its id.
    """
    problems: list[str] = []
    attempts: list[Attempt] = []
    right = 0
    for task_id, path in expected.items():
        record = records.get(task_id)
        if record is None:
            problems.append(f"{path}: its record is gone")
            continue
        history = records.attempts(task_id)
        attempts += history
        wrong = [*_wrong_outcome(record, path), *_wrong_history(record, history)]
        problems += [f"{path} ({task_id}): {what}" for what in wrong]
        right += not wrong
    known = len(records.search(Filter(), limit=len(expected) + 1))
    if known != len(expected):
        problems.append(f"{len(expected)} tasks were sent, and {known} are on record")
    return Audit(
        right=right,
        attempts=len(attempts),
        retries=sum(attempt.event is Event.RETRY for attempt in attempts),
        soft_limits=_count_failures(attempts, "SoftTimeLimitExceeded"),
        hard_limits=_count_failures(attempts, "TimeLimitExceeded"),
        losses=sum(attempt.loss for attempt in attempts),
        problems=problems,
    )


def _wrong_outcome(record: Record, path: str) -> list[str]:
    if record.state is not State.SUCCESS:
        return [f"it is {record.state}: {record.reason}"]
    if record.result is None or msgspec.json.decode(record.result) != report(path):
        return [f"its result is {record.result!r}"]
    return []


def _wrong_history(record: Record, history: list[Attempt]) -> list[str]:
    """Where the attempts contradict the record, or each other."""
    wrong: list[str] = []
    if [attempt.event for attempt in history].count(Event.SUCCEED) != 1:
        wrong.append("it did not succeed exactly once")
    elif history[-1].event is not Event.SUCCEED:
        wrong.append("it ran again after it had succeeded")
    if _numbers(history) != [attempt.number for attempt in history]:
        wrong.append("its attempts are not numbered one after the other")
    if record.attempt != sum(attempt.counted for attempt in history):
        wrong.append(f"it counts {record.attempt} attempts, and {len(history)} are on record")
    if record.retries != sum(attempt.event is Event.RETRY for attempt in history):
        wrong.append(f"it counts {record.retries} retries, its attempts do not")
    if record.losses != sum(attempt.loss for attempt in history):
        wrong.append(f"it counts {record.losses} losses, its attempts do not")
    for before, after in pairwise(history):
        not_before = max(before.ended, before.next_at or 0.0)
        if after.started < not_before - CLOCK_SLACK:
            wrong.append(f"attempt {after.number} started while another ran, or before its time")
    return wrong


def _numbers(history: list[Attempt]) -> list[int]:
    """1, 2, 3 ..., where an interrupted attempt gave its number back."""
    numbers, next_number = [], 1
    for attempt in history:
        numbers.append(next_number)
        next_number += attempt.counted
    return numbers


def _count_failures(attempts: Collection[Attempt], name: str) -> int:
    return sum(
        attempt.failure is not None and attempt.failure.type.rpartition(".")[2] == name
        for attempt in attempts
    )
