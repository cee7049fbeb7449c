"""Sending inside a transaction of the caller's: `acked.broker.Transactional` over PostgreSQL.

What is sent are the same rows by the same function, on the caller's connection. The notification
goes with the transaction, too: PostgreSQL delivers it at the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from acked.brokers.postgres.address import signed
from acked.brokers.postgres.store import Store
from acked.errors import BrokerError, NotSendable
from acked.message import Message, encode

WRAPPERS = ("connection", "driver_connection", "dbapi_connection")
"""Attributes under which Django, SQLAlchemy and others keep the connection of the driver."""

SEND_WITHIN = """
SELECT {schema}.send(
    %s::bytea[], %s::bytea[], %s::bytea[], %s::smallint[], %s::double precision[],
    %s::double precision[], %s::bytea[], %s::double precision
)
FROM {schema}.place WHERE id = %s AND current_database() = %s
"""

ANNOUNCE = "SELECT pg_notify(channel, '') FROM unnest(%s::text[]) AS channel"


class TransactionalSending(Store):
    """The method of `acked.broker.Transactional`."""

    def send_within(self, connection: object, messages: Sequence[Message]) -> None:
        own = driver_connection(connection)
        if not messages:
            return
        address, place = self._database.address, self._place()
        now = None if self._given_clock is None else self._given_clock.now()
        columns: list[Any] = [
            [each.id.encode() for each in messages],
            [each.task.encode() for each in messages],
            [each.queue.encode() for each in messages],
            [each.priority for each in messages],
            [each.eta for each in messages],
            [each.sent for each in messages],
            [encode(each) for each in messages],
        ]
        keys = sorted({signed(each.queue) for each in messages})
        channels = [f"acked_{address.lock_space}_{key}" for key in keys]
        sql = SEND_WITHIN.replace("{schema}", address.quoted_schema).encode()
        try:
            with own.cursor(row_factory=tuple_row) as cursor:
                cursor.execute(sql, [*columns, now, *place])
                if cursor.fetchone() is None:
                    raise NotSendable(
                        f"using= leads to the database {own.info.dbname!r}, and the broker is "
                        f"{address.shown}. A transaction has one database: give a connection to it."
                    )
                cursor.execute(ANNOUNCE.encode(), [channels])
        except psycopg.errors.InFailedSqlTransaction:
            raise BrokerError(
                "nothing can be sent in this transaction: a statement before has failed in it. "
                "Roll it back.",
                nothing_stored=True,
            ) from None
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            raise NotSendable(
                f"using= leads to the database {own.info.dbname!r}, in which there is no schema "
                f"{address.schema}; the broker is {address.shown}. Give a connection to that."
            ) from None
        except psycopg.Error as error:
            raise BrokerError(
                f"{address.shown} refused to store it in your transaction "
                f"({' '.join(str(error).split())}); it has failed and can only be rolled back.",
                nothing_stored=True,
            ) from None


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
