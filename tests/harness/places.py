"""Where a shop keeps its tasks: a file, or an empty place in a private server of the session."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from tests.servers.server import Server

ENGINES: dict[str, Callable[[Path], Server]] = {
    "redis": RedisServer,
    "postgres": PostgresServer,
    "rabbitmq": RabbitServer,
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

    @property
    def ports(self) -> list[int]:
        """Of every server in use."""
        urls = [self.url, *([self.results] if self.results else [])]
        return [port for url in urls if (port := urlsplit(url).port) is not None]

    def through(self, proxies: Mapping[int, int], host: str = "127.0.0.1") -> Place:
        """The same place, each port of a server reached through another one, of *host*."""
        results = self.results and readdress(self.results, host, proxies)
        return replace(self, url=readdress(self.url, host, proxies), results=results)

    @property
    def running(self) -> Server:
        """The server; only where there is one."""
        assert self.server is not None, f"{self.kind} has no server"
        return self.server


def readdress(url: str, host: str, ports: Mapping[int, int]) -> str:
    """*url* with another host and port, the login as it was. A file is no address."""
    parts = urlsplit(url)
    if parts.port is None:
        return url
    login, at, _ = parts.netloc.rpartition("@")
    query = parts.query
    if parts.scheme == "postgresql" and host != "127.0.0.1":
        # Across a network, TLS is asked for unless the URL says otherwise.
        query = "&".join(filter(None, [query, "sslmode=disable"]))
    netloc = f"{login}{at}{host}:{ports[parts.port]}"
    return urlunsplit(parts._replace(netloc=netloc, query=query))


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
        """An empty place of *kind*, or of *kind+ledger*; files go to *directory*."""
        kind, _, other = kind.partition("+")
        ledger = other or ledger
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
    """Close every connection of the clients of *place*, from the server's side."""
    server = place.server
    if isinstance(server, RedisServer):
        for kind in ("normal", "pubsub"):
            server.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    elif isinstance(server, PostgresServer):
        with server.operator() as operator:
            operator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
    else:
        assert isinstance(server, RabbitServer)
        server.close_connections()
