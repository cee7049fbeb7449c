"""How many no-op tasks a second do two processes run?

The queue is filled first; then the worker starts. The rate is that from the first execution to
the last, by the marks the tasks leave, so the start of a worker costs none of them anything.
"""

from __future__ import annotations

import time

from benchmarks.engine import average_row_bytes, drain_rate
from benchmarks.figures import Series, Target
from benchmarks.peers import ACKED, CELERY, HUEY, PEERS, Bench, Peer, bench
from benchmarks.plan import Plan
from benchmarks.processes import ProcessTree, wait_until
from benchmarks.report import Report

_DRAIN_SECONDS = 180.0
_SETTLE_SECONDS = 0.5
_TYPICAL_ROW_BYTES = 300


def measure(plan: Plan) -> Report:
    """The drain of each peer, and of SQLite alone with one process and with two."""
    rates: dict[Peer, list[float]] = {peer: [] for peer in PEERS}
    cpu: dict[Peer, list[float]] = {peer: [] for peer in PEERS}
    engine: dict[int, list[float]] = {1: [], 2: []}
    row_bytes = _TYPICAL_ROW_BYTES
    for turn in plan.turns("drain"):
        for peer in turn:
            with bench(peer, plan.directory) as place:
                rate, cost = _drain(place, plan.drain[peer])
                if peer is ACKED:
                    row_bytes = average_row_bytes(place.database)
            rates[peer].append(rate)
            cpu[peer].append(cost)
            plan.say(f"  {peer.label}: {rate:,.0f}/s")
        for processes, found in engine.items():
            with bench(ACKED, plan.directory) as place:
                rate = drain_rate(
                    place.directory, count=plan.engine_drain, row_bytes=row_bytes,
                    processes=processes,
                )  # fmt: skip
            found.append(rate)
            plan.say(f"  SQLite alone, {processes} process(es): {rate:,.0f}/s")
    return _report(plan, rates, cpu, engine)


def _drain(place: Bench, count: int) -> tuple[float, float]:
    """Tasks a second, and microseconds of CPU a task in worker and broker."""
    place.produce("fill", count=count)
    with place.worker() as tree:
        trees = [tree, place.broker] if place.broker else [tree]
        _wait_for(place, tree, 1)
        seen, cpu_before = place.marks.count(), _cpu(trees)
        _wait_for(place, tree, count)
        # What is settled in batches is settled a moment after the last task ran.
        time.sleep(_SETTLE_SECONDS)
        cpu = _cpu(trees) - cpu_before
        tree.check_alive()
    executions = place.marks.read()
    if sorted(number for number, _ in executions) != list(range(count)):
        raise RuntimeError(f"{place.peer.label} did not run each of {count} tasks once")
    if place.peer is ACKED and (success := place.produce("succeeded")["count"]) != count:
        raise RuntimeError(f"{success} of {count} tasks are on record as a success")
    seconds = (executions[-1][1] - executions[0][1]) / 1e9
    return (count - 1) / seconds, cpu / (count - seen) * 1e6 if count > seen else 0.0


def _wait_for(place: Bench, tree: ProcessTree, count: int) -> None:
    wait_until(
        lambda: place.marks.count() >= count, seconds=_DRAIN_SECONDS, tree=tree,
        what=f"{place.peer.label} running {count} tasks",
    )  # fmt: skip


def _cpu(trees: list[ProcessTree]) -> float:
    return sum(tree.cpu_seconds() for tree in trees)


def _report(
    plan: Plan, rates: dict[Peer, list[float]], cpu: dict[Peer, list[float]],
    engine: dict[int, list[float]],
) -> Report:  # fmt: skip
    series = {f"{peer.name} tasks/s": Series.of(rates[peer]) for peer in PEERS}
    series |= {f"{peer.name} CPU us/task": Series.of(cpu[peer]) for peer in PEERS}
    series |= {f"engine {number} tasks/s": Series.of(found) for number, found in engine.items()}
    acked = Series.of(rates[ACKED])
    over = {peer: acked.over(Series.of(rates[peer])) for peer in PEERS if peer is not ACKED}
    rows = [
        [
            peer.label, f"{plan.drain[peer]:,}", Series.of(rates[peer]).text(),
            over[peer].text(1) + "x" if peer in over else "",
            Series.of(cpu[peer]).text(),
        ]
        for peer in PEERS
    ]  # fmt: skip
    rows += [
        [
            f"SQLite alone, {number} process{'es' if number > 1 else ''}",
            f"{plan.engine_drain:,}", Series.of(found).text(),
            acked.over(Series.of(found)).text(2) + "x", "",
        ]
        for number, found in engine.items()
    ]  # fmt: skip
    return Report(
        "No-op drain, two processes",
        ("", "tasks", "tasks/s", "acked is", "CPU µs/task"),
        rows,
        [
            Target("no-op drain over Celery's", 20, over[CELERY].median, "x"),
            Target("no-op drain over huey's", 5, over[HUEY].median, "x"),
        ],
        series,
    )
