"""SQLite's own limit, reached by nothing but SQL: what a queue on it could do at the most.

WAL with synchronous=FULL, as acked has it. A *row* is as long as acked's own.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from benchmarks.engines import BATCH

_BUSY_MS = 10_000
_SCHEME = "sqlite:///"
_CLAIM = """
    UPDATE task SET state = 1, token = ?1
    WHERE id IN (SELECT id FROM task WHERE state = 0 ORDER BY id LIMIT ?2)
    RETURNING id, body
"""
_FINISH = "UPDATE task SET state = 2, result = ?3 WHERE id = ?1 AND token = ?2"


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(_BUSY_MS)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 2)
    return connection


def _beside(url: str) -> Path:
    return Path(url.removeprefix(_SCHEME)).with_name("engine.db")


class SerialWrites:
    """One row a commit into a bare table, no index: the least that durable enqueuing can cost."""

    def __init__(self, row_bytes: int) -> None:
        self._connection = _connect(_beside(os.environ["BENCH_BROKER_URL"]))
        self._connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        self._body = b"x" * row_bytes

    def write(self) -> None:
        """Insert one row; on disk when it returns."""
        self._connection.execute("INSERT INTO row (body) VALUES (?)", (self._body,))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._connection.close()


def row_bytes(url: str) -> int:
    """Payload of a row of the largest table in the file, indexes not counted."""
    path = url.removeprefix(_SCHEME)
    with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        cells = connection.execute(
            "SELECT sum(payload), sum(ncell) FROM dbstat"
            " WHERE name IN (SELECT name FROM sqlite_schema WHERE type = 'table')"
            " AND pagetype = 'leaf' AND ncell > 0"
            " GROUP BY name ORDER BY 1 DESC LIMIT 1"
        ).fetchone()
    if cells is None:
        raise RuntimeError(f"no rows in {path}")
    payload, count = cells
    return int(payload / count)


def seed(url: str, *, count: int, row_bytes: int) -> None:
    """A table of *count* tasks to drain."""
    with closing(_connect(_beside(url))) as connection:
        connection.execute(
            "CREATE TABLE task (id INTEGER PRIMARY KEY, state INTEGER NOT NULL DEFAULT 0,"
            " token INTEGER, body BLOB NOT NULL, result BLOB);"
            " CREATE INDEX ready ON task (id) WHERE state = 0"
        )
        with connection:
            connection.executemany(
                "INSERT INTO task (body) VALUES (?)", ((b"x" * row_bytes,) for _ in range(count))
            )


def drain(url: str, *, start_at_ns: int) -> dict[str, int]:
    """Finish a batch and claim the next in one transaction, until nothing is left.

    Args:
        start_at_ns: Begin at this moment of `time.monotonic_ns`, so that processes start together.
    """
    with closing(_connect(_beside(url))) as connection:
        time.sleep(max(0.0, (start_at_ns - time.monotonic_ns()) / 1e9))
        began = time.monotonic_ns()
        done = token = 0
        held: list[tuple[int, int, bytes]] = []
        while True:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_FINISH, held)
            done += len(held)
            token += 1
            held = [
                (number, token, b"null")
                for number, _ in connection.execute(_CLAIM, (token, BATCH))
            ]  # fmt: skip
            connection.execute("COMMIT")
            if not held:
                return {"done": done, "began": began, "ended": time.monotonic_ns()}
