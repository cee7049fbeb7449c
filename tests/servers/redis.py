"""Private Redis servers: one, a Cluster of three, and one with a replica and Sentinels."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import hiredis

from acked.brokers.redis.address import Node, parse
from acked.brokers.redis.connection import Connection
from tests.servers.server import Server, program

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
            "daemonize": "no", "enable-debug-command": "yes",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }  # fmt: skip

    def command(self) -> list[str]:
        options = [each for name, value in self.options.items() for each in (f"--{name}", value)]
        return [program("redis-server"), "--port", str(self.port), *options]

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING") == b"PONG")
        except OSError:
            return False

    def ask(self, *command: str | float | bytes, timeout: float = 5.0) -> Any:
        """The answer to a command; an error of the server is raised."""
        deadline = time.monotonic() + timeout
        connection = Connection(Node("127.0.0.1", self.port), parse("redis://x"), deadline)
        try:
            if password := self.options.get("requirepass"):
                connection.call("AUTH", password, deadline=deadline)
            reply = connection.call(*command, deadline=deadline)
        finally:
            connection.close()
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def fresh(self, **options: str) -> str:
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"redis://127.0.0.1:{self.port}/0?prefix={prefix()}{more}"
