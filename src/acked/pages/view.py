"""What a progress page says about a task: a pure function of its record.

It speaks to somebody who waits, not to who runs the service. So it never holds arguments, texts of
exceptions, names of tasks, workers or queues; a return value only in the words the developer gave.
What the task said about itself (`Task.progress`) is meant for people, and is shown.

Moments stay moments (`Countdown.at`), so that a view changes only when there is news, and the
browser counts the seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from acked.delivery import COMES_BACK, Failure, State
from acked.escaping import plain
from acked.pages.words import ENGLISH, Words
from acked.record import Attempt, Progress, Record
from acked.redaction import redact_text

TEXT_LIMIT = 300
"""Characters shown of any text that comes from a task."""

RECOVERING, GOING_ON = 5.0, 2.0
"""Seconds for which a run that follows a lost one says so; and for which it does although it has
said by itself how far it is."""

TELLING = 2.0
"""Seconds a task must have run before its pace says when it will be done."""

OVERDUE, SLACK, STEPS = 3.0, 2.0, 1_000
"""How many times what a step took so far it may take, and seconds on top, before the time that is
left is not told any more: who says nothing for so long may be dead. Of more steps than that a
report says many at once, and may be as late again as it was."""

TELLABLE = 30 * 86_400.0
"""Seconds beyond which nobody believes a time that is left."""

_NOTHING: Mapping[str, str] = {}


class Phase(StrEnum):
    """Where the task stands, for who waits for it."""

    WAITING = "waiting"
    SCHEDULED = "scheduled"
    WORKING = "working"
    TRYING_AGAIN = "trying_again"
    INTERRUPTED = "interrupted"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    REFUSED = "refused"  # The link is wrong or too old; nothing is said about any task.


FINISHED = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED, Phase.EXPIRED})
"""It has ended; nothing changes unless somebody runs it again."""

SETTLED = FINISHED | {Phase.UNKNOWN, Phase.REFUSED}
"""There is no use in asking again."""


class Countdown(msgspec.Struct, frozen=True):
    """Words around a time that shrinks: `text` has ``{time}`` in it, `at` is the moment (wall
    clock, seconds) towards which it is counted."""

    text: str
    at: float


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of a task.

    Args:
        record: None where there is none.
        attempts: Its runs that ended, oldest first.
        tries: How many runs it gets at most, where that is known.
        in_line: How many tasks wait in its queue, itself included, where that is known. Which of
            them comes first no broker tells cheaply.
        is_lost: Its worker's lease has run out, and nobody has taken it over yet.
        link, result: Where its result is, and the result in words, as the developer wants it shown.
    """

    record: Record | None
    attempts: Sequence[Attempt] = ()
    tries: int | None = None
    in_line: int | None = None
    is_lost: bool = False
    link: str | None = None
    result: str | None = None


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """What the page says. Every text is one line without control characters.

    Args:
        phase: What it looks like.
        headline: The phase in words.
        detail: What the task says of itself, or what happens next.
        fraction: How far it is, 0 to 1; None where that is not known.
        amount: How far it is in words, ``3 of 10``.
        attempt: Which run it is, in words; only from the second on.
        countdown: Until it starts, tries again, or is done.
        link: Where the result is: a path or an http(s) address.
        result: The result in words.
        can_cancel, can_retry: What its state allows.
    """

    phase: Phase
    headline: str
    detail: str = ""
    fraction: float | None = None
    amount: str = ""
    attempt: str = ""
    countdown: Countdown | None = None
    link: str | None = None
    result: str | None = None
    can_cancel: bool = False
    can_retry: bool = False


def view_of(
    known: Known,
    *,
    now: float,
    words: Words = ENGLISH,
    safe_errors: Mapping[str, str] = _NOTHING,
) -> TaskView:
    """What is said about the task at *now* (wall clock, seconds).

    Args:
        known: What was read of it.
        safe_errors: What to say when an exception of that name (``Declined`` or
            ``shop.errors.Declined``) ended it. Its own text is never shown.
    """
    record = known.record
    if record is None:
        return TaskView(
            phase=Phase.UNKNOWN, headline=words.unknown, detail=words.unknown_detail
        )  # fmt: skip
    match record.state:
        case State.SUCCESS:
            return TaskView(
                phase=Phase.DONE, headline=words.done, fraction=1.0,
                link=safe_link(known.link), result=_told(known.result) or None,
            )  # fmt: skip
        case State.FAILURE:
            return TaskView(
                phase=Phase.FAILED, headline=words.failed, can_retry=True,
                detail=_excuse(record.failure, safe_errors) or words.failed_detail,
            )  # fmt: skip
        case State.REVOKED if record.reason == "expired":
            return TaskView(
                phase=Phase.EXPIRED, headline=words.expired, detail=words.expired_detail,
                can_retry=True,
            )  # fmt: skip
        case State.REVOKED:
            return TaskView(
                phase=Phase.CANCELLED, headline=words.cancelled, detail=words.cancelled_detail,
                can_retry=True,
            )  # fmt: skip
        case State.RUNNING:
            return _running(record, known, now, words)
        case State.QUEUED | State.SCHEDULED:
            return _waiting(record, known, now, words)


def refused(words: Words = ENGLISH) -> TaskView:
    """The same for a wrong link, one that is too old, and one that is not for this visitor."""
    return TaskView(phase=Phase.REFUSED, headline=words.refused, detail=words.refused_detail)


def unreachable(words: Words = ENGLISH) -> TaskView:
    """The broker does not answer, so nothing can be said."""
    return TaskView(
        phase=Phase.WAITING, headline=words.unreachable, detail=words.unreachable_detail
    )


# -- phases that go on -----------------------------------------------------------------------------


def _waiting(record: Record, known: Known, now: float, words: Words) -> TaskView:
    last = _came_back(record, known.attempts)
    later = record.state is State.SCHEDULED and record.due > now
    if last is not None and _was_interrupted(last):
        return TaskView(
            phase=Phase.INTERRUPTED, headline=words.interrupted, detail=words.interrupted_detail,
            countdown=Countdown(words.again_in, record.due) if later else None, can_cancel=True,
        )  # fmt: skip
    if last is not None:
        return TaskView(
            phase=Phase.TRYING_AGAIN, headline=words.trying_again,
            detail=words.trying_again_detail, attempt=_attempt(record, known, words),
            countdown=Countdown(words.again_in, record.due) if later else None, can_cancel=True,
        )  # fmt: skip
    # A task that no worker knows yet is put off for seconds at a time: that is no schedule.
    if later and not record.reason:
        return TaskView(
            phase=Phase.SCHEDULED, headline=words.scheduled,
            countdown=Countdown(words.starts_in, record.due), can_cancel=True,
        )  # fmt: skip
    return TaskView(
        phase=Phase.WAITING, headline=words.waiting, can_cancel=True,
        detail=words.in_line.format(count=known.in_line) if (known.in_line or 0) > 1 else "",
    )  # fmt: skip


def _running(record: Record, known: Known, now: float, words: Words) -> TaskView:
    began = record.claimed or now
    progress = record.progress if record.progress and record.progress.at >= began else None
    last = known.attempts[-1] if known.attempts else None
    # What the run before had reached stays on the page until this one says something.
    shown = progress or record.progress
    fraction = _fraction(shown)
    noticed = GOING_ON if progress else RECOVERING
    recovers = not record.revoke and (
        known.is_lost or (last is not None and _was_interrupted(last) and now - began < noticed)
    )
    if recovers:
        phase, headline, detail = Phase.INTERRUPTED, words.interrupted, words.interrupted_detail
    else:
        phase, headline = Phase.WORKING, words.stopping if record.revoke else words.working
        detail = _told(shown.message) if shown else ""
    return TaskView(
        phase=phase,
        headline=headline,
        detail=detail,
        fraction=fraction,
        amount=_amount(shown, words) if fraction is not None else "",
        attempt=_attempt(record, known, words),
        countdown=None if known.is_lost else _left(progress, began, now, known.attempts, words),
        can_cancel=not record.revoke,
    )


def _came_back(record: Record, attempts: Sequence[Attempt]) -> Attempt | None:
    """The run because of whose end the task waits now."""
    if not attempts or attempts[-1].event not in COMES_BACK or record.reason == "requeued":
        return None
    return attempts[-1]


def _was_interrupted(last: Attempt) -> bool:
    """Whether the run stopped through no doing of its own."""
    return last.event in COMES_BACK and (last.loss or not last.counted)


# -- words -----------------------------------------------------------------------------------------


def _told(text: str | None) -> str:
    """What a task says, for people: one line, no secrets in it, not too long."""
    if not text:
        return ""
    # Cut before it is searched, and again after: a mask may be longer than what it hides.
    line = redact_text(plain(text[: 4 * TEXT_LIMIT]))
    return line if len(line) <= TEXT_LIMIT else line[: TEXT_LIMIT - 1].rstrip() + "…"


def _excuse(failure: Failure | None, safe_errors: Mapping[str, str]) -> str | None:
    if failure is None:
        return None
    bare = failure.type.rpartition(".")[2]
    return safe_errors.get(failure.type) or safe_errors.get(bare)


def _attempt(record: Record, known: Known, words: Words) -> str:
    """Which run this is, or the next one is. Interrupted runs gave their number back."""
    number = record.retries + 1
    if number < 2:
        return ""
    if known.tries is None or known.tries < number:
        return words.attempt.format(number=number)
    return words.attempt_of.format(number=number, total=known.tries)


def _fraction(progress: Progress | None) -> float | None:
    if progress is None or not (math.isfinite(progress.done) and 0 < progress.total < math.inf):
        return None
    fraction = progress.done / progress.total
    return min(1.0, max(0.0, fraction)) if math.isfinite(fraction) else None


def _amount(progress: Progress | None, words: Words) -> str:
    if progress is None:
        return ""
    return words.amount.format(done=_number(progress.done), total=_number(progress.total))


def _number(value: float) -> str:
    """``3``, ``2.5``, ``12 000``: with a thin space, which no language takes for a point."""
    if abs(value) >= 1e12:
        return f"{value:.3g}"
    rounded = round(value, 1)
    text = f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,.1f}"
    return text.replace(",", "\u202f")


def _left(
    progress: Progress | None, began: float, now: float, attempts: Sequence[Attempt], words: Words
) -> Countdown | None:
    """When it will be done, at the pace so far.

    Only for a first run: a later one may have gone on from a checkpoint, which would make it look
    faster than it is.
    """
    fraction = _fraction(progress)
    if progress is None or not fraction or fraction >= 1.0 or attempts:
        return None
    ran = progress.at - began
    step = OVERDUE * ran / max(progress.done, 1.0) if progress.total <= STEPS else ran
    if ran < TELLING or now - progress.at > step + SLACK:
        return None
    left = ran * (1.0 - fraction) / fraction
    return Countdown(words.time_left, progress.at + left) if left < TELLABLE else None


def safe_link(link: str | None) -> str | None:
    """*link* where it leads to a page: a path of this site, or an http(s) address."""
    if not link:
        return None
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    unsafe = plain(link) != link or "\\" in link or link.startswith("//")
    return None if unsafe or parts.scheme not in {"", "http", "https"} else link


def seconds_in_words(seconds: float) -> str:
    """``30 s``, ``5 min``, ``2 h``, ``3 d``: the larger, the coarser; never below 1 s."""
    whole = max(1, math.ceil(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= 2 * size or (whole >= size and size == 60):
            return f"{math.ceil(whole / size)}\u00a0{unit}"
    return f"{whole}\u00a0s"
