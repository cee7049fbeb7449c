"""Finding tasks by what an operator types: part of an id, Celery's state names, words."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from acked.broker import Filter, Records
from acked.cli.exits import Exit, Stop
from acked.delivery import WAITING, State
from acked.record import Record, celery_state

SHORTEST_ID_PART = 6
PAGE = 500

_CELERY_STATES: dict[str, tuple[State, ...]] = {
    "PENDING": tuple(sorted(WAITING)),
    "RETRY": tuple(sorted(WAITING)),
    "STARTED": (State.RUNNING,),
}

STATE_NAMES = (*(state.value for state in State), *_CELERY_STATES)


UNKNOWN_TASK = "no worker knows this task"
"""How the reason of a task begins that was put off for that reason."""

UNKNOWN_HINT = "is its module imported by the one the worker was started with?"


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks are wanted; empty fields do not ask.

    Args:
        states: Names of `STATE_NAMES`; any of them will do.
        queue, task: Whole names.
        reason: Text that the reason or the failure contains, in any case.
    """

    states: tuple[str, ...] = ()
    queue: str | None = None
    task: str | None = None
    reason: str = ""


def find(records: Records, query: Query, *, before: int | None = None) -> Iterator[Record]:
    """The tasks that *query* asks for, newest first, read page by page.

    Args:
        before: `Record.tag` to start below.
    """
    wanted = Filter(states=_states(query.states), queue=query.queue, task=query.task)
    while page := records.search(wanted, limit=PAGE, before=before):
        yield from (record for record in page if _matches(record, query))
        if len(page) < PAGE:
            return
        before = page[-1].tag


def _states(names: tuple[str, ...]) -> tuple[State, ...] | None:
    if not names:
        return None
    found = {state for name in names for state in _CELERY_STATES.get(name) or (State(name),)}
    return tuple(sorted(found))


def _matches(record: Record, query: Query) -> bool:
    if query.states and not any(_is(record, name) for name in query.states):
        return False
    if not query.reason:
        return True
    told = f"{record.reason}\n{record.failure or ''}"
    return query.reason.casefold() in told.casefold()


def _is(record: Record, name: str) -> bool:
    if name in ("PENDING", "RETRY"):
        return celery_state(record) == name
    return record.state in _CELERY_STATES.get(name, (name,))


def resolve(records: Records, part: str) -> Record:
    """The task whose id is *part*, or begins or ends with it.

    Raises:
        Stop: There is none, there are several, or *part* is too short to look for.
    """
    if (exact := records.get(part)) is not None:
        return exact
    if len(part) < SHORTEST_ID_PART:
        raise Stop(
            f"no task has the id {part!r}: to abbreviate one, give at least "
            f"{SHORTEST_ID_PART} characters of its beginning or end",
            Exit.NOT_FOUND,
        )
    found = _with_id_part(records, part)
    if not found:
        raise Stop(
            f"no task has the id {part!r}: it was never sent here, or was discarded",
            Exit.NOT_FOUND,
        )
    if len(found) > 1:
        raise Stop(
            f"the id {part!r} is ambiguous: give more of it",
            Exit.USAGE,
            tuple(f"  {record.id}  {record.task}  {record.state.value}" for record in found),
        )
    return found[0]


def _with_id_part(records: Records, part: str) -> list[Record]:
    found: list[Record] = []
    before: int | None = None
    while page := records.search(Filter(id_part=part), limit=PAGE, before=before):
        found += [each for each in page if each.id.startswith(part) or each.id.endswith(part)]
        if len(page) < PAGE or len(found) > 10:
            break
        before = page[-1].tag
    return found[:10]
