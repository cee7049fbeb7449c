"""The tables in the database: which migrations it has, and how it gets the others.

A migration is a file ``NNNN_name.sql`` in ``migrations``. Each runs once, in a transaction that
also records it, while an advisory lock keeps two that migrate at once apart. What is released is
never changed; a later one changes it.
"""

from __future__ import annotations

import math
import time
from importlib import resources
from typing import Any, NamedTuple

import psycopg

from acked.brokers.postgres.address import Address, signed
from acked.brokers.postgres.connection import Call, Database, Rows, Statement
from acked.brokers.postgres.meaning import broken, meaning
from acked.errors import BrokerError, BrokerRefused, ConfigurationError

COMMAND = "acked -A shop:app migrate"
LOCK_SECONDS = 60
"""How long a migration waits for sessions that use the tables."""


class Migration(NamedTuple):
    """One step of the tables' history."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All that this version of acked has, in order."""
    files = resources.files("acked.brokers.postgres").joinpath("migrations")
    return sorted(
        Migration(int(each.name[:4]), each.name.removesuffix(".sql"), each.read_text("utf-8"))
        for each in files.iterdir()
        if each.name.endswith(".sql")
    )


EXISTS = Statement("SELECT to_regclass('{schema}.migration') IS NOT NULL", "?")
APPLIED = Statement("SELECT number, name FROM {schema}.migration ORDER BY number", "qt")
NOTE = "INSERT INTO {schema}.migration (number, name) VALUES (%s, %s)"
BEGIN = """
DO $$ BEGIN
    -- Asked first: IF NOT EXISTS wants the right to make schemas where none is to be made, too.
    IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF;
END $$;
CREATE TABLE IF NOT EXISTS {schema}.migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)
"""

OWNERS = """
SELECT
    current_user::regrole::text, n.nspowner::regrole::text, c.relowner::regrole::text,
    quote_ident(current_database()), quote_ident(%(schema)s)
FROM (VALUES (1)) AS always
LEFT JOIN pg_namespace AS n ON n.nspname = %(schema)s
LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'migration'
"""


def pending(database: Database, until: float = math.inf) -> list[Migration]:
    """What the database still needs.

    Args:
        until: Monotonic time by which the answer must be there.

    Raises:
        BrokerError: It cannot be asked.
        ConfigurationError: As `missing`.
    """
    (((is_there,),),) = database.run(Call(EXISTS), repeatable=True, until=until)
    have: Rows = []
    if is_there:
        (have,) = database.run(Call(APPLIED), repeatable=True, until=until)
    return missing(have, database.address)


def missing(have: Rows, address: Address) -> list[Migration]:
    """What a database still needs that has those of the numbers and names *have*.

    Raises:
        ConfigurationError: It has more than this version of acked knows.
    """
    known = migrations()
    if have and have[-1][0] > known[-1].number:
        raise ConfigurationError(
            f"{address.shown} was migrated by a newer acked (it has {have[-1][1]}, known here is "
            f"{known[-1].name}). Upgrade acked here: pip install --upgrade acked"
        )
    numbers = {number for number, _ in have}
    return [each for each in known if each.number not in numbers]


def connect(address: Address, timeout: float) -> psycopg.Connection[Any]:
    """A plain connection, for migrations alone.

    Raises:
        BrokerError: There is none.
    """
    seconds = max(2, round(timeout))
    failures: list[str] = []
    try:
        for conninfo in address.places(time.monotonic() + timeout):
            try:
                return psycopg.connect(conninfo, autocommit=True, connect_timeout=seconds)
            except psycopg.OperationalError as error:
                failures.append(str(error).strip())
    except OSError as error:
        failures.append(str(error))
    raise meaning(broken(failures), address.shown, timeout, undone=True)


def apply(address: Address, timeout: float) -> list[str]:
    """Apply what is missing; the names.

    Raises:
        BrokerError: One failed; those before it are applied.
        ConfigurationError: As `missing`.
    """
    done: list[str] = []

    def sql(text: str) -> bytes:
        return text.replace("{schema}", address.quoted_schema).encode()

    try:
        with connect(address, timeout) as connection:
            connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'".encode())
            connection.execute(
                "SELECT pg_advisory_lock(%s, %s)", (address.lock_space, signed("migrate"))
            )
            try:
                row = connection.execute(sql(EXISTS.sql)).fetchone()
                is_there = row is not None and row[0]
                have = connection.execute(sql(APPLIED.sql)).fetchall() if is_there else []
                for migration in missing(have, address):
                    with connection.transaction():
                        connection.execute(sql(BEGIN))
                        connection.execute(sql(migration.sql))
                        connection.execute(sql(NOTE), (migration.number, migration.name))
                    done.append(migration.name)
            except psycopg.errors.InsufficientPrivilege as error:
                raise _failed(error, address, _right(connection, address)) from None
    except psycopg.Error as error:
        raise _failed(error, address) from None
    return done


def _failed(error: psycopg.Error, address: Address, remedy: str = "") -> BrokerError:
    text = " ".join(str(error).split())
    return BrokerError(f"{address.shown} could not be migrated ({text}). {remedy}".rstrip())


def _right(connection: psycopg.Connection[Any], address: Address) -> str:
    """Who may make the tables, or how the user of *connection* comes to."""
    ((user, schema_owner, table_owner, database, schema),) = connection.execute(
        OWNERS, {"schema": address.schema}
    ).fetchall()
    if table_owner not in {None, user}:
        # Only who owns a table may change it; no GRANT gives that.
        return f"Run it as {table_owner}, who owns the tables in the schema {schema}."
    if schema_owner is None:
        return (
            f"Its user needs the right to make the schema {schema}: "
            f"GRANT CREATE ON DATABASE {database} TO {user}"
        )
    return (
        f"Run it as {schema_owner}, who owns the schema {schema}, or let its user make tables "
        f"there: GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}"
    )


def check(database: Database, until: float) -> None:
    """Refuse tables that are not those of this version.

    Args:
        until: As for `pending`.

    Raises:
        BrokerError: It cannot be asked.
        BrokerRefused: They are missing or older.
        ConfigurationError: They are newer.
    """
    lacks = pending(database, until)
    if lacks:
        address = database.address
        raise BrokerRefused(
            f"{address.shown} is not ready: schema {address.schema} lacks "
            f"{', '.join(each.name for each in lacks)}. Run: {COMMAND}",
            nothing_stored=True,
        )
