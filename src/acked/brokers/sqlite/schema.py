"""What a fresh connection is given: the tables of the file, and its own settings."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Generator
from pathlib import Path

import apsw

from acked.brokers.sqlite.wal import Patience
from acked.errors import ConfigurationError

SCHEMA_VERSION = 3
APPLICATION_ID = 0x41434B44
"""``ACKD``: tells our file from another program's (https://sqlite.org/fileformat2.html)."""

SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
TURN = Path(__file__).with_name("turn.sql").read_text(encoding="utf-8")

CACHE_KIB = 8192


def set_up(
    connection: apsw.Connection, path: Path, *, patience: Patience, log_limit: int,
    checkpoint_after: int,
) -> None:  # fmt: skip
    """Make of *connection* to *path* what every one of ours is.

    Args:
        patience: How long to wait for others who do the same.
        log_limit: Bytes to which the write-ahead log is cut when it starts anew.
        checkpoint_after: Pages in it after which it is copied to the database.

    Raises:
        ConfigurationError: The file is another program's, or of another version of acked.
        apsw.Error: SQLite refuses, or it takes too long.
    """
    # Reads that others may write between: what is not ours by this look is looked at again
    # where nobody creates it meanwhile.
    made_by, version = connection.pragma("application_id"), connection.pragma("user_version")
    if (made_by, version) != (APPLICATION_ID, SCHEMA_VERSION):
        _create(connection, path, patience)
    if connection.pragma("journal_mode") != "wal":
        # A copy made by VACUUM INTO, or a tool that has changed it. Without the log a reader keeps
        # writers out, and the end of a commit is not flushed.
        with in_turn(path.parent, patience):
            connection.pragma("journal_mode", "WAL")
    connection.pragma("synchronous", "FULL")
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("cache_size", -CACHE_KIB)
    connection.pragma("trusted_schema", 0)
    connection.pragma("journal_size_limit", log_limit)
    connection.pragma("wal_autocheckpoint", checkpoint_after)
    connection.execute(TURN)


def _is_ours(connection: apsw.Connection, path: Path) -> bool:
    """Whether the tables are there; False for an empty file.

    Raises:
        ConfigurationError: As `set_up`.
    """
    made_by, version = connection.pragma("application_id"), connection.pragma("user_version")
    if made_by == APPLICATION_ID:
        if version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"{path} was made by another version of acked (format {version}, known here: "
                f"{SCHEMA_VERSION}). Upgrade acked here: pip install --upgrade acked"
            )
        return True
    if made_by or version or connection.execute("SELECT count(*) FROM sqlite_schema").get:
        raise ConfigurationError(
            f"{path} is the database of another program. Name a file for acked alone in the "
            "broker's URL."
        )
    return False


@contextlib.contextmanager
def in_turn(directory: Path, patience: Patience) -> Generator[None]:
    """One after the other, of all who make a database in *directory*.

    Raises:
        apsw.BusyError: *patience* is over. Whoever has the turn may have been stopped in it.
    """
    turn = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for tries in itertools.count():
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not patience(tries):
                    raise apsw.BusyError("the directory is locked") from None
        yield
    finally:
        os.close(turn)


def _create(connection: apsw.Connection, path: Path, patience: Patience) -> None:
    # SQLite does not wait for the lock that the change to WAL needs.
    with in_turn(path.parent, patience):
        if _is_ours(connection, path):
            return
        connection.pragma("auto_vacuum", "INCREMENTAL")
        connection.pragma("journal_mode", "WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(SCHEMA)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", SCHEMA_VERSION)
        connection.execute("COMMIT")
