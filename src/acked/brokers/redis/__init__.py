"""The broker that is a Redis server, a Sentinel set or a Redis Cluster; Valkey as well.

``scripts/common.lua`` says what is stored under which key; each operation is one script beside
it. `queue` and `records` are the two protocols; `ledger` is what RabbitMQ needs beside them. Below
them, `client` finds the primary and runs scripts there, `waiting` wakes idle workers, and `setup`
says what of the server's own set-up would hurt.
"""

from __future__ import annotations

import time
from pathlib import Path

from acked.broker import Capabilities, Condition
from acked.brokers.redis import scripts
from acked.brokers.redis.address import parse
from acked.brokers.redis.ledger import TaskLedger
from acked.brokers.redis.queue import TaskQueue
from acked.brokers.redis.records import TaskRecords
from acked.brokers.redis.setup import check, conditions, inspect
from acked.clock import Clock
from acked.runtime import runtime_directory

__all__ = ["RedisBroker"]

DEFAULT_TIMEOUT = 5.0


class RedisBroker(TaskQueue, TaskRecords, TaskLedger):
    """`Broker`, `Records` and `Ledger` in Redis.

    Args:
        url: Where it is; the forms are in `acked.brokers.redis.address`.
        clock: Where it reads the time; the server's unless a test gives its own.
        timeout: Seconds to wait for the server before `BrokerUnavailable`.

    Raises:
        ConfigurationError: *url* names no server.
    """

    def __init__(
        self, url: str, *, clock: Clock | None = None, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        super().__init__(parse(url), clock, timeout)
        self._durable = False
        self._presence_dir: Path | None = None

    @property
    def url(self) -> str:
        return self._address.masked

    @property
    def records_url(self) -> str:
        return self.url

    @property
    def address(self) -> str:
        return self._address.url

    @property
    def capabilities(self) -> Capabilities:
        """`durable` is true with ``appendfsync always``; known once `setup` has asked."""
        return Capabilities(shared=True, durable=self._durable, host_local=False)

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def presence_dir(self) -> Path:
        if self._presence_dir is None:
            self._presence_dir = runtime_directory(self._address.place)
        return self._presence_dir

    def setup(self) -> None:
        """Refuse a server that would lose tasks, and read its clock. There is nothing to make."""
        deadline = time.monotonic() + self._client.timeout
        about = inspect(self._client, deadline)
        check(about, self._address)
        self._run(scripts.TIME, until=deadline)
        self._durable = about.durable

    def conditions(self) -> list[Condition]:
        about = inspect(self._client, time.monotonic() + self._client.timeout)
        return [*conditions(about, self._address), *self.connection_conditions()]

    def connection_conditions(self) -> list[Condition]:
        return self._address.conditions()

    def close(self) -> None:
        self._client.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"
