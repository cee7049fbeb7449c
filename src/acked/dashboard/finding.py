"""Finding tasks among a million without reading a million.

Pages follow each other by `Record.tag`: the next one begins below the last of this one, however
many there are above. A search looks at a bounded number of records, the *window*, and says how far
back it looked; the rest is looked at when somebody asks for it.

A text is only found where it can be seen. The broker looks for it in what was really sent; a match
inside something that is shown as ``***`` is dropped, or else a search would tell whether a guessed
secret is right.
"""

from __future__ import annotations

import msgspec

from acked.app import Acked
from acked.broker import Filter, Records
from acked.dashboard.query import Query
from acked.delivery import State
from acked.errors import MessageUnreadable
from acked.message import decode, decode_arguments
from acked.record import Record
from acked.redaction import redact, redact_positional, redact_text
from acked.story import parameter_names

PAGE = 50
"""Tasks of one page."""

TEXT_WINDOW = 50_000
"""Records that a search for a text looks at: it reads each as a whole."""

WINDOW = 80_000
"""Records that any other search looks at."""

WINDOWS = 20
"""Windows that are looked at for one step of something that is done to all that match."""

INDEXED = frozenset({State.RUNNING, State.FAILURE, State.REVOKED})
"""States that brokers find without looking at the others."""

CHUNK = 500
"""Tasks in one question to the broker."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One page.

    Args:
        records: The tasks, newest first.
        next: `Record.tag` below which the next page begins; None where this is the last.
        looked_back_to: When the oldest record was sent that was looked at, wall clock; None where
            all were, or the page was filled before.
        further: `Record.tag` below which a further look begins; None where all were looked at.
    """

    records: list[Record]
    next: int | None = None
    looked_back_to: float | None = None
    further: int | None = None


class Finder:
    """Searches the records of *app*."""

    def __init__(self, app: Acked) -> None:
        self._app = app

    def find(self, query: Query, *, before: int | None = None, limit: int = PAGE) -> Found:
        """The newest *limit* tasks that *query* asks for and that were sent before *before*."""
        records, now = self._app.records, self._app.clock.now()
        wanted = query.filter(now=now)
        floor = _floor(records, wanted, before)
        found: list[Record] = []
        while len(found) <= limit:
            page = records.search(wanted, limit=_ask(query, limit), before=before, after=floor)
            found += [record for record in page if self.shows(record, query)]
            if len(page) < _ask(query, limit):
                break
            before = page[-1].tag
        if len(found) > limit:
            return Found(records=found[:limit], next=found[limit - 1].tag)
        if floor is None:
            return Found(records=found)
        older = records.search(Filter(), limit=1, before=floor + 1)
        if not older:
            return Found(records=found)
        return Found(records=found, looked_back_to=older[0].sent, further=floor + 1)

    def shows(self, record: Record, query: Query) -> bool:
        """Whether what is searched for can be seen in *record*."""
        return (not query.text or query.text in self._shown_message(record)) and (
            not query.error or query.error in shown_failure(record)
        )

    def _shown_message(self, record: Record) -> str:
        try:
            message = decode(record.body)
            args, kwargs = decode_arguments(message)
        except MessageUnreadable:
            return redact_text(record.body.decode(errors="replace"))
        names = parameter_names(self._app, record.task)
        values: list[str] = [record.id, record.task, message.parent_id or "", message.root_id or ""]
        _collect(redact_positional(args, names), values)
        _collect(redact(kwargs), values)
        _collect(redact(message.headers), values)
        return "\n".join(values)


def shown_failure(record: Record) -> str:
    """What can be seen of the latest failure of *record*."""
    failure = record.failure
    if failure is None:
        return ""
    return "\n".join(
        (failure.type, redact_text(failure.message), redact_text(failure.traceback))
    )  # fmt: skip


def _collect(value: object, into: list[str]) -> None:
    """Every text in JSON data, as it is and as JSON has it: who searches may type either."""
    text = msgspec.json.encode(value).decode()
    into.append(text)
    level: list[object] = [value]
    while level:
        each = level.pop()
        if isinstance(each, str):
            into.append(each)
        elif isinstance(each, dict):
            level += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            level += each


def _ask(query: Query, limit: int) -> int:
    # More at once where some are dropped afterwards.
    return CHUNK if query.text or query.error else limit + 1


def _floor(records: Records, wanted: Filter, before: int | None) -> int | None:
    """`Record.tag` above which is looked; None looks at all."""
    if wanted == Filter(states=wanted.states) and (
        wanted.states is None or set(wanted.states) <= INDEXED
    ):
        return None
    if before is None:
        newest = records.search(Filter(), limit=1)
        before = newest[0].tag + 1 if newest else 1
    window = TEXT_WINDOW if wanted.text is not None or wanted.error is not None else WINDOW
    floor = before - 1 - window
    return floor if floor > 0 else None


def matching(
    finder: Finder, query: Query, *, before: int | None, limit: int
) -> tuple[list[Record], int | None]:
    """Up to *limit* tasks that *query* asks for, and where to go on; None at the end.

    They come from `WINDOWS` windows at most, so there may be more where few or none were found.
    """
    records: list[Record] = []
    windows = 0
    while True:
        found = finder.find(query, before=before, limit=min(CHUNK, limit - len(records)))
        records += found.records
        windows += found.next is None
        before = found.next if found.next is not None else found.further
        if before is None or len(records) >= limit or windows >= WINDOWS:
            return records, before
