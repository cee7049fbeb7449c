"""A fresh place for each measurement of one queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.marks import Marks
from benchmarks.peers import Peer
from benchmarks.processes import ProcessTree, RunningCommand, running
from benchmarks.servers import Servers

_ROOT = Path(__file__).resolve().parent.parent
_PRODUCER_SECONDS = 300.0


class Bench:
    """An empty queue of one peer, in a directory of its own.

    Args:
        brokers: The servers that work for it.
        url: Of its broker.
    """

    def __init__(
        self, peer: Peer, directory: Path, environment: dict[str, str], brokers: list[ProcessTree]
    ) -> None:
        self.peer = peer
        self.marks = Marks(Path(environment["BENCH_MARKS"]))
        self.brokers = brokers
        self.url = environment["BENCH_BROKER_URL"]
        self._directory = directory
        self._environment = environment

    def worker(self) -> AbstractContextManager[RunningCommand]:
        """Two worker processes, as long as the block runs."""
        command = [sys.executable, *self.peer.worker]
        return running(command, self._environment, self._directory / "worker.log")

    def produce(self, action: str, **options: int | str) -> dict[str, Any]:
        """Run one function of `benchmarks.producer` in a process of its own; what it measured."""
        command = [sys.executable, "-m", "benchmarks.producer", self.peer.app, action]
        command += [json.dumps(options)]
        done = subprocess.run(
            command, env=self._environment, stdout=subprocess.PIPE, timeout=_PRODUCER_SECONDS,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:  # its traceback has gone to stderr
            raise RuntimeError(f"sending to {self.peer.label} failed: {action} {options}")
        measured: dict[str, Any] = json.loads(done.stdout)
        return measured


@contextmanager
def bench(peer: Peer, parent: Path, servers: Servers) -> Generator[Bench]:
    """A place to measure *peer* in, removed with all that is in it when the block ends."""
    with TemporaryDirectory(
        prefix=f"{peer.name}-", dir=parent, ignore_cleanup_errors=True
    ) as directory:
        marks = Path(directory) / "marks"
        marks.mkdir()
        places: dict[str, str] = {}
        for kind in dict.fromkeys(kind for kind in (peer.broker, peer.results) if kind):
            file = Path(directory) / "queue.db"
            places[kind] = f"sqlite:///{file}" if kind == "sqlite" else servers.fresh(kind)
        environment = os.environ | {
            "BENCH_MARKS": str(marks),
            "BENCH_BROKER_URL": places[peer.broker],
            "PYTHONPATH": str(_ROOT),
        }
        if peer.results:
            environment["BENCH_RESULTS_URL"] = places[peer.results]
        # What the caller's shell says must not steer what is measured.
        environment.pop("ACKED_BROKER_URL", None)
        brokers = [servers.processes(kind) for kind in places if kind != "sqlite"]
        place = Bench(peer, Path(directory), environment, brokers)
        if peer.prepared:
            place.produce("prepare")
        yield place
