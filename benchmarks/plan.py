"""How much is measured: sizes and rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import ACKED, CELERY, HUEY, PEERS, Peer


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of the benchmark.

    Args:
        directory: On the disk that is measured.
        rounds: How often each figure is taken.
        drain: Tasks each peer drains.
        engine_drain: Tasks SQLite alone drains.
        enqueue: Calls one by one, each peer.
        shared: Calls from threads, and as many from coroutines.
        bulk: Tasks of one bulk call.
        idle_seconds: How long an idle worker is watched.
        latency_seconds: How long tasks are sent at 50 a second.
        scheduled: Tasks held for later.
        say: Told what is measured next.
    """

    directory: Path
    rounds: int
    drain: dict[Peer, int]
    engine_drain: int
    enqueue: dict[Peer, int]
    shared: int
    bulk: int
    idle_seconds: float
    latency_seconds: float
    scheduled: int
    say: Callable[[str], None]

    def turns(self, section: str) -> Iterator[tuple[Peer, ...]]:
        """The peers of each round. Each round begins with another, so none is always first."""
        for number in range(self.rounds):
            shift = number % len(PEERS)
            self.say(f"{section}: round {number + 1} of {self.rounds}")
            yield PEERS[shift:] + PEERS[:shift]


def full(directory: Path, rounds: int, say: Callable[[str], None]) -> Plan:
    """Enough of everything to trust the figures: about a quarter of an hour in five rounds."""
    return Plan(
        directory=directory, rounds=rounds, say=say,
        drain={ACKED: 120_000, CELERY: 6_000, HUEY: 20_000}, engine_drain=300_000,
        enqueue={ACKED: 4_000, CELERY: 3_000, HUEY: 8_000}, shared=40_000, bulk=200_000,
        idle_seconds=25.0, latency_seconds=10.0, scheduled=1_000_000,
    )  # fmt: skip


def quick(directory: Path, rounds: int, say: Callable[[str], None]) -> Plan:
    """Just enough to see that the benchmark itself works; its figures mean little."""
    return Plan(
        directory=directory, rounds=rounds, say=say,
        drain={ACKED: 10_000, CELERY: 500, HUEY: 2_000}, engine_drain=30_000,
        enqueue={ACKED: 600, CELERY: 300, HUEY: 600}, shared=4_000, bulk=20_000,
        idle_seconds=3.0, latency_seconds=2.0, scheduled=300_000,
    )  # fmt: skip
