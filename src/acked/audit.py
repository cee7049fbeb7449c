"""Who did what in the web pages: lines of JSON at the logger ``acked.audit``, and the last entries
in memory for the page that shows them."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from acked.escaping import one_line
from acked.redaction import redact_text

logger = logging.getLogger("acked.audit")

KEPT = 500
"""Entries for the page. The log has them all."""

KEPT_REFUSED = 100
"""Further entries, of logins and forms that were refused: anybody can make those."""

ACTION_LIMIT = 200
"""Characters of an action: that of a refused form is the path it was sent to."""

TARGET_LIMIT = 2_000
"""Characters of what it was done to."""

ID_LIMIT = 200
"""Characters of an id; no task has a longer one, but a form may."""

IDS_LIMIT = 4_000
"""Characters of ids in one line: what collects logs cuts long lines."""

_numbers = itertools.count(1)


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that somebody did, or tried.

    Args:
        number: From 1, in this process.
        at: Wall-clock seconds.
        who: The user.
        action: ``retry``, ``login``, ...
        target: What it was done to: an id, a queue, a filter.
        count: How many tasks it touched; None where it is not about a number of tasks.
        source: The address it came from.
        outcome: ``done``, or why not.
        ids: The tasks it was asked for, where they are several. `count` says how many of them were
            in a state that allowed it.
        part, parts: Where the ids do not fit into one line, this is line `part` of `parts`.
    """

    number: int
    at: float
    who: str
    action: str
    target: str
    count: int | None
    source: str
    outcome: str
    ids: tuple[str, ...] = ()
    part: int = 1
    parts: int = 1


def note(
    *, who: str, action: str, source: str, target: str = "", count: int | None = None,
    outcome: str = "done", ids: Sequence[str] = (),
) -> Entry:  # fmt: skip
    """Write an entry to the log. What is given back is without the ids, however many there were."""
    entry = Entry(
        number=next(_numbers), at=time.time(), who=one_line(who[:200]),
        action=one_line(action[:ACTION_LIMIT]),
        target=_shown(target), count=count, source=source, outcome=_shown(outcome),
    )  # fmt: skip
    parts = list(_lines_of(ids)) or [[]]
    for part, each in enumerate(parts, 1):
        _write(msgspec.structs.replace(entry, ids=tuple(each), part=part, parts=len(parts)))
    return entry


class Audit:
    """The record of actions. Safe from any thread."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        # Apart, so that strangers cannot push out what was done.
        self._refused: deque[Entry] = deque(maxlen=KEPT_REFUSED)
        self._lock = threading.Lock()

    def note(
        self, *, who: str, action: str, source: str, target: str = "", count: int | None = None,
        outcome: str = "done", ids: Sequence[str] = (),
    ) -> Entry:  # fmt: skip
        """Write an entry down."""
        entry = note(
            who=who, action=action, source=source, target=target, count=count, outcome=outcome,
            ids=ids,
        )  # fmt: skip
        with self._lock:
            (self._refused if outcome.startswith("refused") else self._entries).append(entry)
        return entry

    def latest(self) -> list[Entry]:
        """The newest first."""
        with self._lock:
            both = [*self._entries, *self._refused]
        return sorted(both, key=lambda entry: entry.number, reverse=True)

    def entry(self, number: int) -> Entry | None:
        """One of those in memory."""
        with self._lock:
            return next((each for each in self._entries if each.number == number), None)


def _lines_of(ids: Sequence[str]) -> Iterator[list[str]]:
    line: list[str] = []
    length = 0
    for each in (one_line(task_id[:ID_LIMIT]) for task_id in ids):
        if line and length + len(each) > IDS_LIMIT:
            yield line
            line, length = [], 0
        line.append(each)
        length += len(each)
    if line:
        yield line


def _shown(text: str) -> str:
    return one_line(redact_text(text[:TARGET_LIMIT]))


# -- where it goes ---------------------------------------------------------------------------------

_unheard = logging.StreamHandler()
_unheard.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
_stderr_lock = threading.Lock()


def _write(entry: Entry) -> None:
    # JSON escapes line breaks, so that no name or filter can forge a line.
    text, extra = msgspec.json.encode(entry).decode(), {"audit": msgspec.to_builtins(entry)}
    if _is_heard():
        logger.info("%s", text, extra=extra)
        return
    record = logger.makeRecord(
        logger.name, logging.INFO, __file__, 0, "%s", (text,), None, "note", extra
    )
    with _stderr_lock:
        _unheard.setStream(sys.stderr)
        _unheard.handle(record)


def _is_heard() -> bool:
    """Whether a line gets anywhere, or somebody said of this very logger that it should not.

    Asked each time: an application may configure logging at any moment, and in doing so switch a
    logger off that it does not name.
    """
    if logger.level > logging.INFO or not logger.propagate:
        return True
    if not logger.isEnabledFor(logging.INFO):
        return False
    each: logging.Logger | None = logger
    while each is not None:
        if any(handler.level <= logging.INFO for handler in each.handlers):
            return True
        each = each.parent if each.propagate else None
    return False
