"""The pages that change something: each asks first, by GET, and then does it, by POST."""

from __future__ import annotations

from collections import Counter

import msgspec
from starlette.responses import Response

from acked.dashboard.deeds import DEEDS, STEP, Deed, do_to_queue, do_to_tasks
from acked.dashboard.desk import Desk, Visit, led_back
from acked.dashboard.finding import matching
from acked.dashboard.query import Query
from acked.dashboard.reading import row_of
from acked.dashboard.words import counted
from acked.delivery import State
from acked.errors import AckedError
from acked.escaping import one_line
from acked.record import Record

SELECTED = 500
"""Tasks that can be named one by one."""

SAMPLE = 5
"""Of many tasks, those that are shown before something is done to all of them."""

LOOKED = 1_000
"""Of many tasks, those that are counted before."""


def _deed(visit: Visit) -> Deed | None:
    return DEEDS.get(visit.request.path_params["deed"])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _named(selected: list[str]) -> str:
    return f"{len(selected)} selected tasks" if len(selected) > 1 else "".join(selected)


def _refused(desk: Desk, visit: Visit, deed: Deed, target: str) -> Response:
    desk.note(visit, deed.name, target=target, outcome="not permitted")
    return desk.wrong(
        visit, "Not permitted", f"{visit.visitor.name} may not {deed.verb.lower()} anything.", 403
    )


# -- asking ----------------------------------------------------------------------------------------


async def confirm(desk: Desk, visit: Visit) -> Response:
    """Say what would be done, and ask."""
    deed = _deed(visit)
    if deed is None:
        return desk.wrong(visit, "No such action", "There is nothing of that name to do.", 404)
    if not visit.may(deed.action):
        return desk.wrong(
            visit, "Not permitted", f"{visit.visitor.name} may not {deed.verb.lower()} here.", 403
        )
    parameters = visit.request.query_params
    if not deed.for_tasks:
        return await _confirm_queue(desk, visit, deed, visit.asked("queue"))
    if ids := parameters.getlist("selected")[:SELECTED]:
        return await _confirm_selected(desk, visit, deed, ids)
    if "matching" in parameters:
        return await _confirm_matching(desk, visit, deed)
    return desk.wrong(visit, "Nothing is selected", "Go back and select some tasks first.", 400)


async def _confirm_queue(desk: Desk, visit: Visit, deed: Deed, queue: str) -> Response:
    known = {each.queue: each for each in await desk.in_thread(desk.app.records.counts)}
    if queue not in known and deed.name != "pause":
        return desk.wrong(visit, "No such queue", f"There is no queue {queue[:200]!r} here.", 404)
    counts = known.get(queue)
    waiting = counts.queued + counts.scheduled if counts else 0
    return desk.show(
        visit, "confirm", deed=deed, back="/queues", fields=[("queue", queue)], rows=[], names=[],
        subject=f"the queue {one_line(queue)}", more=0,
        detail=f"{counted(waiting, 'task')} waiting in it now.",
    )  # fmt: skip


async def _confirm_selected(desk: Desk, visit: Visit, deed: Deed, ids: list[str]) -> Response:
    def read() -> list[Record]:
        return [each for each in map(desk.app.records.get, dict.fromkeys(ids)) if each is not None]

    records = await desk.in_thread(read)
    fit = [record for record in records if record.state in deed.states]
    if not fit:
        states = ", ".join(deed.states)
        return desk.wrong(
            visit, "Nothing to do",
            f"Only tasks that are {states} can be {deed.done}; none of these is.", 409,
        )  # fmt: skip
    left = len(records) - len(fit)
    now = desk.reader.now
    back = f"/task?id={fit[0].id}" if len(ids) == 1 else "/tasks"
    return desk.show(
        visit, "confirm", deed=deed, back=back, rows=[row_of(each, now) for each in fit[:50]],
        names=[], fields=[("selected", record.id) for record in fit], more=max(0, len(fit) - 50),
        subject=counted(len(fit), "task"),
        detail=f"{counted(left, 'other task')} left out: not in a state that allows it."
        if left else "",
    )  # fmt: skip


def narrowed(query: Query, deed: Deed) -> Query | None:
    """*query* without the states that *deed* cannot be done in; None where nothing is left."""
    wanted = tuple(State(each) for each in query.state) or deed.by_default
    states = tuple(state.value for state in wanted if state in deed.states)
    return msgspec.structs.replace(query, state=states) if states else None


async def _confirm_matching(desk: Desk, visit: Visit, deed: Deed) -> Response:
    asked, wrong = Query.parse(visit.request.query_params.multi_items())
    query = narrowed(asked, deed)
    if wrong or query is None:
        why = " ".join(wrong) or f"Only tasks that are {', '.join(deed.states)} can be {deed.done}."
        return desk.wrong(visit, "Nothing to do", why, 400)

    found, further = await desk.in_thread(
        lambda: matching(desk.reader.finder, query, before=None, limit=LOOKED)
    )
    if not found:
        among = " among those that were looked at" if further is not None else ""
        return desk.wrong(visit, "Nothing to do", f"No task fits{among}: {query.in_words()}.", 404)
    count, more, sample = len(found), further is not None, found[:SAMPLE]
    names = Counter(record.task for record in found)
    now = desk.reader.now
    # What is sent from now on is not meant, even if it fits.
    fields = [("matching", "1"), *query.pairs(), ("before", str(found[0].tag + 1))]
    return desk.show(
        visit, "confirm", deed=deed, back=f"/tasks?{query.encoded()}", fields=fields,
        rows=[row_of(each, now) for each in sample], names=names.most_common(10),
        more=max(0, count - len(sample)),
        subject=f"{'at least ' if more else ''}{counted(count, 'task')}",
        detail=f"Those that match: {query.in_words()}. {counted(STEP, 'task')} at most in one step."
        if more else f"Those that match: {query.in_words()}.",
    )  # fmt: skip


# -- doing -----------------------------------------------------------------------------------------


async def do(desk: Desk, visit: Visit) -> Response:
    """Do it, and lead back."""
    deed = _deed(visit)
    if deed is None:
        return desk.wrong(visit, "No such action", "There is nothing of that name to do.", 404)
    selected = visit.form.get("selected", [])[:SELECTED]
    target = visit.typed("queue") or _named(selected)
    if not visit.may(deed.action):
        return _refused(desk, visit, deed, target)
    if not deed.for_tasks:
        return await _do_to_queue(desk, visit, deed, visit.typed("queue"))
    if selected:
        ids = selected if len(selected) > 1 else ()
        try:
            count = await desk.in_thread(do_to_tasks, desk.app.records, deed, selected)
        except AckedError as error:
            desk.note(visit, deed.name, target=target, outcome=f"failed: {error}", ids=ids)
            raise
        desk.reader.forget()
        entry = desk.note(visit, deed.name, target=target, count=count, ids=ids)
        if len(selected) == 1 and deed.name != "discard":
            return led_back(visit, "/task", id=selected[0], entry=entry.number)
        return led_back(visit, "/tasks", entry=entry.number)
    if visit.typed("matching"):
        return await _do_to_matching(desk, visit, deed)
    return desk.wrong(visit, "Nothing is selected", "Go back and select some tasks first.", 400)


async def _do_to_queue(desk: Desk, visit: Visit, deed: Deed, queue: str) -> Response:
    if not queue:
        return desk.wrong(visit, "No queue", "Say which queue is meant.", 400)
    try:
        count = await desk.in_thread(do_to_queue, desk.app.records, deed, queue)
    except AckedError as error:
        desk.note(visit, deed.name, target=queue, outcome=f"failed: {error}")
        raise
    desk.reader.forget()
    entry = desk.note(visit, deed.name, target=queue, count=count)
    return led_back(visit, "/queues", entry=entry.number)


async def _do_to_matching(desk: Desk, visit: Visit, deed: Deed) -> Response:
    pairs = [(name, value) for name, values in visit.form.items() for value in values]
    asked, wrong = Query.parse(pairs)
    query = narrowed(asked, deed)
    before = visit.typed("before")
    if wrong or query is None or not _is_number(before):
        return desk.wrong(visit, "Nothing to do", " ".join(wrong) or "Nothing can match.", 400)

    target, ids = query.in_words(), list[str]()
    try:
        # From the newest to the oldest: what is requeued and fails again is not met twice.
        found, further = await desk.in_thread(
            lambda: matching(desk.reader.finder, query, before=int(before), limit=STEP)
        )
        ids = [record.id for record in found]
        count = await desk.in_thread(do_to_tasks, desk.app.records, deed, ids)
    except AckedError as error:
        # Some of them may have been done.
        desk.note(visit, deed.name, target=target, outcome=f"failed: {error}", ids=ids)
        raise
    desk.reader.forget()
    entry = desk.note(visit, deed.name, target=target, count=count, ids=ids)
    so_far = visit.typed("so_far")
    total = count + (int(so_far) if _is_number(so_far) else 0)
    if further is None:
        return led_back(visit, "/tasks", entry=entry.number)
    fields = [
        ("matching", "1"), *query.pairs(), ("before", str(further)), ("so_far", str(total)),
    ]  # fmt: skip
    return desk.show(visit, "go_on", deed=deed, count=total, query=query, fields=fields)
