"""What the counters say of the last hour or day: series for charts, and percentiles of times."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from acked.broker import Records
from acked.dashboard.times import SHARES, Times
from acked.tally import Count, percentile

OPEN = 2
"""Minutes during which counts may still come in: workers write theirs every few seconds."""

MOST_TASKS = 20
"""Tasks that are shown one by one."""


class Span(msgspec.Struct, frozen=True):
    """How much is shown, and how finely. All in minutes."""

    name: str
    minutes: int
    step: int


SPANS = {span.name: span for span in (Span("hour", 60, 1), Span("day", 24 * 60, 15))}


class TaskRates(msgspec.Struct, frozen=True, kw_only=True):
    """One task, or all of them where `task` is empty."""

    task: str
    done: int
    failed: int
    retried: int
    lost: int
    wait: Times
    run: Times


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a span.

    Args:
        span: Which.
        first: The minute with which its first step begins, since the epoch.
        series: For ``success``, ``failure``, ``retry``, ``loss``: the number in each step.
        times: For ``wait`` and ``run``: the percentiles of each step.
        total: All tasks together.
        tasks: The busiest ones.
    """

    span: Span
    first: int
    series: dict[str, list[int]]
    times: dict[str, list[Times]]
    total: TaskRates
    tasks: list[TaskRates]

    def minute_of(self, index: int) -> int:
        """The minute with which step *index* begins."""
        return self.first + index * self.span.step


SERIES = ("success", "failure", "retry", "loss")

Step = Mapping[tuple[str, str], int]
"""What was counted in one step, by task and kind."""


class RateReader:
    """Reads counters, those of steps that are over once only. Safe from any thread."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], Step] = {}
        self._lock = threading.Lock()

    def read(self, records: Records, span: Span, *, now: float) -> Rates:
        """The rates of *span* until *now*, wall-clock seconds."""
        minute = int(now // 60)
        last = minute - minute % span.step  # of the step that has begun
        first = last - span.minutes + span.step
        starts = range(first, last + 1, span.step)
        with self._lock:
            known = {start: self._steps.get((span.name, start)) for start in starts}
        missing = [start for start, step in known.items() if step is None]
        read = _by_step(records.counted(missing[0], minute), span.step) if missing else {}
        steps: list[Step] = []
        for start, step in known.items():
            steps.append(read.get(start, {}) if step is None else step)
        settled = minute - OPEN
        with self._lock:
            for start, step in zip(starts, steps, strict=True):
                if start + span.step <= settled:
                    self._steps[span.name, start] = step
            for name, start in [*self._steps]:
                if name == span.name and start < first:
                    del self._steps[name, start]
        return rates_of(span, first, steps)


def _by_step(counts: Iterable[Count], step: int) -> dict[int, Counter[tuple[str, str]]]:
    found: dict[int, Counter[tuple[str, str]]] = {}
    for count in counts:
        start = count.minute - count.minute % step
        found.setdefault(start, Counter())[count.task, count.what] += count.number
    return found


def rates_of(span: Span, first: int, steps: Sequence[Step]) -> Rates:
    """What *steps* say, the first of which begins with the minute *first*."""
    by_task: dict[str, Counter[str]] = {}
    series = {name: [0] * len(steps) for name in SERIES}
    times: dict[str, list[Times]] = {"wait": [], "run": []}
    for index, step in enumerate(steps):
        of_step: Counter[str] = Counter()
        for (task, what), number in step.items():
            by_task.setdefault(task, Counter())[what] += number
            of_step[what] += number
            if what in series:
                series[what][index] += number
        for kind, measured in times.items():
            measured.append(_times(of_step, f"{kind}:"))
    total: Counter[str] = Counter()
    for counts in by_task.values():
        total.update(counts)
    tasks = [_task_rates(task, counts) for task, counts in by_task.items()]
    tasks.sort(key=lambda each: (-(each.done + each.failed + each.retried), each.task))
    return Rates(
        span=span, first=first, series=series, times=times, total=_task_rates("", total),
        tasks=tasks[:MOST_TASKS],
    )  # fmt: skip


def _task_rates(task: str, counts: Counter[str]) -> TaskRates:
    return TaskRates(
        task=task, done=counts["success"], failed=counts["failure"], retried=counts["retry"],
        lost=counts["loss"], wait=_times(counts, "wait:"), run=_times(counts, "run:"),
    )  # fmt: skip


def _times(counts: Mapping[str, int], prefix: str) -> Times:
    buckets = [
        (int(what.removeprefix(prefix)), number)
        for what, number in counts.items()
        if what.startswith(prefix) and what.removeprefix(prefix).isdigit()
    ]
    return Times(tuple(percentile(buckets, share) for share in SHARES))
