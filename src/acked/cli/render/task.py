"""`acked list` and `acked show` as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from acked.cli.finding import UNKNOWN_HINT, UNKNOWN_TASK
from acked.cli.render.blocks import Block, Facts, Grid, Passage
from acked.cli.wording import counted
from acked.logs import short_id
from acked.moments import clock_time, distance, duration
from acked.story import AttemptView, FailureView, ProgressView, Story, TaskLine

DATA_LIMIT = 2_000
"""Characters of arguments or of a result that are shown."""

DATE = len("2026-11-23")

REASON_LIMIT = 200
"""Characters of a reason that fit a table."""


def list_blocks(lines: Sequence[TaskLine], now: datetime, *, whole_ids: bool) -> list[Block]:
    """A list of tasks.

    Args:
        whole_ids: Show ids in full, not their ends.
    """
    rows = [
        (
            line.id if whole_ids else short_id(line.id), line.task, line.state, line.queue,
            str(line.attempts), _age(line, now), _cut(line.reason, REASON_LIMIT),
        )
        for line in lines
    ]  # fmt: skip
    columns = ("id", "task", "state", "queue", ">attempts", "age", "reason")
    return [Grid("", columns, rows, "no such task", prose=True)]


def _age(line: TaskLine, now: datetime) -> str:
    return "" if line.sent is None else duration(max(0.0, (now - line.sent).total_seconds()))


def story_blocks(
    story: Story, now: datetime, *, tracebacks: bool, logs: bool = False, whole_times: bool = True
) -> list[Block]:
    """The whole story of one task.

    Args:
        tracebacks: Show those of its failures.
        logs: Show what each attempt has logged.
        whole_times: Repeat the date in each row, even where all have the same.
    """
    blocks: list[Block] = [Facts([row for row in _facts(story, now) if row[1]])]
    if story.attempts:
        starts = [clock_time(each.started, with_offset=False) for each in story.attempts]
        dates = {start[:DATE] for start in starts if start}
        title = "attempts"
        if not whole_times and len(dates) == 1:
            title = f"attempts on {dates.pop()}"
            starts = [start[DATE:].strip() for start in starts]
        blocks.append(
            Grid(
                title,
                (">no", "ended by", "started", ">took", "process", "next", "why"),
                list(map(_attempt_row, story.attempts, starts)),
                prose=True,
            )
        )
    if tracebacks:
        blocks += [
            Passage(f"attempt {each.number}: {each.failure.type}", each.failure.traceback)
            for each in story.attempts
            if each.failure is not None and each.failure.traceback
        ]
    if logs:
        blocks += [
            Passage(f"attempt {each.number}: log", each.log) for each in story.attempts if each.log
        ]
    return blocks


def _facts(story: Story, now: datetime) -> list[tuple[str, str]]:
    counts = f"{story.attempts_counted} (retries {story.retries}, losses {story.losses})"
    if story.suspected:
        counts += f"; {counted(story.suspected, 'time')} beside others when their process died"
    state = story.state
    if story.celery_state not in (story.state, "PENDING", "STARTED"):
        state += f" ({story.celery_state})"
    final = story.finished is not None
    revoking = "asked for; it ends once the running attempt does"
    return [
        ("id", story.id),
        ("task", story.task),
        ("state", state),
        ("reason", _hinted(story.reason)),
        ("revoke", revoking if story.revoke_asked and not final else ""),
        ("queue", story.queue),
        ("priority", str(story.priority) if story.priority else ""),
        ("sent", _when(story.sent, now)),
        ("due", _when(story.due, now) if _delayed(story) else ""),
        ("claimed", _when(story.claimed, now)),
        ("finished", _when(story.finished, now)),
        (
            "process",
            f"{story.process} (lost: no heartbeat)" if story.worker_lost else story.process,
        ),
        ("pid", _one_of(story.pids)),
        ("attempts", counts),
        *[(name, _option(value, now)) for name, value in story.options.items()],
        ("parent", story.parent_id or ""),
        ("root", story.root_id or ""),
        ("args", _data(story.args)),
        ("kwargs", _data(story.kwargs)),
        ("headers", _data(story.headers) if story.headers else ""),
        ("unreadable", story.unreadable or ""),
        ("progress", progress_words(story.progress)),
        ("checkpoint", _size(story.checkpoint_bytes)),
        ("result", _data(story.result) if story.state == "SUCCESS" or story.result else ""),
        ("failure" if final else "last failure", _failure_words(story.failure)),
    ]


def _hinted(reason: str) -> str:
    return f"{reason}; {UNKNOWN_HINT}" if reason.startswith(UNKNOWN_TASK) else reason


def _one_of(pids: Sequence[int]) -> str:
    told = " ".join(map(str, pids))
    return f"one of {told}" if len(pids) > 1 else told


def _delayed(story: Story) -> bool:
    if story.due is None or story.sent is None:
        return False
    return (story.due - story.sent).total_seconds() > 1.0


def _when(at: datetime | None, now: datetime) -> str:
    return "" if at is None else f"{distance(at, now)} ({clock_time(at)})"


def _option(value: Any, now: datetime) -> str:
    return _when(value, now) if isinstance(value, datetime) else _data(value)


def _data(value: Any) -> str:
    return _cut(msgspec.json.encode(value).decode(), DATA_LIMIT)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text)} characters; --json shows them)"


def _size(size: int | None) -> str:
    return "" if size is None else f"saved, {size} bytes"


def _failure_words(failure: FailureView | None) -> str:
    if failure is None:
        return ""
    return f"{failure.type}: {failure.message}" if failure.message else failure.type


def _attempt_row(attempt: AttemptView, started: str) -> tuple[str, ...]:
    why = attempt.reason
    if attempt.failure is not None and attempt.failure.message not in why:
        why = (
            f"{why}: {_failure_words(attempt.failure)}" if why else _failure_words(attempt.failure)
        )
    return (
        str(attempt.number),
        attempt.ended_by,
        started,
        "" if attempt.seconds is None else duration(attempt.seconds),
        attempt.process,
        _next(attempt),
        _cut(why, DATA_LIMIT),
    )


def _next(attempt: AttemptView) -> str:
    if attempt.next_at is None or attempt.ended is None:
        return ""
    return f"{duration(max(0.0, (attempt.next_at - attempt.ended).total_seconds()))} later"


def progress_words(progress: ProgressView | None) -> str:
    """``37 % (37 of 100) resizing``; empty for none."""
    if progress is None:
        return ""
    words = []
    if progress.share is not None:
        words.append(f"{progress.share:.0%} ({progress.done:g} of {progress.total:g})")
    elif progress.done:
        words.append(f"{progress.done:g} done")
    if progress.message:
        words.append(progress.message)
    elif progress.meta is not None and not words:
        words.append(_data(progress.meta))
    return " ".join(words)
