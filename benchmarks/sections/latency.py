"""How long after the call does the task start, when little is to do?

50 tasks a second, each with the moment just before its own call as its argument; the first line
of the task takes the difference. Beside it, on a server, what takes the same way from one process
to another through the server alone.
"""

from __future__ import annotations

import time

from benchmarks.engines.handover import hand_over
from benchmarks.figures import Series, Target, percentile
from benchmarks.peers import SQLITE, Field
from benchmarks.place import Bench
from benchmarks.plan import Plan
from benchmarks.processes import RunningCommand, wait_until
from benchmarks.report import Report

_PER_SECOND = 50
_WARM_UP_TASKS = 20
_SECONDS = 60.0
_QUIET_SECONDS = 1.0
_ALONE = "engine"


def measure(plan: Plan, field: Field) -> Report:
    """Median and 99th percentile of the time from the call to the start, for each peer."""
    labels = {peer.name: peer.label for peer in field.peers}
    if field is not SQLITE:
        labels[_ALONE] = field.engine
    waits: dict[str, list[list[float]]] = {name: [] for name in labels}
    count = int(plan.latency_seconds * _PER_SECOND)
    for turn in plan.turns("latency", field):
        for peer in turn:
            with plan.bench(peer) as place:
                waits[peer.name].append(_waits(place, count))
            plan.say(f"  {peer.label}: {_text(waits[peer.name][-1])}")
        if field is not SQLITE:
            with plan.bench(field.subject) as place:
                waits[_ALONE].append(
                    hand_over(field.name, place.url, count=count, per_second=_PER_SECOND)
                )
            plan.say(f"  {field.engine}: {_text(waits[_ALONE][-1])}")
    return _report(field, labels, waits)


def _text(waits: list[float]) -> str:
    return f"p50 {percentile(waits, 0.5):.1f} ms, p99 {percentile(waits, 0.99):.1f} ms"


def _waits(place: Bench, count: int) -> list[float]:
    """Milliseconds from call to start of *count* tasks."""
    with place.worker() as tree:
        _send(place, tree, _WARM_UP_TASKS)
        _send(place, tree, count)
    executions = sorted(place.marks.read())[_WARM_UP_TASKS:]
    return [(started - sent) / 1e6 for sent, started in executions]


def _send(place: Bench, tree: RunningCommand, count: int) -> None:
    expected = place.marks.count() + count
    place.produce("steadily", count=count, per_second=_PER_SECOND)
    wait_until(
        lambda: place.marks.count() >= expected, seconds=_SECONDS, tree=tree,
        what=f"{place.peer.label} running {count} tasks",
    )  # fmt: skip
    time.sleep(_QUIET_SECONDS)


def _report(field: Field, labels: dict[str, str], waits: dict[str, list[list[float]]]) -> Report:
    series: dict[str, Series] = {}
    rows = []
    for name, rounds in waits.items():
        p50, p99 = (Series.of([percentile(one, share) for one in rounds]) for share in (0.5, 0.99))
        series |= {f"{name} p50 ms": p50, f"{name} p99 ms": p99}
    for name, rounds in waits.items():
        p50, p99 = series[f"{name} p50 ms"], series[f"{name} p99 ms"]
        alone = series.get(f"{_ALONE} p50 ms") if name != _ALONE else None
        rows.append(
            [labels[name], f"{sum(map(len, rounds)):,}", p50.text(1), p99.text(1),
             f"{max(map(max, rounds)):.1f}", p50.over(alone).text(1) + "x" if alone else ""]
        )  # fmt: skip
    subject = field.subject
    return Report(
        f"From the call to the start, {_PER_SECOND} tasks a second ({field.name})",
        ("", "tasks", "p50 ms", "p99 ms", "max ms", "p50, of the engine's"),
        rows,
        [
            Target(f"{subject.label}: call to start, p50", field.p50_ms,
                   series[f"{subject.name} p50 ms"].median, " ms", at_most=True),
            Target(f"{subject.label}: call to start, p99", field.p99_ms,
                   series[f"{subject.name} p99 ms"].median, " ms", at_most=True),
        ],
        series,
    )  # fmt: skip
