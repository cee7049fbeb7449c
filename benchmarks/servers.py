"""The servers that are measured: private, on free ports of 127.0.0.1, one of a kind at a time.

They are the tests' servers. Each measurement begins with an empty place in one: a Redis is started
anew for it, the others, which take seconds to start, are kept and make an empty database or
virtual host.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.processes import ProcessTree
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from tests.servers.server import Server


class _Rabbit(RabbitServer):
    """As it comes: with as many schedulers as there are cores, which the tests' has not."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"
        }


class _Postgres(PostgresServer):
    """As it comes."""

    def fresh(self) -> str:
        # What was written before is flushed and vacuumed at nobody's expense.
        with self.operator() as connection:
            for (name,) in connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE 'test%'"
            ).fetchall():
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute("CHECKPOINT")
        return super().fresh()


_MAKERS: dict[str, Callable[[Path], Server]] = {
    "redis": RedisServer,
    "postgres": _Postgres,
    "rabbitmq": _Rabbit,
}


class Servers:
    """Those that were asked for so far. They end with the block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, Server] = {}
        self._numbers = itertools.count(1)

    def fresh(self, kind: str) -> str:
        """The URL of an empty place in a server of this *kind*."""
        if kind == "redis":
            self.end(kind)
        if kind not in self._running:
            server = _MAKERS[kind](self._directory / f"{kind}-{next(self._numbers)}")
            self._running[kind] = server
            server.start()
        # Without what only acked understands: a prefix of its own, in a Redis that is empty.
        return self._running[kind].fresh().partition("?")[0]

    def processes(self, kind: str) -> ProcessTree:
        """The processes of that server."""
        process = self._running[kind].process
        assert process is not None
        return ProcessTree(process.pid)

    def end(self, kind: str) -> None:
        """End that server, if it runs, and remove its data."""
        server = self._running.pop(kind, None)
        if server is not None:
            server.__exit__(None, None, None)
            shutil.rmtree(server.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        for each in list(self._running):
            self.end(each)
