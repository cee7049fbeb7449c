"""Where a shop keeps its tasks: a file, or an empty place in a private server of the session."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.servers.server import Server


def _redis(directory: Path) -> Server:
    from tests.servers.redis import RedisServer

    return RedisServer(directory)


def _postgres(directory: Path) -> Server:
    from tests.servers.postgres import PostgresServer

    return PostgresServer(directory)


def _rabbitmq(directory: Path) -> Server:
    from tests.servers.rabbitmq import RabbitServer

    return RabbitServer(directory)


ENGINES: dict[str, Callable[[Path], Server]] = {
    "redis": _redis,
    "postgres": _postgres,
    "rabbitmq": _rabbitmq,
}
SERVERS = tuple(ENGINES)
BROKERS = ("sqlite", *SERVERS)
LEDGER = os.environ.get("ACKED_TEST_LEDGER", "sqlite")
"""Where RabbitMQ's records are kept: ``sqlite``, ``redis`` or ``postgres``."""


@dataclass(frozen=True)
class Place:
    """A broker of a test's own.

    Args:
        kind: Which one, of `BROKERS`.
        url: Where it is.
        results: Where its records are, for RabbitMQ.
        server: What serves `url`; None for a file.
    """

    kind: str
    url: str
    results: str | None = None
    server: Server | None = None

    def at(self, port: int) -> Place:
        """The same place, reached through another port."""
        return replace(self, url=readdress(self.url, "127.0.0.1", port))

    @property
    def running(self) -> Server:
        """The server; only where there is one."""
        assert self.server is not None, f"{self.kind} has no server"
        return self.server


def readdress(url: str, host: str, port: int) -> str:
    """*url* with another host and port, the login as it was."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{host}:{port}"))


class Servers:
    """The servers of a test session. Each is started when a test first needs it.

    Args:
        prepare: Called with each before its first start.
    """

    def __init__(self, prepare: Callable[[Server], object] | None = None) -> None:
        self._prepare = prepare
        self._servers: dict[str, Server] = {}
        # Not below pytest's own directory: servers that run as another user cannot enter it.
        self._directory = Path(tempfile.mkdtemp(prefix="acked-servers-"))
        self._directory.chmod(0o711)

    def get(self, kind: str) -> Server:
        """A server that answers, whatever the test before did to it."""
        server = self._servers.get(kind)
        if server is None:
            # A session that is told to end stops its servers on the way out, as on Ctrl-C.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            server = ENGINES[kind](self._directory / kind)
            if self._prepare is not None:
                self._prepare(server)
            self._servers[kind] = server
            server.start()
        else:
            server.thaw()
            if not server.answers():
                server.kill()
                server.start()
        return server

    def place(self, kind: str, directory: Path, *, ledger: str = LEDGER) -> Place:
        """An empty place of *kind*; files go to *directory*."""
        if kind == "sqlite":
            return Place(kind, f"sqlite:///{directory}/shop.db")
        server = self.get(kind)
        results = self.place(ledger, directory).url if kind == "rabbitmq" else None
        return Place(kind, server.fresh(), results, server)

    def stop(self) -> None:
        """Kill them all, by process id: nothing in them is worth an orderly end."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        shutil.rmtree(self._directory, ignore_errors=True)


def sever(place: Place) -> None:
    """Close every connection of *place*'s clients, from the server's side."""
    if place.kind == "redis":
        import redis

        with redis.Redis(port=place.running.port) as operator:
            for kind in ("normal", "pubsub"):
                operator.client_kill_filter(_type=kind, skipme=True)
    elif place.kind == "postgres":
        import psycopg

        with psycopg.connect(place.url, autocommit=True) as operator:
            operator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
    else:
        place.running.close_connections()
