"""Reading what failed: for good, for want of a fair chance, and so far.

There may be a million failures, so each look reads the newest thousand or so of what it has not
seen, and says below which `Record.tag` the next one begins. Newest is what was sent last.
"""

from __future__ import annotations

import msgspec

from acked.app import Acked
from acked.broker import Filter
from acked.dashboard.causes import DEAD_TYPES, is_dead_letter
from acked.dashboard.finding import TEXT_WINDOW, Found
from acked.delivery import State
from acked.pages.cached import Cached
from acked.record import Record

AGAIN_AFTER = 2.0
"""Seconds between two looks."""

FAILURES = 1_000
"""Failures of one look."""

DEAD = 100
"""Dead letters of one page."""

LOOKS = 5
"""Times `FAILURES` among which dead letters are looked for at once."""

UPCOMING = 2_000
"""Scheduled tasks among which those that wait for a retry are looked for, the next ones first."""


class Retrying(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that failed and wait for another attempt.

    Args:
        records: Those that were found.
        is_all: There are no others.
    """

    records: list[Record] = []
    is_all: bool = True


class FailureReader:
    """Reads failures of *app*."""

    def __init__(self, app: Acked) -> None:
        self._app = app
        self._newest = Cached(lambda: self._failed(None), every=AGAIN_AFTER)
        self._newest_dead = Cached(lambda: self._dead(None), every=AGAIN_AFTER)
        self._retrying = Cached(self._being_retried, every=AGAIN_AFTER)

    def forget(self) -> None:
        """Something was changed: read again."""
        for each in (self._newest, self._newest_dead, self._retrying):
            each.forget()

    def failed(self, before: int | None = None) -> Found:
        """Up to `FAILURES` tasks that failed for good, the newest first. The newest of all are a
        moment old at most."""
        return self._newest.get() if before is None else self._failed(before)

    def dead(self, before: int | None = None) -> Found:
        """Those of them whose function had no fair chance."""
        return self._newest_dead.get() if before is None else self._dead(before)

    def retrying(self) -> Retrying:
        """What failed and is not given up."""
        return self._retrying.get()

    def _failed(self, before: int | None) -> Found:
        wanted = Filter(states=(State.FAILURE,))
        found = self._app.records.search(wanted, limit=FAILURES + 1, before=before)
        if len(found) <= FAILURES:
            return Found(records=found)
        last = found[FAILURES - 1]
        return Found(records=found[:FAILURES], looked_back_to=last.sent, further=last.tag)

    def _dead(self, before: int | None) -> Found:
        found: list[Record] = []
        look = Found(records=[], further=before)
        for _ in range(LOOKS):
            look = self._failed(look.further)
            for record in look.records:
                if self._is_dead_letter(record):
                    found.append(record)
                if len(found) == DEAD:
                    return Found(records=found, next=record.tag)
            if look.further is None:
                break
        return msgspec.structs.replace(look, records=found)

    def _is_dead_letter(self, record: Record) -> bool:
        # Its attempts are read only where they decide.
        if record.failure is None or record.failure.type not in DEAD_TYPES:
            return False
        return is_dead_letter(record, self._app.records.attempts(record.id))

    def _being_retried(self) -> Retrying:
        records = self._app.records
        upcoming = records.upcoming(limit=UPCOMING)
        newest = records.search(Filter(), limit=1)
        floor = max(0, newest[0].tag - TEXT_WINDOW) if newest else 0
        # Their time has come, and others are before them. An empty text is in every failure.
        wanted = Filter(states=(State.QUEUED,), error="")
        due = records.search(wanted, limit=FAILURES, after=floor)
        waiting = {record.id: record for record in upcoming if record.failure is not None}
        waiting |= {record.id: record for record in due}
        return Retrying(
            records=list(waiting.values()),
            is_all=len(upcoming) < UPCOMING and len(due) < FAILURES and not floor,
        )
