"""Private Redis servers: one, a Cluster of three, and two kinds in which a replica takes over."""

from __future__ import annotations

import binascii
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import hiredis

from acked.brokers.redis.address import Node, parse
from acked.brokers.redis.connection import Connection
from tests.harness.workers import until
from tests.servers.server import START_SECONDS, Server, free_port, program

SLOTS = 16384

_prefixes = itertools.count(1)


def prefix() -> str:
    """A prefix that no other test of this process uses."""
    return f"test-{next(_prefixes)}"


class RedisServer(Server):
    """One server.

    Args:
        directory: Where its data is.
        options: Of its configuration, without their dashes, beside an append-only file that is
            flushed every second.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        super().__init__(directory)
        self.options = {
            "appendonly": "yes", "appendfsync": "everysec", "save": "", "bind": "127.0.0.1",
            "daemonize": "no", "repl-diskless-sync-delay": "0",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }  # fmt: skip

    def command(self) -> list[str]:
        options = [each for name, value in self.options.items() for each in (f"--{name}", value)]
        return [program("redis-server"), "--port", str(self.port), *options]

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING") == b"PONG")
        except (OSError, hiredis.ReplyError):  # down, or still loading
            return False

    def ask(self, *command: str | float | bytes, timeout: float = 5.0) -> Any:
        """The answer to a command; an error of the server is raised."""
        deadline = time.monotonic() + timeout
        connection = Connection(Node("127.0.0.1", self.port), parse("redis://x"), deadline)
        try:
            if password := self.options.get("requirepass"):
                connection.call("AUTH", password, deadline=deadline)
            words = [word if isinstance(word, bytes) else str(word) for word in command]
            reply = connection.call(*words, deadline=deadline)
        finally:
            connection.close()
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def agrees(self, *command: str | float | bytes) -> bool:
        """Whether it does what it is told, and does not answer that it cannot."""
        try:
            self.ask(*command)
        except hiredis.ReplyError:
            return False
        return True

    def role(self) -> str:
        """``master`` or ``slave``, as it says itself; nothing where it does not answer."""
        try:
            return str(self.ask("ROLE")[0].decode())
        except (OSError, hiredis.ReplyError):
            return ""  # A Sentinel hangs up everybody where it changes the role.

    def fresh(self, **options: str) -> str:
        return f"redis://127.0.0.1:{self.port}/0?prefix={prefix()}{_written(options)}"


class Set:
    """Several servers that are one to their clients."""

    servers: list[Server]

    def start(self) -> Self:
        """Start them all, and make them know each other."""
        raise NotImplementedError

    def close(self) -> None:
        """Kill them all."""
        for server in self.servers:
            if server.process is not None:
                server.thaw()
                server.kill()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


class Pair(Set):
    """A primary and its replica, which takes over when the primary is gone."""

    primary: RedisServer
    replica: RedisServer

    def fresh(self, **options: str) -> str:
        """A broker URL of an empty place on the primary."""
        raise NotImplementedError

    def demote(self) -> None:
        """Have the replica take over from a primary that is well, and becomes its replica."""
        raise NotImplementedError


class RedisCluster(Set):
    """Three primaries that share the slots.

    Args:
        directory: Where their data is.
        options: Of the configuration of each, as of a `RedisServer`.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        self._directory = directory
        self._options = options
        self.nodes = [self._node(number) for number in range(3)]
        self.servers = list(self.nodes)

    def _node(self, number: int) -> RedisServer:
        return RedisServer(
            self._directory / f"node-{number}", cluster_enabled="yes",
            cluster_port=str(free_port()), **self._options,
        )  # fmt: skip

    def start(self) -> Self:
        for server in self.servers:
            server.start()
        for number, node in enumerate(self.nodes):
            slots = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
        for node in self.nodes[1:]:
            self._introduce(node)
        _come_to(
            lambda: all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes)
        )
        return self

    def _introduce(self, node: RedisServer) -> None:
        first = self.nodes[0]
        node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, first.options["cluster-port"])

    def fresh(self, **options: str) -> str:
        return self._at(prefix(), options)

    def _at(self, prefix: str, options: dict[str, str]) -> str:
        nodes = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{nodes}?prefix={prefix}{_written(options)}"


class ReplicatedCluster(RedisCluster, Pair):
    """A Cluster whose first primary has a replica. `fresh` gives places on that primary.

    Args:
        directory: Where their data is.
    """

    def __init__(self, directory: Path) -> None:
        # Milliseconds of silence after which the others take a node for dead.
        super().__init__(directory, cluster_node_timeout="1000")
        self.primary = self.nodes[0]
        self.replica = self._node(3)
        self.servers = [*self.nodes, self.replica]

    def start(self) -> Self:
        super().start()
        self._introduce(self.replica)
        name = self.primary.ask("CLUSTER", "MYID")
        # It has to have heard of the one it is to follow; and the others, who elect it, of both.
        _come_to(lambda: self.replica.agrees("CLUSTER", "REPLICATE", name))
        _come_to(lambda: b"master_link_status:up" in self.replica.ask("INFO", "replication"))
        _come_to(lambda: all(b"slave " + name in x.ask("CLUSTER", "NODES") for x in self.nodes))
        return self

    def fresh(self, **options: str) -> str:
        ours = (
            each for each in iter(prefix, "")
            if binascii.crc_hqx(each.encode(), 0) % SLOTS < SLOTS // len(self.nodes)
        )  # fmt: skip
        return self._at(next(ours), options)

    def demote(self) -> None:
        self.replica.ask("CLUSTER", "FAILOVER")


class Sentinel(RedisServer):
    """Watches a primary called ``mymaster``.

    Args:
        directory: Where its configuration is.
        primary: What it watches at first.
    """

    def __init__(self, directory: Path, primary: RedisServer) -> None:
        super().__init__(directory)
        self.options = {}
        (directory / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 2000\n"
        )

    def command(self) -> list[str]:
        return [program("redis-server"), str(self.directory / "sentinel.conf"), "--sentinel"]


class RedisSentinel(Pair):
    """A primary, a replica, and a Sentinel that promotes it.

    Args:
        directory: Where their data is.
    """

    def __init__(self, directory: Path) -> None:
        self.primary = RedisServer(directory / "primary")
        self.replica = RedisServer(
            directory / "replica", replicaof=f"127.0.0.1 {self.primary.port}"
        )
        self.sentinel = Sentinel(directory / "sentinel", self.primary)
        self.servers = [self.primary, self.replica, self.sentinel]

    def start(self) -> Self:
        for server in (self.primary, self.replica):
            server.start()
        # The Sentinel looks at a replica every ten seconds, and promotes none that it saw without
        # its primary.
        _come_to(lambda: b"master_link_status:up" in self.replica.ask("INFO", "replication"))
        self.sentinel.start()
        _come_to(lambda: b"slaves=1" in self.sentinel.ask("INFO", "sentinel"))
        return self

    def fresh(self, **options: str) -> str:
        where = f"127.0.0.1:{self.sentinel.port}/mymaster/0"
        return f"redis+sentinel://{where}?prefix={prefix()}{_written(options)}"

    def demote(self) -> None:
        # The Sentinel refuses until it has looked at the replica.
        _come_to(lambda: self.sentinel.agrees("SENTINEL", "FAILOVER", "mymaster"))


def _written(options: dict[str, str]) -> str:
    """*options* of a URL, behind others."""
    return "".join(f"&{name}={value}" for name, value in options.items())


def _come_to(agreement: Callable[[], bool]) -> None:
    """Wait for what several servers have to agree on, which is part of their start."""
    until(agreement, "the servers' agreement", within=START_SECONDS)
