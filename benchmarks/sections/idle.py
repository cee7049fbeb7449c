"""What does a worker with nothing to do cost?

CPU time of all its processes and, apart, of its servers, of the kernel's own count, over a quiet
while; and the memory of its processes.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from benchmarks.figures import Series, Target
from benchmarks.peers import Field, Peer
from benchmarks.place import Bench
from benchmarks.plan import Plan
from benchmarks.processes import ProcessTree, wait_until
from benchmarks.report import Report

_WARM_UP_TASKS = 20
_WARM_UP_SECONDS = 60.0
_QUIET_SECONDS = 3.0


class _Watched(NamedTuple):
    worker: float
    """Percent of a core."""
    servers: float
    """Percent of a core."""
    rss: float
    """MiB."""
    pss: float
    """MiB."""


def measure(plan: Plan, field: Field) -> Report:
    """Percent of a core, RSS and PSS of each peer's idle worker with two processes."""
    found: dict[Peer, list[_Watched]] = {peer: [] for peer in field.peers}
    for turn in plan.turns("idle", field):
        for peer in turn:
            with plan.bench(peer) as place:
                found[peer].append(_watch(place, plan.idle_seconds))
            plan.say(f"  {peer.label}: {found[peer][-1].worker:.2f} % of a core")
    return _report(field, found)


def _watch(place: Bench, seconds: float) -> _Watched:
    with place.worker() as tree:
        place.produce("fill", count=_WARM_UP_TASKS)
        wait_until(
            lambda: place.marks.count() >= _WARM_UP_TASKS, seconds=_WARM_UP_SECONDS, tree=tree,
            what=f"{place.peer.label} warming up",
        )  # fmt: skip
        time.sleep(_QUIET_SECONDS)
        worker, servers, began = tree.cpu_seconds(), _cpu(place.brokers), time.monotonic()
        time.sleep(seconds)
        # Of a core: what was used in percent of the time that went by.
        percent = 100 / (time.monotonic() - began)
        worker = (tree.cpu_seconds() - worker) * percent
        servers = (_cpu(place.brokers) - servers) * percent
        tree.check_alive()
        return _Watched(worker, servers, tree.rss_bytes() / 2**20, tree.pss_bytes() / 2**20)


def _cpu(trees: list[ProcessTree]) -> float:
    return sum(tree.cpu_seconds() for tree in trees)


def _report(field: Field, found: dict[Peer, list[_Watched]]) -> Report:
    series: dict[str, Series] = {}
    rows = []
    for peer, rounds in found.items():
        worker, servers, rss, pss = (Series.of(values) for values in zip(*rounds, strict=True))
        series |= {
            f"{peer.name} % of a core": worker,
            f"{peer.name} servers, % of a core": servers,
            f"{peer.name} RSS MiB": rss,
            f"{peer.name} PSS MiB": pss,
        }
        rows.append([peer.label, worker.text(2), servers.text(2), rss.text(), pss.text()])
    subject = field.subject
    return Report(
        f"Idle, two processes and all that belongs to them ({field.name})",
        ("", "% of a core", "servers'", "RSS MiB", "PSS MiB"),
        rows,
        [
            Target(f"{subject.label}: idle worker", 1,
                   series[f"{subject.name} % of a core"].median, " % of a core", at_most=True),
        ],
        series,
    )  # fmt: skip
