"""The broker that is one SQLite file: no server, durable, for the processes of one host.

``schema.sql`` says what is stored, and ``turn.sql`` how a worker moves on. `queue` and `records`
are the two protocols, and `ledger` what RabbitMQ needs beside them. Below them, `connection` keeps
what is written durable, `placement` refuses what would not, and `waiting` and `wake` wake idle
workers.
"""

from __future__ import annotations

from pathlib import Path

from acked.broker import Capabilities, Condition
from acked.brokers.sqlite.connection import Database
from acked.brokers.sqlite.ledger import TaskLedger
from acked.brokers.sqlite.queue import TaskQueue
from acked.brokers.sqlite.records import TaskRecords
from acked.brokers.sqlite.waiting import Waiting
from acked.clock import Clock, SystemClock

__all__ = ["SQLiteBroker"]

DEFAULT_TIMEOUT = 5.0


class SQLiteBroker(TaskQueue, TaskRecords, TaskLedger):
    """`Broker`, `Records` and `Ledger` in one SQLite file.

    Args:
        path: The file; made when it is first used, readable by its owner alone.
        clock: Where it reads the time; the host's clocks unless a test gives its own.
        timeout: Seconds to wait for other writers before `BrokerUnavailable`.
        vfs: Name of an SQLite file system layer; tests put a failing disk there.

    Raises:
        ConfigurationError: The SQLite in use can lose data.
    """

    capabilities = Capabilities(shared=True, durable=True, host_local=True)

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        vfs: str | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.presence_dir = self.path.with_name(f"{self.path.name}-workers")
        clock = clock if clock is not None else SystemClock()
        database = Database(self.path, timeout=timeout, vfs=vfs)
        super().__init__(database, clock, Waiting(database, clock, self.presence_dir))

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def records_url(self) -> str:
        return self.url

    @property
    def address(self) -> str:
        return self.url

    @property
    def clock(self) -> Clock:
        return self._clock

    def conditions(self) -> list[Condition]:
        """Nothing that a connection does not set up itself."""
        return []

    def connection_conditions(self) -> list[Condition]:
        """There is no way to it."""
        return []

    def setup(self) -> None:
        """Make the file and the directory beside it."""
        with self._database.session():
            self._waiting.set_up()

    def close(self) -> None:
        self._waiting.close()
        self._database.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"
