"""Finding tasks among a million without reading a million.

Pages follow each other by `Record.tag`: the next one begins below the last of this one, however
many there are above. A search looks at a bounded number of records, the *window*, and says how far
back it looked; the rest is looked at when somebody asks for it.

Two things are found however old they are: the task of an id that was typed as a whole, and what was
sent before some time, since the window then begins there.

A text is only found where it can be seen. The broker looks for it in what was really sent; a match
inside something that is shown as ``***`` is dropped, or else a search would tell whether a guessed
secret is right.
"""

from __future__ import annotations

from statistics import median_low

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

PROBE = 5
"""Neighbours that are asked when they were sent, so that a clock that is wrong has little say."""

MARGIN = 1_000
"""Records above the place of a time that are looked at as well: tasks are numbered as they arrive,
which is a little later than they were sent, and not in quite the same order."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One page.

    Args:
        records: The tasks, newest first.
        next: `Record.tag` below which the next page begins; None where this is the last.
        looked_back_to: When the oldest record was sent that was looked at, wall clock; None where
            all were, or the page was filled before.
        further: `Record.tag` below which a further look begins; None where all were looked at.
        newest: `Record.tag` below which a look from the newest would begin; None where this one
            did.
    """

    records: list[Record]
    next: int | None = None
    looked_back_to: float | None = None
    further: int | None = None
    newest: int | None = None


class Finder:
    """Searches the records of *app*."""

    def __init__(self, app: Acked) -> None:
        self._app = app

    def find(self, query: Query, *, before: int | None = None, limit: int = PAGE) -> Found:
        """The newest *limit* tasks that *query* asks for and that were sent before *before*.

        Without *before*, the task whose whole id is asked for is among them wherever it stands.
        """
        records, now = self._app.records, self._app.clock.now()
        wanted = query.filter(now=now)
        named, newest = None, None
        if before is None:
            named = self._named(wanted, query)
            before, newest = _beginning(records, wanted.sent_before)
        floor = _floor(records, wanted, before)
        found: list[Record] = []
        while len(found) <= limit:
            page = records.search(wanted, limit=_ask(query, limit), before=before, after=floor)
            found += [record for record in page if self.shows(record, query)]
            if len(page) < _ask(query, limit):
                break
            before = page[-1].tag
        if len(found) > limit:
            return Found(records=found[:limit], next=found[limit - 1].tag, newest=newest)
        if named is not None and all(record.id != named.id for record in found):
            found = sorted([*found, named], key=lambda record: record.tag, reverse=True)
        older = [] if floor is None else records.search(Filter(), limit=1, before=floor + 1)
        if floor is None or not older:
            return Found(records=found, newest=newest)
        return Found(records=found, looked_back_to=older[0].sent, further=floor + 1, newest=newest)

    def _named(self, wanted: Filter, query: Query) -> Record | None:
        """The task of exactly the id that is asked for, if the rest of *query* fits it as well."""
        record = self._app.records.get(wanted.id_part) if wanted.id_part else None
        if record is None or not wanted.accepts(record) or not self.shows(record, query):
            return None
        return record

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


def _beginning(records: Records, sent_before: float | None) -> tuple[int | None, int | None]:
    """`Record.tag` below which there is what was sent before *sent_before*, and the one below which
    there is everything; None and None where a look begins at the newest.

    Tags ascend as tasks are sent, so the place is bisected. What a wrong clock has sent stands
    elsewhere, and can only be found from the newest on.
    """
    if sent_before is None:
        return None, None
    newest = records.search(Filter(), limit=PROBE)
    if not newest or _sent(newest) < sent_before:
        return None, None
    low, high = 1, newest[0].tag
    while low < high:
        middle = (low + high) // 2
        probe = records.search(Filter(), limit=PROBE, before=middle + 1)
        if not probe or _sent(probe) < sent_before:
            low = middle + 1
        else:
            high = middle
    begins, everything = low + MARGIN, newest[0].tag + 1
    return (begins, everything) if begins < everything else (None, None)


def _sent(neighbours: list[Record]) -> float:
    """When most of them were sent."""
    return median_low(record.sent for record in neighbours)


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
    records: dict[str, Record] = {}  # the task of a whole id may be found twice
    windows = 0
    while True:
        found = finder.find(query, before=before, limit=min(CHUNK, limit - len(records)))
        records |= {record.id: record for record in found.records}
        windows += found.next is None
        before = found.next if found.next is not None else found.further
        if before is None or len(records) >= limit or windows >= WINDOWS:
            return list(records.values()), before
