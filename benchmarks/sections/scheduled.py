"""What do a million tasks cost that are due tomorrow?

They are held by the broker, so a worker's memory must not know of them. Taken once, whatever the
number of rounds: it is a question of yes or no, and of a gigabyte on disk.
"""

from __future__ import annotations

import threading
import time
from typing import Self

from benchmarks.figures import Series, Target
from benchmarks.peers import ACKED, Bench, bench
from benchmarks.plan import Plan
from benchmarks.processes import ProcessTree, wait_until
from benchmarks.report import Report

_WARM_UP_TASKS = 20
_WARM_UP_SECONDS = 60.0
_WATCH_SECONDS = 5.0
_FLAT_PERCENT = 5.0


def measure(plan: Plan) -> Report:
    """Rate of sending them, and the worker's memory before, at its peak, and after."""
    plan.say(f"scheduled: {plan.scheduled:,} tasks")
    with bench(ACKED, plan.directory) as place:
        rate, before, peak, after = _hold(place, plan.scheduled)
    grown = (peak - before) / before * 100
    return Report(
        f"{plan.scheduled:,} scheduled tasks held beside a running worker, acked on SQLite",
        ("", "sent/s", "worker RSS MiB before", "peak", "after"),
        [["bulk, due tomorrow", f"{rate:,.0f}", f"{before:.1f}", f"{peak:.1f}", f"{after:.1f}"]],
        [
            Target("worker's memory growth at its peak", _FLAT_PERCENT, grown, " %", at_most=True),
        ],
        {
            "sent/s": Series.of([rate]),
            "RSS MiB before, peak, after": Series.of([before, peak, after]),
        },
    )


def _hold(place: Bench, count: int) -> tuple[float, float, float, float]:
    with place.worker() as tree:
        place.produce("fill", count=_WARM_UP_TASKS)
        wait_until(
            lambda: place.marks.count() >= _WARM_UP_TASKS, seconds=_WARM_UP_SECONDS, tree=tree,
            what=f"{place.peer.label} warming up",
        )  # fmt: skip
        time.sleep(_WATCH_SECONDS)
        before = _rss(tree)
        with _Peak(tree) as peak:
            sent = place.produce("schedule", count=count)
            time.sleep(_WATCH_SECONDS)
            after = _rss(tree)
        tree.check_alive()
    if place.marks.count() != _WARM_UP_TASKS:
        raise RuntimeError("tasks that are due tomorrow ran today")
    return sent["per_second"], before, max(peak.value, after), after


def _rss(tree: ProcessTree) -> float:
    return tree.rss_bytes() / 2**20


class _Peak:
    """The largest memory of *tree* seen within the block, MiB."""

    def __init__(self, tree: ProcessTree) -> None:
        self.value = 0.0
        self._tree = tree
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.value = max(self.value, _rss(self._tree))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
