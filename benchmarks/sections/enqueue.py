"""How many tasks a second does one producer process send, no worker running?

Each of acked's calls is stored for good when it returns. So the measure is the rate at which the
engine alone stores one task as large after the other, as durably; it is taken in turns with the
calls, since a disk's pace changes from second to second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import Series, Target
from benchmarks.peers import Field, Peer
from benchmarks.plan import Plan
from benchmarks.report import Report

_THREADS = 8
_COROUTINES = 100
_SHARED = 40_000


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


def _one(peer: Peer) -> str:
    return f"{peer.label}, one by one"


def _bulk(peer: Peer) -> str:
    return f"{peer.label}, in bulk"


def _threads(peer: Peer) -> str:
    return f"{peer.label}, {_THREADS} threads"


def _coroutines(peer: Peer) -> str:
    return f"{peer.label}, {_COROUTINES} coroutines"


def measure(plan: Plan, field: Field) -> Report:
    """Each peer one by one and in bulk; acked also from threads and coroutines."""
    found: dict[str, _Found] = {}
    for peer in field.peers:
        ways = (_one, _threads, _coroutines, _bulk) if peer.is_acked else (_one, _bulk)
        found |= {way(peer): _Found() for way in ways if way is not _bulk or peer.bulk}
    for turn in plan.turns("enqueue", field):
        for peer in turn:
            said = _acked(peer, plan, field) if peer.is_acked else _other(peer, plan)
            for way, measured in said.items():
                found[way].rates.append(measured["per_second"])
                plan.say(f"  {way}: {measured['per_second']:,.0f}/s")
                if "engine_per_second" in measured:
                    found[way].engine.append(measured["engine_per_second"])
    return _report(field, found)


def _acked(peer: Peer, plan: Plan, field: Field) -> dict[str, dict[str, Any]]:
    beside, shared = field.name, plan.size(_SHARED)
    return {
        _one(peer): _produce(
            peer, plan, "beside_the_engine", count=plan.size(peer.enqueue), beside=beside
        ),
        _threads(peer): _produce(
            peer, plan, "from_threads", count=shared, threads=_THREADS, beside=beside
        ),
        _coroutines(peer): _produce(
            peer, plan, "from_coroutines", count=shared, coroutines=_COROUTINES, beside=beside
        ),
        _bulk(peer): _produce(peer, plan, "fill", count=plan.size(peer.bulk)),
    }


def _other(peer: Peer, plan: Plan) -> dict[str, dict[str, Any]]:
    said = {_one(peer): _produce(peer, plan, "one_by_one", count=plan.size(peer.enqueue))}
    if peer.bulk:
        said[_bulk(peer)] = _produce(peer, plan, "fill", count=plan.size(peer.bulk))
    return said


def _produce(peer: Peer, plan: Plan, action: str, **options: int | str) -> dict[str, Any]:
    with plan.bench(peer) as place:
        return place.produce(action, **options)


def _report(field: Field, found: dict[str, _Found]) -> Report:
    alone = f"{field.engine}, one task a write"
    series = {way: one.series for way, one in found.items()}
    engine = {f"{alone}, beside: {way}": Series.of(one.engine)
              for way, one in found.items() if one.engine}  # fmt: skip
    over = {way: ratio for way, one in found.items() if (ratio := one.over_engine)}
    rows = [
        [way, one.series.text(), over[way].text(2) + "x" if way in over else ""]
        for way, one in found.items()
    ]
    rows.append([alone, Series.of(found[_one(field.subject)].engine).text(), ""])
    return Report(
        f"Enqueue, one producer process ({field.name})",
        ("", "tasks/s", "of the engine's beside it"),
        rows,
        _targets(field.subject, series, over) if field.name == "sqlite" else [],
        series | engine,
    )


def _targets(acked: Peer, series: dict[str, Series], over: dict[str, Series]) -> list[Target]:
    return [
        Target("one by one, of SQLite's serial commits", 75, over[_one(acked)].median * 100, " %"),
        Target(f"{_THREADS} threads over SQLite's serial commits", 4,
               over[_threads(acked)].median, "x"),
        Target(f"{_COROUTINES} coroutines over SQLite's serial commits", 4,
               over[_coroutines(acked)].median, "x"),
        Target("in bulk", 100_000, series[_bulk(acked)].median, "/s"),
    ]  # fmt: skip
