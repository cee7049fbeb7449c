"""Sending inside a transaction of the caller's: `acked.broker.Transactional` over PostgreSQL.

What is sent are the same rows by the same function, on the caller's connection. The notification
goes with the transaction, too: PostgreSQL delivers it at the commit.

That connection may be set up in any way: which cursor it makes, how it adapts values, how the
server reads a string. So the cursor is one of our own, and values travel as they do on the broker's
connections.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format, PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from acked.brokers.postgres.address import Address, signed
from acked.brokers.postgres.meaning import GOING
from acked.brokers.postgres.queue import sending
from acked.brokers.postgres.store import Store
from acked.brokers.postgres.values import texts
from acked.errors import BrokerError, BrokerRefused, NotSendable
from acked.message import Message

WRAPPERS = ("connection", "driver_connection", "dbapi_connection")
"""Attributes under which Django, SQLAlchemy and others keep the connection of the driver."""

AT_ONCE = 5_000
"""Messages of one statement, inside a transaction."""

SEND_WITHIN = """
SELECT
    {schema}.send(
        %b::bytea[], %b::bytea[], %b::bytea[], %b::smallint[], %b::double precision[],
        %b::double precision[], %b::bytea[], %b::double precision
    ),
    (
        SELECT count(pg_notify(encode(channel, 'escape'), ''))
        FROM unnest(%b::bytea[]) AS channel
    )
FROM {schema}.place WHERE id = %b::uuid AND current_database() = %s
"""
"""One statement, so that where the connection commits each, one is enough for all or none. A
transaction around several would be that of every other thread which uses the connection."""


class Packed(bytes):
    """A value as PostgreSQL's binary protocol has it; `values` packs it."""


class PackedDumper(Dumper):
    """Lets it through. Its type is what the statement casts it to."""

    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


class TransactionalSending(Store):
    """The method of `acked.broker.Transactional`."""

    def send_within(self, connection: object, messages: Sequence[Message]) -> None:
        own = driver_connection(connection)
        if not messages:
            return
        address, (place, database) = self._database.address, self._place()
        keys = sorted({signed(each.queue) for each in messages})
        channels = texts([f"acked_{address.lock_space}_{key}" for key in keys])
        sql = SEND_WITHIN.replace("{schema}", address.quoted_schema).encode()
        alone = _commits(own)
        size = len(messages) if alone else AT_ONCE
        in_pipeline = own.info.pipeline_status != PipelineStatus.OFF
        try:
            # What is in a pipeline is committed by its next synchronisation: by the end of ours.
            with (
                own.pipeline() if alone and in_pipeline else contextlib.nullcontext(),
                _cursor(own) as cursor,
            ):
                for start in range(0, len(messages), size):
                    columns = [
                        *sending(messages[start : start + size]), self._now(), channels,
                        uuid.UUID(place).bytes,
                    ]  # fmt: skip
                    packed = [None if each is None else Packed(each) for each in columns]
                    cursor.execute(sql, [*packed, database])
                    if cursor.fetchone() is None:
                        raise NotSendable(
                            f"using= leads to the database {own.info.dbname!r}, and the broker is "
                            f"{address.shown}. A transaction has one database: give a connection "
                            "to it."
                        )
        except psycopg.Error as error:
            with getattr(connection, "wrap_database_errors", contextlib.nullcontext()):
                raise _meaning(error, own, address, alone=alone) from error


def _commits(connection: psycopg.Connection[Any]) -> bool:
    """Whether *connection* commits the next statement by itself."""
    if not connection.autocommit:
        return False
    status = connection.info.transaction_status
    if connection.info.pipeline_status != PipelineStatus.OFF:
        return status == TransactionStatus.IDLE
    # ACTIVE: another thread is in the middle of a statement.
    return status in (TransactionStatus.IDLE, TransactionStatus.ACTIVE)


def _cursor(connection: psycopg.Connection[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    cursor.adapters.register_dumper(Packed, PackedDumper)
    return cursor


def _conflicts(error: psycopg.Error) -> bool:
    """Whether it is one of those after which a transaction is tried again from its beginning."""
    return (error.sqlstate or "").startswith("40")


def _meaning(
    error: psycopg.Error, own: psycopg.Connection[Any], address: Address, *, alone: bool
) -> Exception:
    """*error* in terms of the broker; itself where the caller's own loop is to see it.

    Args:
        alone: The statement was a transaction of its own.
    """
    if isinstance(error, psycopg.errors.InFailedSqlTransaction):
        return BrokerError(
            "nothing can be sent in this transaction: a statement before has failed in it. "
            "Roll it back.",
            nothing_stored=True,
        )
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return NotSendable(
            f"using= leads to the database {own.info.dbname!r}, in which there is no schema "
            f"{address.schema}; the broker is {address.shown}. Give a connection to that."
        )
    text = " ".join(str(error).split())
    denied = isinstance(error, psycopg.errors.InsufficientPrivilege)
    kind = BrokerRefused if denied else BrokerError
    if alone:
        # A connection may have been lost between the commit and its answer.
        undone = error.sqlstate is not None and not error.sqlstate.startswith(GOING)
        what = "refused to store it" if undone else "did not say that it was committed"
        return kind(f"{address.shown} {what} ({text})", nothing_stored=undone)
    if _conflicts(error):
        return error
    return kind(
        f"{address.shown} refused to store it in your transaction ({text}); it has failed and can "
        "only be rolled back.",
        nothing_stored=True,
    )


def driver_connection(given: object) -> psycopg.Connection[Any]:
    """The connection of psycopg that *given* is or wraps.

    Raises:
        NotSendable: There is none.
    """
    found = given
    ensure = getattr(given, "ensure_connection", None)
    if callable(ensure):  # Django connects when it is first asked for something.
        ensure()
    for _ in range(4):
        if isinstance(found, psycopg.Connection):
            return found
        inner = (getattr(found, name, None) for name in WRAPPERS)
        found = next((each for each in inner if each is not None and not callable(each)), None)
    kind = f"{type(given).__module__}.{type(given).__qualname__}"
    raise NotSendable(
        f"using= takes a connection of psycopg 3, or what wraps one such as "
        f"django.db.connection; got {kind}."
    )
