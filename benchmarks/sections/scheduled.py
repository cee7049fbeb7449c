"""What do a million tasks cost that are due tomorrow?

They are held by the broker, so a worker's memory must not grow with their number. It is taken
before, with a tenth of them, and with all: what grows at first is SQLite's page cache, which has a
bound; what must not be is growth from the tenth to the whole. Taken once, whatever the number of
rounds: it is a question of yes or no, and of some hundred megabytes on disk.
"""

from __future__ import annotations

import time

from benchmarks.figures import Series, Target
from benchmarks.peers import Field
from benchmarks.place import Bench
from benchmarks.plan import Plan
from benchmarks.processes import RunningCommand, wait_until
from benchmarks.report import Report

_WARM_UP_TASKS = 20
_WARM_UP_SECONDS = 60.0
_WATCH_SECONDS = 5.0
_FLAT_PERCENT = 2.0


def measure(plan: Plan, field: Field) -> Report:
    """Rate of sending them, and the worker's memory before, with a tenth, and with all."""
    plan.say(f"scheduled: {plan.scheduled:,} tasks")
    with plan.bench(field.subject) as place:
        rate, before, tenth, whole = _hold(place, plan.scheduled)
    return Report(
        f"{plan.scheduled:,} scheduled tasks held beside a running worker, {field.subject.label}",
        ("", "sent/s", "worker RSS MiB before", "with a tenth", "with all"),
        [["bulk, due tomorrow", f"{rate:,.0f}", f"{before:.1f}", f"{tenth:.1f}", f"{whole:.1f}"]],
        [
            Target("worker's memory growth from a tenth of the scheduled tasks to all",
                   _FLAT_PERCENT, (whole - tenth) / tenth * 100, " %", at_most=True),
        ],
        {
            "sent/s": Series.of([rate]),
            "RSS MiB before, with a tenth, with all": Series.of([before, tenth, whole]),
        },
    )  # fmt: skip


def _hold(place: Bench, count: int) -> tuple[float, float, float, float]:
    with place.worker() as tree:
        place.produce("fill", count=_WARM_UP_TASKS)
        wait_until(
            lambda: place.marks.count() >= _WARM_UP_TASKS, seconds=_WARM_UP_SECONDS, tree=tree,
            what=f"{place.peer.label} warming up",
        )  # fmt: skip
        before = _settled_rss(tree)
        place.produce("schedule", count=count // 10)
        tenth = _settled_rss(tree)
        sent = place.produce("schedule", count=count - count // 10)
        whole = _settled_rss(tree)
        tree.check_alive()
    if place.marks.count() != _WARM_UP_TASKS:
        raise RuntimeError("tasks that are due tomorrow ran today")
    return sent["per_second"], before, tenth, whole


def _settled_rss(tree: RunningCommand) -> float:
    """MiB, after the worker has had time to look at what is new."""
    time.sleep(_WATCH_SECONDS)
    return tree.rss_bytes() / 2**20
