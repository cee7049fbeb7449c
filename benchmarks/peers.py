"""The queues that are measured, and a fresh place for each measurement of one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.marks import Marks
from benchmarks.processes import ProcessTree, running
from benchmarks.redis_server import redis_server

_ROOT = Path(__file__).resolve().parent.parent
_PRODUCER_SECONDS = 300.0


@dataclass(frozen=True)
class Peer:
    """One queue.

    Args:
        name: Short, for options and JSON.
        label: For tables.
        worker: The arguments of Python that start two worker processes, quiet as to each task.
        on_redis: It needs a Redis.
    """

    name: str
    label: str
    worker: tuple[str, ...]
    on_redis: bool = False


ACKED = Peer(
    "acked", "acked on SQLite",
    ("-m", "acked", "worker", "benchmarks.apps.acked_app:app", "-c", "2"),
)  # fmt: skip
CELERY = Peer(
    "celery", "Celery on Redis",
    ("-m", "celery", "-A", "benchmarks.apps.celery_app", "worker", "-c", "2"),
    on_redis=True,
)  # fmt: skip
HUEY = Peer(
    "huey", "huey on SQLite",
    ("-m", "huey.bin.huey_consumer", "benchmarks.apps.huey_app.app", "-w", "2", "-k", "process",
     "-q"),
)  # fmt: skip

PEERS = (ACKED, CELERY, HUEY)


class Bench:
    """An empty queue of one peer, in a directory of its own."""

    def __init__(
        self, peer: Peer, directory: Path, environment: dict[str, str], broker: ProcessTree | None
    ) -> None:
        self.peer = peer
        self.directory = directory
        self.marks = Marks(Path(environment["BENCH_MARKS"]))
        self.broker = broker
        self._environment = environment

    @property
    def database(self) -> Path:
        """The SQLite file, where the peer has one."""
        return Path(self._environment["BENCH_SQLITE"])

    def worker(self) -> AbstractContextManager[ProcessTree]:
        """Two worker processes, as long as the block runs."""
        command = [sys.executable, *self.peer.worker]
        return running(command, self._environment, self.directory / "worker.log")

    def produce(self, action: str, **options: int) -> dict[str, Any]:
        """Run one function of `benchmarks.producer` in a process of its own; what it measured."""
        command = [sys.executable, "-m", "benchmarks.producer", self.peer.name, action]
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
def bench(peer: Peer, parent: Path) -> Generator[Bench]:
    """A place to measure *peer* in, removed with all that is in it when the block ends."""
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(
                TemporaryDirectory(prefix=f"{peer.name}-", dir=parent, ignore_cleanup_errors=True)
            )
        )
        (directory / "marks").mkdir()
        environment = os.environ | {
            "BENCH_MARKS": str(directory / "marks"),
            "BENCH_SQLITE": str(directory / "queue.db"),
            "PYTHONPATH": str(_ROOT),
        }
        # What the caller's shell says must not steer what is measured.
        environment.pop("ACKED_BROKER_URL", None)
        broker = None
        if peer.on_redis:
            broker, environment["BENCH_REDIS_URL"] = stack.enter_context(redis_server(directory))
        yield Bench(peer, directory, environment, broker)
