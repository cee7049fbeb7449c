"""A search as it stands in the address of a page, and as the broker takes it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import msgspec

from acked.broker import Filter
from acked.delivery import State

LONGEST = 300
"""Characters of one field that are looked at."""

FIELDS = ("state", "id", "task", "queue", "worker", "text", "error", "since", "until")

LABELS = {
    "state": "state", "id": "id contains", "task": "task", "queue": "queue", "worker": "worker",
    "text": "arguments contain", "error": "error contains", "since": "sent since",
    "until": "sent before",
}  # fmt: skip


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks are wanted, field by field as they were typed; empty ones do not ask.

    Args:
        state: Names of `State`.
        since, until: A time (``2026-11-23T12:00``, UTC where it names no zone), or so long ago
            (``90s``, ``30m``, ``6h``, ``2d``).
    """

    state: tuple[str, ...] = ()
    id: str = ""
    task: str = ""
    queue: str = ""
    worker: str = ""
    text: str = ""
    error: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]]) -> tuple[Query, list[str]]:
        """The query that the parameters of an address ask for, and what is wrong with them.

        What is wrong is left out, so that a page can still be shown.
        """
        fields: dict[str, str] = {}
        states: list[str] = []
        wrong: list[str] = []
        for name, typed in pairs:
            value = typed.strip()[:LONGEST]
            if not value or name not in FIELDS:
                continue
            if name != "state":
                fields[name] = value
            elif value in State.__members__:
                states.append(value)
            else:
                wrong.append(f"{value!r} is no state: those are {', '.join(State)}.")
        timeless = [
            name
            for name in ("since", "until")
            if name in fields and moment_of(fields[name], now=0.0) is None
        ]
        wrong += [
            f"{fields.pop(name)!r} is no time: write 2026-11-23T12:00, or 30m, 6h, 2d ago."
            for name in timeless
        ]
        return cls(state=tuple(dict.fromkeys(states)), **fields), wrong

    def pairs(self) -> list[tuple[str, str]]:
        """The parameters that say the same."""
        found: list[tuple[str, str]] = []
        for name in FIELDS:
            value = getattr(self, name)
            found += [(name, each) for each in ((value,) if isinstance(value, str) else value)]
        return [(name, value) for name, value in found if value]

    def encoded(self, **changes: object) -> str:
        """The same with *changes*, for a link; a change to None takes a field away."""
        pairs = [(name, value) for name, value in self.pairs() if name not in changes]
        pairs += [(name, str(value)) for name, value in changes.items() if value is not None]
        return urlencode(pairs)

    def in_words(self) -> str:
        """``state FAILURE, queue mails``; ``every task`` where nothing is asked."""
        asked: dict[str, list[str]] = {}
        for name, value in self.pairs():
            asked.setdefault(name, []).append(value)
        said = [f"{LABELS[name]} {' or '.join(values)}" for name, values in asked.items()]
        return ", ".join(said) or "every task"

    def filter(self, *, now: float) -> Filter:
        """What the broker is asked at *now*, wall-clock seconds."""
        return Filter(
            states=tuple(State(each) for each in self.state) or None,
            queue=self.queue or None,
            task=self.task or None,
            id_part=self.id or None,
            worker=self.worker or None,
            sent_from=moment_of(self.since, now=now),
            sent_before=moment_of(self.until, now=now),
            text=self.text or None,
            error=self.error or None,
        )


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment_of(text: str, *, now: float) -> float | None:
    """The time that *text* says, wall-clock seconds; None where it says none."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isascii() and number.isdigit() and len(number) <= 6:
        return now - timedelta(**{_UNITS[unit]: int(number)}).total_seconds()
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
