"""How many tasks a second does one producer process send, no worker running?

Each of acked's calls is on disk when it returns. So the measure for one after the other is the
rate at which SQLite alone commits rows as large, taken in turns with the calls, in chunks of
200, since a disk's pace changes from second to second.
"""

from __future__ import annotations

from benchmarks.figures import Series, Target
from benchmarks.peers import ACKED, CELERY, HUEY, Peer, bench
from benchmarks.plan import Plan
from benchmarks.report import Report

_THREADS = 8
_COROUTINES = 100

_ONE = "acked, one by one"
_ENGINE = "SQLite alone, one row a commit"
_FROM_THREADS = f"acked, {_THREADS} threads"
_FROM_COROUTINES = f"acked, {_COROUTINES} coroutines"
_BULK = "acked, in bulk"
_OTHERS = {CELERY: "Celery on Redis, one by one", HUEY: "huey on SQLite, one by one"}


def measure(plan: Plan) -> Report:
    """Each peer one by one; acked also beside the engine, from threads, coroutines and in bulk."""
    names = (_ONE, _ENGINE, _FROM_THREADS, _FROM_COROUTINES, _BULK, *_OTHERS.values())
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in plan.turns("enqueue"):
        for peer in turn:
            for name, rate in (_acked(plan) if peer is ACKED else _other(peer, plan)).items():
                rates[name].append(rate)
                plan.say(f"  {name}: {rate:,.0f}/s")
    return _report({name: Series.of(found) for name, found in rates.items()})


def _acked(plan: Plan) -> dict[str, float]:
    with bench(ACKED, plan.directory) as place:
        beside = place.produce("beside_the_engine", count=plan.enqueue[ACKED])
    with bench(ACKED, plan.directory) as place:
        threads = place.produce("from_threads", count=plan.shared, threads=_THREADS)
    with bench(ACKED, plan.directory) as place:
        coroutines = place.produce("from_coroutines", count=plan.shared, coroutines=_COROUTINES)
    with bench(ACKED, plan.directory) as place:
        bulk = place.produce("fill", count=plan.bulk)
    return {
        _ONE: beside["per_second"],
        _ENGINE: beside["engine_per_second"],
        _FROM_THREADS: threads["per_second"],
        _FROM_COROUTINES: coroutines["per_second"],
        _BULK: bulk["per_second"],
    }


def _other(peer: Peer, plan: Plan) -> dict[str, float]:
    with bench(peer, plan.directory) as place:
        found = place.produce("one_by_one", count=plan.enqueue[peer])
    return {_OTHERS[peer]: found["per_second"]}


def _report(series: dict[str, Series]) -> Report:
    engine = series[_ENGINE]
    rows = [
        [name, found.text(), "" if name == _ENGINE else found.over(engine).text(2) + "x"]
        for name, found in series.items()
    ]
    return Report(
        "Enqueue, one producer process",
        ("", "tasks/s", "of SQLite's serial commits"),
        rows,
        [
            Target("one by one, of SQLite's serial commits", 75,
                   series[_ONE].over(engine).median * 100, " %"),
            Target(f"{_THREADS} threads over SQLite's serial commits", 4,
                   series[_FROM_THREADS].over(engine).median, "x"),
            Target(f"{_COROUTINES} coroutines over SQLite's serial commits", 4,
                   series[_FROM_COROUTINES].over(engine).median, "x"),
            Target("in bulk", 100_000, series[_BULK].median, "/s"),
        ],
        series,
    )  # fmt: skip
