"""The broker that is a PostgreSQL database: durable, shared by many hosts, 13 or newer.

``migrations/*.sql`` say what is stored, and how a worker moves on. `queue`, `records` and `ledger`
are the protocols of `acked.broker`. Below them, `connecting` finds the server, `connection` talks
to it, `values` packs what is said, `waiting` wakes idle workers, and `schema` keeps the tables up
to date.
"""

from __future__ import annotations

import time
from pathlib import Path

from acked.broker import Capabilities, Condition
from acked.brokers.postgres import schema
from acked.brokers.postgres.address import parse
from acked.brokers.postgres.connection import Call, Database, Statement
from acked.brokers.postgres.ledger import TaskLedger
from acked.brokers.postgres.records import TaskRecords
from acked.brokers.postgres.transactions import TransactionalSending
from acked.clock import Clock
from acked.runtime import runtime_directory

__all__ = ["PostgresBroker"]

DEFAULT_TIMEOUT = 5.0

NOW = Statement("SELECT extract(epoch FROM clock_timestamp())::float8", "d")

SETTINGS = Statement(
    """
    SELECT current_setting('fsync'), current_setting('synchronous_commit'),
           current_setting('full_page_writes'), current_setting('server_version')
    """,
    "tttt",
)


class PostgresBroker(TaskLedger, TaskRecords, TransactionalSending):
    """`Broker`, `Records`, `Ledger`, `Transactional` and `Migrates` in a PostgreSQL database.

    Args:
        url: As libpq takes it, ``postgresql://user:password@host:5432/database``; ``?schema=``
            names the schema, ``acked`` if left out. A host that is not this one is spoken to over
            TLS with a checked certificate, unless ``sslmode=`` says otherwise.
        clock: Where it reads the time; the server's unless a test gives its own.
        timeout: Seconds to wait for the server before `BrokerUnavailable`.

    Raises:
        ConfigurationError: The URL is none of PostgreSQL's.
    """

    capabilities = Capabilities(shared=True, durable=True, host_local=False, transactional=True)

    def __init__(
        self, url: str, *, clock: Clock | None = None, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self._address = parse(url, timeout=timeout)
        super().__init__(Database(self._address, timeout=timeout), clock)
        self._checked = False

    @property
    def url(self) -> str:
        return self._address.shown

    @property
    def records_url(self) -> str:
        return self.url

    @property
    def address(self) -> str:
        return self._address.complete

    @property
    def presence_dir(self) -> Path:
        return runtime_directory(f"postgresql|{self._address.identity}")

    def setup(self) -> None:
        """Refuse a database that lacks the tables. Making them is `migrate`'s, which the operator
        calls: a program that serves customers should not have the right to.

        Raises:
            BrokerError: It cannot be asked, or not within the time of one operation.
            ConfigurationError: They are missing, older or newer than this acked.
        """
        if not self._checked:
            until = time.monotonic() + self._database.timeout
            schema.check(self._database, until)
            # The first message's countdown is counted by the server's clock already.
            asked = self._server_clock.here()
            (((now,),),) = self._database.run(Call(NOW), repeatable=True, until=until)
            self._told(now, asked)
            self._checked = True

    def pending(self) -> list[str]:
        """Names of the migrations that the database lacks."""
        return [each.name for each in schema.pending(self._database)]

    def migrate(self) -> list[str]:
        """Apply them; their names."""
        return schema.apply(self._address, self._database.timeout)

    def conditions(self) -> list[Condition]:
        """What of the server's settings decides about durability, and whether others may listen."""
        (((fsync, commit, pages, version),),) = self._database.run(Call(SETTINGS), repeatable=True)
        found = [Condition(subject="version", level="ok", text=f"PostgreSQL {version}")]
        if fsync == "off":
            found.append(
                Condition(
                    subject="fsync", level="warn",
                    text="fsync is off: a power loss can destroy the whole database",
                    remedy="ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()",
                )
            )  # fmt: skip
        if commit == "off":
            found.append(
                Condition(
                    subject="synchronous_commit", level="warn",
                    text="synchronous_commit is off: a crash of the server loses the tasks that "
                    "were sent in its last moments, though delay() had returned",
                    remedy="ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()",
                )
            )  # fmt: skip
        if pages == "off":
            found.append(
                Condition(
                    subject="full_page_writes", level="warn",
                    text="full_page_writes is off: a power loss can leave pages half written",
                    remedy="ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()",
                )
            )  # fmt: skip
        if len(found) == 1:
            found.append(
                Condition(
                    subject="durability", level="ok", is_promise=True,
                    text="Every write is on disk before it is answered (fsync on, "
                    f"synchronous_commit {commit}).",
                )
            )  # fmt: skip
        return [*found, *self.connection_conditions()]

    def connection_conditions(self) -> list[Condition]:
        if self._address.encrypted or not self._address.remote:
            return []
        return [
            Condition(
                subject="encryption", level="warn",
                text="tasks and the password may travel in plain text to another host",
                remedy="leave sslmode out of the URL, or set sslmode=verify-full",
            )
        ]  # fmt: skip

    def close(self) -> None:
        self._waiting.close()
        self._database.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"
