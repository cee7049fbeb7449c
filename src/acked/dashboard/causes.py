"""Failures grouped by their cause: a pure function of some failed tasks.

The *fingerprint* of a failure is its task, the type of its exception, and its message with
everything taken out that differs from one run to the next: numbers, ids, quoted values, addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from acked.record import Record
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
        count: How many.
        first, last: When the first and the last of them failed, wall clock.
        example: The last one.
        said: Its message, redacted.
        literal: The longest part that all their messages share, to search for; may be empty.
    """

    fingerprint: Fingerprint
    count: int
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


def causes(failed: Iterable[Record]) -> list[Cause]:
    """The groups of *failed*, the largest first, among equals the latest first."""
    groups: dict[Fingerprint, list[Record]] = {}
    for record in failed:
        groups.setdefault(fingerprint(record), []).append(record)
    found = [_cause(key, members) for key, members in groups.items()]
    return sorted(found, key=lambda cause: (-cause.count, -cause.last, cause.fingerprint))


def _cause(key: Fingerprint, members: list[Record]) -> Cause:
    last = max(members, key=_ended)
    said = last.failure.message if last.failure else last.reason
    return Cause(
        fingerprint=key,
        count=len(members),
        first=min(map(_ended, members)),
        last=_ended(last),
        example=last.id,
        said=redact_text(said[: 4 * MESSAGE_LIMIT]),
        literal=literal_of(key.message),
    )


def _ended(record: Record) -> float:
    return record.finished or record.sent


DEAD_TYPES = frozenset({"MessageUnreadable", "UnknownTask"})


def is_dead_letter(record: Record) -> bool:
    """Whether *record* failed without its function having had a fair chance: its message cannot be
    read, or it took its worker with it each time."""
    failure = record.failure
    if failure is None:
        return False
    return failure.type in DEAD_TYPES or "; poison: " in failure.message
