"""Failures grouped by their cause: a pure function of some tasks that failed.

The *fingerprint* of a failure is its task, the type of its exception, and its message with
everything taken out that differs from one run to the next: numbers, ids, quoted values, addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from acked.delivery import State
from acked.record import Attempt, Record
from acked.redaction import redact_text

MESSAGE_LIMIT = 500
"""Characters of a message that are compared."""

HOLE = "…"
"""What stands for what was taken out."""

# Each alternative begins with what the others cannot begin with, or is bounded, so that hostile
# text costs no more than its length.
_VARIES = re.compile(
    r"""
      "[^"\n]{0,200}"                                  # quoted
    | (?<!\w) '[^'\n]{0,200}' (?!\w)                   # quoted; not an apostrophe
    | `[^`\n]{0,200}`
    | \b [0-9a-f]{8} (?: -[0-9a-f]{4}){3} -[0-9a-f]{12} \b
    | \b 0x[0-9a-f]{1,40} \b
    | \b (?=[a-f]{0,40}\d) [0-9a-f]{8,64} \b           # a hexadecimal id
    | (?<![A-Za-z_]) [-+]? \d [\d.,:_]*                # numbers, times, addresses
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Fingerprint(msgspec.Struct, frozen=True, order=True):
    """What failures of one cause have in common. `message` is redacted."""

    task: str
    type: str
    message: str


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """The failures of one cause.

    Args:
        fingerprint: What they have in common.
        count: How many have failed for good.
        retrying: How many more failed so and wait for another attempt.
        first, last: When the first and the last of them failed, wall clock; of one that waits for
            another attempt, when the latest began.
        example: The last one.
        said: Its message, redacted.
        literal: The longest part that all their messages share, to search for; may be empty.
    """

    fingerprint: Fingerprint
    count: int
    retrying: int
    first: float
    last: float
    example: str
    said: str
    literal: str


def fingerprint(record: Record) -> Fingerprint:
    """That of a failed task."""
    failure = record.failure
    if failure is None:
        return Fingerprint(record.task, "", generalised(redact_text(record.reason)))
    return Fingerprint(record.task, failure.type, generalised(redact_text(failure.message)))


def generalised(message: str) -> str:
    """*message* without what differs from run to run."""
    first_lines = message[:MESSAGE_LIMIT].strip()
    general = _VARIES.sub(HOLE, first_lines)
    return " ".join(re.sub(rf"{HOLE}(?:[\s,;]*{HOLE})+", HOLE, general).split())


def literal_of(general: str) -> str:
    """The longest part of a generalised message that stands in every one of them as it is."""
    parts = re.split(rf"{HOLE}|\*\*\*", general)
    longest = max(parts, key=len).strip()
    return longest if len(longest) >= 4 else ""


def causes(failed: Iterable[Record], retrying: Iterable[Record] = ()) -> list[Cause]:
    """The groups of *failed* and *retrying*, the largest first, among equals the latest first."""
    groups: dict[Fingerprint, list[Record]] = {}
    for record in (*failed, *retrying):
        groups.setdefault(fingerprint(record), []).append(record)
    found = [_cause(key, members) for key, members in groups.items()]
    return sorted(
        found, key=lambda cause: (-cause.count - cause.retrying, -cause.last, cause.fingerprint)
    )


def _cause(key: Fingerprint, members: list[Record]) -> Cause:
    last = max(members, key=_failed_at)
    said = last.failure.message if last.failure else last.reason
    count = sum(record.is_final for record in members)
    return Cause(
        fingerprint=key,
        count=count,
        retrying=len(members) - count,
        first=min(map(_failed_at, members)),
        last=_failed_at(last),
        example=last.id,
        said=redact_text(said[: 4 * MESSAGE_LIMIT]),
        literal=literal_of(key.message),
    )


def _failed_at(record: Record) -> float:
    return record.finished or record.claimed or record.sent


DEAD_TYPES = frozenset({"MessageUnreadable", "WorkerLostError"})
"""Types of the failures that dead letters have, and that a task can raise as well."""


def is_dead_letter(record: Record, attempts: Sequence[Attempt]) -> bool:
    """Whether *record* failed without its function having had a fair chance: its message cannot be
    read, so that no attempt began, or its last attempt ended with its worker.

    The history of the *attempts* says so, which no task can write; the failure's text it can.
    """
    if record.state is not State.FAILURE or record.failure is None:
        return False
    if record.failure.type not in DEAD_TYPES:
        return False
    ended = [each for each in attempts if each.ended == record.finished]
    return not ended or ended[-1].loss
