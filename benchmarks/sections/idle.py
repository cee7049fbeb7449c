"""What does a worker with nothing to do cost?

CPU time of all its processes, of the kernel's own count, over a quiet while; and their memory.
"""

from __future__ import annotations

import time

from benchmarks.figures import Series, Target
from benchmarks.peers import ACKED, PEERS, Bench, Peer, bench
from benchmarks.plan import Plan
from benchmarks.processes import wait_until
from benchmarks.report import Report

_WARM_UP_TASKS = 20
_WARM_UP_SECONDS = 60.0
_QUIET_SECONDS = 3.0


def measure(plan: Plan) -> Report:
    """Percent of a core, RSS and PSS of each peer's idle worker with two processes."""
    found: dict[Peer, list[tuple[float, float, float]]] = {peer: [] for peer in PEERS}
    for turn in plan.turns("idle"):
        for peer in turn:
            with bench(peer, plan.directory) as place:
                found[peer].append(_watch(place, plan.idle_seconds))
            plan.say(f"  {peer.label}: {found[peer][-1][0]:.2f} % of a core")
    return _report(found)


def _watch(place: Bench, seconds: float) -> tuple[float, float, float]:
    with place.worker() as tree:
        place.produce("fill", count=_WARM_UP_TASKS)
        wait_until(
            lambda: place.marks.count() >= _WARM_UP_TASKS, seconds=_WARM_UP_SECONDS, tree=tree,
            what=f"{place.peer.label} warming up",
        )  # fmt: skip
        time.sleep(_QUIET_SECONDS)
        before, began = tree.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        percent = (tree.cpu_seconds() - before) / (time.monotonic() - began) * 100
        tree.check_alive()
        return percent, tree.rss_bytes() / 2**20, tree.pss_bytes() / 2**20


def _report(found: dict[Peer, list[tuple[float, float, float]]]) -> Report:
    series: dict[str, Series] = {}
    rows = []
    for peer, rounds in found.items():
        percent, rss, pss = (Series.of(values) for values in zip(*rounds, strict=True))
        series |= {
            f"{peer.name} % of a core": percent,
            f"{peer.name} RSS MiB": rss,
            f"{peer.name} PSS MiB": pss,
        }
        rows.append([peer.label, percent.text(2), rss.text(), pss.text()])
    return Report(
        "Idle, two processes and all that belongs to them",
        ("", "% of a core", "RSS MiB", "PSS MiB"),
        rows,
        [
            Target("idle worker", 1, series[f"{ACKED.name} % of a core"].median, " % of a core",
                   at_most=True),
        ],
        series,
    )  # fmt: skip
