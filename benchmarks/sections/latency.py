"""How long after the call does the task start, when little is to do?

50 tasks a second, each with the moment just before its own call as its argument; the first line
of the task takes the difference.
"""

from __future__ import annotations

import time

from benchmarks.figures import Series, Target, percentile
from benchmarks.peers import Field, Peer
from benchmarks.place import Bench
from benchmarks.plan import Plan
from benchmarks.processes import RunningCommand, wait_until
from benchmarks.report import Report

_PER_SECOND = 50
_WARM_UP_TASKS = 20
_SECONDS = 60.0
_QUIET_SECONDS = 1.0


def measure(plan: Plan, field: Field) -> Report:
    """Median and 99th percentile of the time from the call to the start, for each peer."""
    pooled: dict[Peer, list[float]] = {peer: [] for peer in field.peers}
    per_round: dict[Peer, list[tuple[float, float]]] = {peer: [] for peer in field.peers}
    for turn in plan.turns("latency", field):
        for peer in turn:
            with plan.bench(peer) as place:
                waits = _waits(place, int(plan.latency_seconds * _PER_SECOND))
            pooled[peer].extend(waits)
            per_round[peer].append((percentile(waits, 0.5), percentile(waits, 0.99)))
            plan.say("  {}: p50 {:.1f} ms, p99 {:.1f} ms".format(peer.label, *per_round[peer][-1]))
    return _report(field, pooled, per_round)


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


def _report(
    field: Field, pooled: dict[Peer, list[float]], per_round: dict[Peer, list[tuple[float, float]]]
) -> Report:
    series: dict[str, Series] = {}
    rows = []
    for peer, waits in pooled.items():
        p50, p99 = (Series.of(values) for values in zip(*per_round[peer], strict=True))
        series |= {f"{peer.name} p50 ms": p50, f"{peer.name} p99 ms": p99}
        rows.append([peer.label, f"{len(waits):,}", p50.text(1), p99.text(1), f"{max(waits):.1f}"])
    subject = field.subject
    return Report(
        f"From the call to the start, {_PER_SECOND} tasks a second ({field.name})",
        ("", "tasks", "p50 ms", "p99 ms", "max ms"),
        rows,
        [
            Target(f"{subject.label}: call to start, p50", field.p50_ms,
                   series[f"{subject.name} p50 ms"].median, " ms", at_most=True),
            Target(f"{subject.label}: call to start, p99", field.p99_ms,
                   series[f"{subject.name} p99 ms"].median, " ms", at_most=True),
        ],
        series,
    )  # fmt: skip
