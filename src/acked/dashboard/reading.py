"""Reading what the pages show. Everything here blocks, and runs in the dashboard's own threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from acked.app import Acked
from acked.broker import Condition, Filter, QueueCounts, WorkerRecord
from acked.dashboard.causes import causes
from acked.dashboard.charts import Chart, bar_chart, time_chart
from acked.dashboard.failing import UPCOMING, FailureReader, Retrying
from acked.dashboard.finding import TEXT_WINDOW, Finder
from acked.dashboard.machine import Machine, machine
from acked.dashboard.query import Query
from acked.dashboard.rates import SPANS, RateReader, Rates
from acked.dashboard.rerun import blank_call
from acked.delivery import State
from acked.pages.cached import Cached
from acked.record import Record
from acked.redaction import redact_text
from acked.story import Story, parameter_names, share_of, story, task_line

AGAIN_AFTER = 2.0
"""Seconds between two counts of the queues."""

GROUPS = 200
"""Groups of failures that are shown."""

WAITING = 100
"""Scheduled tasks of one page."""

RUNNING = 500
"""Running tasks that are shown with their workers."""

CHARTS = (
    ("Done", "success"), ("Failed for good", "failure"), ("Retries", "retry"),
    ("Recovered from a lost worker", "loss"),
)  # fmt: skip


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A task in a list.

    Args:
        ran: Seconds of its last run, or of the one that lasts; None before the first.
        error: What failed last, redacted.
        progress: How far it is, 0.0 to 1.0, while it runs and says so.
    """

    id: str
    task: str
    state: str
    queue: str
    attempts: int
    losses: int
    sent: float
    due: float
    claimed: float | None
    finished: float | None
    worker: str
    reason: str
    error: str
    ran: float | None
    progress: float | None


def row_of(record: Record, now: float) -> Row:
    """*record* for a list."""
    line = task_line(record)
    running = record.state is State.RUNNING
    end = now if running else record.finished
    done = record.progress
    failed = record.state in {State.FAILURE, State.SCHEDULED, State.QUEUED} and record.failure
    return Row(
        id=line.id, task=line.task, state=line.state, queue=line.queue, attempts=line.attempts,
        losses=line.losses, sent=record.sent, due=record.due, claimed=record.claimed,
        finished=record.finished, worker=record.consumer, reason=line.reason,
        error=redact_text(str(failed))[:1_000] if failed else "",
        ran=None if record.claimed is None or end is None else max(0.0, end - record.claimed),
        progress=share_of(done) if running and done else None,
    )  # fmt: skip


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A queue. `age` is how long its oldest task has waited, seconds."""

    counts: QueueCounts
    age: float | None
    workers: int


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, and what it runs as far as that was read."""

    worker: WorkerRecord
    tasks: list[Row]


class TaskType(msgspec.Struct, frozen=True, kw_only=True):
    """A registered task."""

    name: str
    signature: str
    doc: str
    options: dict[str, Any]


class Reader:
    """Everything that is read of *app*'s broker."""

    def __init__(self, app: Acked) -> None:
        self.app = app
        self.finder = Finder(app)
        self._rates = RateReader()
        # Asked of the application each time, since it opens its broker at the first use.
        self._counts = Cached(lambda: app.records.counts(), every=AGAIN_AFTER)
        self._failures = FailureReader(app)
        self._conditions: list[Condition] | None = None

    def forget(self) -> None:
        """An operator changed something: show it at once."""
        self._counts.forget()
        self._failures.forget()

    @property
    def now(self) -> float:
        """Wall-clock seconds by the broker's clock."""
        return self.app.clock.now()

    def counts(self) -> list[QueueCounts]:
        """Of each queue, a moment old at most."""
        return self._counts.get()

    def queues(self, workers: list[WorkerRecord]) -> list[QueueRow]:
        """Every queue that has tasks, is paused, or is consumed."""
        now = self.now
        known = {each.queue: each for each in self.counts()}
        alive = [each for each in workers if each.lease_left >= 0]
        for name in sorted({queue for each in alive for queue in each.queues} - known.keys()):
            known[name] = QueueCounts(queue=name)
        return [
            QueueRow(
                counts=each, age=None if each.oldest is None else max(0.0, now - each.oldest),
                workers=sum(each.queue in worker.queues for worker in alive),
            )
            for _, each in sorted(known.items())
        ]  # fmt: skip

    def workers(self, records: list[WorkerRecord]) -> list[WorkerRow]:
        """Every worker with what it runs."""
        now = self.now
        running = self.app.records.search(Filter(states=(State.RUNNING,)), limit=RUNNING)
        by_worker: dict[str, list[Row]] = {}
        for record in running:
            by_worker.setdefault(record.consumer.partition("/")[0], []).append(row_of(record, now))
        return [WorkerRow(worker=each, tasks=by_worker.get(each.worker, [])) for each in records]

    def conditions(self) -> list[Condition]:
        """What about the engine will hurt some day."""
        if self._conditions is None:
            found = self.app.broker.conditions()
            self._conditions = [each for each in found if each.level == "warn"]
        return self._conditions

    def rates(self, span: str) -> Rates:
        """Of the last hour or day."""
        return self._rates.read(self.app.records, SPANS[span], now=self.now)

    # -- one page each -----------------------------------------------------------------------------

    def overview(self, span: str) -> Mapping[str, Any]:
        """The first page."""
        rates, now = self.rates(span), self.now
        workers = self.app.records.workers()
        rows = self.queues(workers)
        return {
            "rates": rates,
            "charts": charts(rates),
            "queues": rows,
            "workers": self.workers(workers),
            "failures": [row_of(record, now) for record in self._failures.failed().records[:8]],
            "conditions": self.conditions(),
            "waiting": sum(row.counts.queued for row in rows),
            "running": sum(row.counts.running for row in rows),
            "scheduled": sum(row.counts.scheduled for row in rows),
        }

    def totals(self) -> dict[str, int]:
        """How many tasks are in each state."""
        counts = self.counts()
        return {
            state.value: sum(getattr(each, state.value.lower()) for each in counts)
            for state in State
        }

    def tasks(self, query: Query, before: int | None) -> Mapping[str, Any]:
        """One page of a search."""
        found, now = self.finder.find(query, before=before), self.now
        return {
            "found": found,
            "rows": [row_of(record, now) for record in found.records],
            "totals": self.totals(),
            "names": sorted(self.app.tasks),
            "queue_names": [each.queue for each in self.counts()],
        }

    def task(self, task_id: str) -> Mapping[str, Any] | None:
        """One task's story."""
        record = self.app.records.get(task_id)
        if record is None:
            return None
        told: Story = story(self.app.records, record, now=self.now, app=self.app)
        drawn: Machine = machine(record, self.app.records.attempts(task_id))
        return {
            "story": told,
            "machine": drawn,
            "record": record,
            "names": parameter_names(self.app, record.task),
            "known": record.task in self.app.tasks,
        }

    def failures(self, before: int | None) -> Mapping[str, Any]:
        """Failures by cause; with the newest ones, what is being retried."""
        found = self._failures.failed(before)
        retrying = self._failures.retrying() if before is None else Retrying()
        return {
            "found": found, "causes": causes(found.records, retrying.records),
            "retrying": retrying, "total": self.totals()[State.FAILURE.value],
            "upcoming": UPCOMING, "window": TEXT_WINDOW, "query": Query(),
            "groups": GROUPS,
        }  # fmt: skip

    def dead(self, before: int | None) -> Mapping[str, Any]:
        """Failures whose function had no fair chance."""
        found, now = self._failures.dead(before), self.now
        rows = [row_of(record, now) for record in found.records]
        return {"found": found, "rows": rows, "query": Query()}

    def waiting(self, after: tuple[float, int] | None) -> Mapping[str, Any]:
        """Scheduled and retrying tasks, the next one first."""
        found, now = self.app.records.upcoming(limit=WAITING + 1, after=after), self.now
        shown = found[:WAITING]
        return {
            "rows": [row_of(record, now) for record in shown],
            "retrying": {record.id for record in shown if record.runs},
            "last": shown[-1] if len(found) > WAITING else None,
        }

    def registered(self) -> list[TaskType]:
        """The tasks of the application."""
        return [
            TaskType(
                name=name,
                signature=task.arguments.shown.removeprefix(task.name),
                doc=(task.__doc__ or "").strip().partition("\n\n")[0],
                options=changed_options(task.options),
            )
            for name, task in sorted(self.app.tasks.items())
        ]

    def call(self, task: str) -> dict[str, Any]:
        """Keyword arguments to begin a call of a registered task with."""
        return blank_call(self.app.tasks[task].arguments)


def charts(rates: Rates) -> list[Chart]:
    """The charts of the first page."""
    unit = "minute" if rates.span.step == 1 else f"{rates.span.step} minutes"
    first, step = rates.first, rates.span.step
    return [
        *(
            bar_chart(name, kind, rates.series[kind], first=first, step=step, unit=unit)
            for name, kind in CHARTS
        ),
        *(
            time_chart(
                name, kind, rates.times[kind], total=total, first=first, step=step, unit=unit
            )
            for name, kind, total in (
                ("Waited", "wait", rates.total.wait), ("Ran", "run", rates.total.run),
            )
        ),
    ]  # fmt: skip


def changed_options(options: msgspec.Struct) -> dict[str, Any]:
    """Those options of a task that are not as they are by default, as text."""
    defaults = type(options)()
    found = {}
    for name in options.__struct_fields__:
        value = getattr(options, name)
        if value != getattr(defaults, name):
            found[name] = _as_text(value)
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_as_text, value))
    return str(getattr(value, "__qualname__", value))
