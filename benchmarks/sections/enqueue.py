"""How many tasks a second does one producer process send, no worker running?

Each of acked's calls is on disk when it returns. So the measure is the rate at which SQLite alone
commits rows as large, one after the other; it is taken in turns with the calls, since a disk's
pace changes from second to second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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


@dataclass
class _Found:
    """One way to send: its rate in each round, and that of the engine beside it."""

    rates: list[float] = field(default_factory=list)
    engine: list[float] = field(default_factory=list)

    @property
    def series(self) -> Series:
        return Series.of(self.rates)

    @property
    def over_engine(self) -> Series | None:
        return self.series.over(Series.of(self.engine)) if self.engine else None


def measure(plan: Plan) -> Report:
    """Each peer one by one; acked also from threads, coroutines and in bulk."""
    ways = (_ONE, _FROM_THREADS, _FROM_COROUTINES, _BULK, *_OTHERS.values())
    found = {way: _Found() for way in ways}
    for turn in plan.turns("enqueue"):
        for peer in turn:
            for way, said in (_acked(plan) if peer is ACKED else _other(peer, plan)).items():
                found[way].rates.append(said["per_second"])
                plan.say(f"  {way}: {said['per_second']:,.0f}/s")
                if "engine_per_second" in said:
                    found[way].engine.append(said["engine_per_second"])
    return _report(found)


def _acked(plan: Plan) -> dict[str, dict[str, Any]]:
    one, shared = plan.enqueue[ACKED], plan.shared
    return {
        _ONE: _produce(ACKED, plan, "beside_the_engine", count=one),
        _FROM_THREADS: _produce(ACKED, plan, "from_threads", count=shared, threads=_THREADS),
        _FROM_COROUTINES: _produce(
            ACKED, plan, "from_coroutines", count=shared, coroutines=_COROUTINES
        ),
        _BULK: _produce(ACKED, plan, "fill", count=plan.bulk),
    }


def _other(peer: Peer, plan: Plan) -> dict[str, dict[str, Any]]:
    return {_OTHERS[peer]: _produce(peer, plan, "one_by_one", count=plan.enqueue[peer])}


def _produce(peer: Peer, plan: Plan, action: str, **options: int) -> dict[str, Any]:
    with bench(peer, plan.directory) as place:
        return place.produce(action, **options)


def _report(found: dict[str, _Found]) -> Report:
    series = {way: one.series for way, one in found.items()}
    engine = {f"{_ENGINE}, beside: {way}": Series.of(one.engine)
              for way, one in found.items() if one.engine}  # fmt: skip
    over = {way: ratio for way, one in found.items() if (ratio := one.over_engine)}
    rows = [
        [way, one.series.text(), over[way].text(2) + "x" if way in over else ""]
        for way, one in found.items()
    ]
    rows.append([_ENGINE, Series.of(found[_ONE].engine).text(), ""])
    return Report(
        "Enqueue, one producer process",
        ("", "tasks/s", "of SQLite's serial commits beside it"),
        rows,
        [
            Target("one by one, of SQLite's serial commits", 75, over[_ONE].median * 100, " %"),
            Target(f"{_THREADS} threads over SQLite's serial commits", 4,
                   over[_FROM_THREADS].median, "x"),
            Target(f"{_COROUTINES} coroutines over SQLite's serial commits", 4,
                   over[_FROM_COROUTINES].median, "x"),
            Target("in bulk", 100_000, series[_BULK].median, "/s"),
        ],
        series | engine,
    )  # fmt: skip
