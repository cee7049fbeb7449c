"""The pages that show something. None of them changes anything."""

from __future__ import annotations

from math import isfinite

from starlette.responses import Response

from acked.dashboard.desk import Desk, Visit
from acked.dashboard.query import Query
from acked.dashboard.rates import SPANS


def _tag(text: str) -> int | None:
    """A `Record.tag` out of an address."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _time(text: str) -> float | None:
    """A `Record.due` out of an address."""
    try:
        time = float(text)
    except ValueError:
        return None
    return time if isfinite(time) else None


async def overview(desk: Desk, visit: Visit) -> Response:
    """How things are, and how they were in the last hour or day."""
    span = visit.asked("span")
    span = span if span in SPANS else "hour"
    seen = await desk.in_thread(desk.reader.overview, span)
    return desk.show(visit, "overview", span=span, spans=SPANS, **seen)


async def tasks(desk: Desk, visit: Visit) -> Response:
    """Tasks, newest first."""
    query, wrong = Query.parse(visit.request.query_params.multi_items())
    before = _tag(visit.asked("before"))
    seen = await desk.in_thread(desk.reader.tasks, query, before)
    return desk.show(visit, "tasks", query=query, wrong=wrong, before=before, **seen)


async def task(desk: Desk, visit: Visit) -> Response:
    """One task's whole story."""
    task_id = visit.asked("id")
    seen = await desk.in_thread(desk.reader.task, task_id)
    if seen is None:
        return desk.wrong(
            visit, "No such task",
            f"No task has the id {task_id[:200]!r}: it was never sent here, or was discarded.", 404,
        )  # fmt: skip
    return desk.show(visit, "task", **seen)


async def failures(desk: Desk, visit: Visit) -> Response:
    """Failures by their cause."""
    before = _tag(visit.asked("before"))
    seen = await desk.in_thread(desk.reader.failures, before)
    return desk.show(visit, "failures", before=before, **seen)


async def dead(desk: Desk, visit: Visit) -> Response:
    """Failures whose function had no fair chance."""
    before = _tag(visit.asked("before"))
    seen = await desk.in_thread(desk.reader.dead, before)
    return desk.show(visit, "dead", before=before, **seen)


async def waiting(desk: Desk, visit: Visit) -> Response:
    """Scheduled and retrying tasks."""
    due, tag = _time(visit.asked("due")), _tag(visit.asked("tag"))
    after = (due, tag) if due is not None and tag is not None else None
    seen = await desk.in_thread(desk.reader.waiting, after)
    return desk.show(visit, "waiting", after=after, **seen)


async def queues(desk: Desk, visit: Visit) -> Response:
    """Every queue."""
    rows = await desk.in_thread(lambda: desk.reader.queues(desk.app.records.workers()))
    return desk.show(visit, "queues", queues=rows)


async def workers(desk: Desk, visit: Visit) -> Response:
    """Every worker."""
    rows = await desk.in_thread(lambda: desk.reader.workers(desk.app.records.workers()))
    return desk.show(visit, "workers", workers=rows)


async def registered(desk: Desk, visit: Visit) -> Response:
    """The tasks that the application has."""
    return desk.show(visit, "registered", tasks=await desk.in_thread(desk.reader.registered))


async def audit(desk: Desk, visit: Visit) -> Response:
    """Who did what."""
    return desk.show(visit, "audit", entries=desk.audit.latest())
