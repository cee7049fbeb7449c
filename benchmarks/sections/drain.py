"""How many no-op tasks a second do two processes run?

The queue is filled first; then the worker starts. The rate is that from the first execution to
the last, by the marks the tasks leave, so the start of a worker costs none of them anything.
"""

from __future__ import annotations

import time

from benchmarks.engines import row_bytes
from benchmarks.engines.crew import drain_rate
from benchmarks.figures import Series, Target
from benchmarks.peers import Field, Peer
from benchmarks.place import Bench
from benchmarks.plan import Plan
from benchmarks.processes import ProcessTree, RunningCommand, wait_until
from benchmarks.report import Report

_DRAIN_SECONDS = 180.0
_SETTLE_SECONDS = 0.5
_CREWS = (1, 2)


class _Found:
    """Each figure, once for each round."""

    def __init__(self, field: Field) -> None:
        self.rates: dict[Peer, list[float]] = {peer: [] for peer in field.peers}
        self.worker: dict[Peer, list[float]] = {peer: [] for peer in field.peers}
        self.server: dict[Peer, list[float]] = {peer: [] for peer in field.peers}
        self.engine: dict[int, list[float]] = {processes: [] for processes in _CREWS}


def measure(plan: Plan, field: Field) -> Report:
    """The drain of each peer, and of the engine alone with one process and with two."""
    found = _Found(field)
    size = 0
    for turn in plan.turns("drain", field):
        for peer in turn:
            with plan.bench(peer) as place:
                rate, worker, server = _drain(place, plan.size(peer.drain))
                if peer is field.subject:
                    size = row_bytes(field.name, place.url)
            found.rates[peer].append(rate)
            found.worker[peer].append(worker)
            found.server[peer].append(server)
            plan.say(f"  {peer.label}: {rate:,.0f}/s")
        for processes, rates in found.engine.items():
            with plan.bench(field.subject) as place:
                rate = drain_rate(
                    field.name, place.url, count=plan.size(field.engine_drain),
                    row_bytes=size, processes=processes,
                )  # fmt: skip
            rates.append(rate)
            plan.say(f"  {field.engine}, {processes} process(es): {rate:,.0f}/s")
    return _report(plan, field, found)


def _drain(place: Bench, count: int) -> tuple[float, float, float]:
    """Tasks a second, and microseconds of CPU a task in the worker and in the servers."""
    place.produce("fill", count=count)
    with place.worker() as tree:
        _wait_for(place, tree, 1)
        seen, worker_before, server_before = place.marks.count(), _cpu([tree]), _cpu(place.brokers)
        _wait_for(place, tree, count)
        # What is settled in batches is settled a moment after the last task ran.
        time.sleep(_SETTLE_SECONDS)
        worker, server = _cpu([tree]) - worker_before, _cpu(place.brokers) - server_before
        tree.check_alive()
    executions = place.marks.read()
    if sorted(number for number, _ in executions) != list(range(count)):
        raise RuntimeError(f"{place.peer.label} did not run each of {count} tasks once")
    if place.peer.is_acked and (success := place.produce("succeeded")["count"]) != count:
        raise RuntimeError(f"{success} of {count} tasks are on record as a success")
    seconds = (executions[-1][1] - executions[0][1]) / 1e9
    counted = max(1, count - seen)
    return (count - 1) / seconds, worker / counted * 1e6, server / counted * 1e6


def _wait_for(place: Bench, tree: RunningCommand, count: int) -> None:
    wait_until(
        lambda: place.marks.count() >= count, seconds=_DRAIN_SECONDS, tree=tree,
        what=f"{place.peer.label} running {count} tasks",
    )  # fmt: skip


def _cpu(trees: list[ProcessTree]) -> float:
    return sum(tree.cpu_seconds() for tree in trees)


def _report(plan: Plan, field: Field, found: _Found) -> Report:
    rates = {peer: Series.of(values) for peer, values in found.rates.items()}
    worker = {peer: Series.of(values) for peer, values in found.worker.items()}
    server = {peer: Series.of(values) for peer, values in found.server.items()}
    alone = {processes: Series.of(values) for processes, values in found.engine.items()}
    series = {f"{peer.name} tasks/s": rates[peer] for peer in field.peers}
    series |= {f"{peer.name} worker CPU us/task": worker[peer] for peer in field.peers}
    series |= {f"{peer.name} server CPU us/task": server[peer] for peer in field.peers}
    series |= {f"engine {processes} tasks/s": one for processes, one in alone.items()}
    subject = rates[field.subject]
    rows = [
        [
            peer.label, f"{plan.size(peer.drain):,}", rates[peer].text(),
            "" if peer is field.subject else subject.over(rates[peer]).text(2) + "x",
            worker[peer].text(), server[peer].text(),
        ]
        for peer in field.peers
    ]  # fmt: skip
    rows += [
        [
            f"{field.engine}, {processes} process{'es' if processes > 1 else ''}",
            f"{plan.size(field.engine_drain):,}", one.text(),
            subject.over(one).text(2) + "x", "", "",
        ]
        for processes, one in alone.items()
    ]  # fmt: skip
    targets = [
        Target(
            f"{field.subject.label}: no-op drain over {wanted.what}", wanted.times,
            subject.over(Series.best([rates[peer] for peer in wanted.over])).median, "x",
        )
        for wanted in field.drain
    ]  # fmt: skip
    return Report(
        f"No-op drain, two processes, CPU µs a task ({field.name})",
        ("", "tasks", "tasks/s", "acked is", "worker µs", "server µs"),
        rows, targets, series,
    )  # fmt: skip
