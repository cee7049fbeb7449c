"""How much is measured: sizes and rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import Field, Peer
from benchmarks.place import Bench, bench
from benchmarks.servers import Servers


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of the benchmark.

    Args:
        directory: On the disk that is measured.
        servers: What it is measured on.
        rounds: How often each figure is taken.
        share: How much of the sizes of a full run.
        idle_seconds: How long an idle worker is watched.
        latency_seconds: How long tasks are sent at 50 a second.
        scheduled: Tasks held for later.
        say: Told what is measured next.
    """

    directory: Path
    servers: Servers
    rounds: int
    share: float
    idle_seconds: float
    latency_seconds: float
    scheduled: int
    say: Callable[[str], None]

    def size(self, full: int) -> int:
        """What this run makes of the size of a full one."""
        return max(1, int(full * self.share))

    def bench(self, peer: Peer) -> AbstractContextManager[Bench]:
        """A fresh place to measure *peer* in."""
        return bench(peer, self.directory, self.servers)

    def turns(self, section: str, field: Field) -> Iterator[tuple[Peer, ...]]:
        """The peers of each round. Each round begins with another, so none is always first."""
        for number in range(self.rounds):
            shift = number % len(field.peers)
            self.say(f"{section} on {field.name}: round {number + 1} of {self.rounds}")
            yield field.peers[shift:] + field.peers[:shift]


def full(directory: Path, servers: Servers, rounds: int, say: Callable[[str], None]) -> Plan:
    """Enough of everything to trust the figures: an hour and a half in five rounds."""
    return Plan(
        directory=directory, servers=servers, rounds=rounds, say=say, share=1.0,
        idle_seconds=25.0, latency_seconds=10.0, scheduled=1_000_000,
    )  # fmt: skip


def quick(directory: Path, servers: Servers, rounds: int, say: Callable[[str], None]) -> Plan:
    """Just enough to see that the benchmark itself works; its figures mean little."""
    return Plan(
        directory=directory, servers=servers, rounds=rounds, say=say, share=0.1,
        idle_seconds=3.0, latency_seconds=2.0, scheduled=300_000,
    )  # fmt: skip
