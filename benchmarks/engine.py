"""SQLite's own limit, reached by nothing but SQL: what a queue on it could do at the most.

WAL with synchronous=FULL, as acked has it. A *row* is as long as acked's own.

`python -m benchmarks.engine DATABASE START` is one draining process, see `drain`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

BATCH = 100

_BUSY_MS = 10_000
_DRAIN_SECONDS = 120.0
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


class SerialCommits:
    """One row a commit into a bare table, no index: the least that durable enqueuing can cost."""

    def __init__(self, path: Path, row_bytes: int) -> None:
        self._connection = _connect(path)
        self._connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        self._body = b"x" * row_bytes

    def commit(self) -> None:
        """Insert one row; on disk when it returns."""
        self._connection.execute("INSERT INTO row (body) VALUES (?)", (self._body,))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._connection.close()


def average_row_bytes(path: Path) -> int:
    """Payload of a row of the largest table in *path*, indexes not counted."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
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


def seed(path: Path, *, count: int, row_bytes: int) -> None:
    """A table of *count* tasks to drain."""
    with closing(_connect(path)) as connection:
        connection.execute(
            "CREATE TABLE task (id INTEGER PRIMARY KEY, state INTEGER NOT NULL DEFAULT 0,"
            " token INTEGER, body BLOB NOT NULL, result BLOB);"
            " CREATE INDEX ready ON task (id) WHERE state = 0"
        )
        with connection:
            connection.executemany(
                "INSERT INTO task (body) VALUES (?)", ((b"x" * row_bytes,) for _ in range(count))
            )


def drain(path: Path, *, start_at_ns: int) -> dict[str, int]:
    """Finish a batch and claim the next in one transaction, until nothing is left.

    Args:
        start_at_ns: Begin at this moment of `time.monotonic_ns`, so that processes start together.
    """
    with closing(_connect(path)) as connection:
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


def drain_rate(directory: Path, *, count: int, row_bytes: int, processes: int) -> float:
    """Tasks a second that *processes* processes drain together."""
    path = directory / f"engine-{processes}.db"
    seed(path, count=count, row_bytes=row_bytes)
    start = time.monotonic_ns() + 1_000_000_000
    command = [sys.executable, "-m", "benchmarks.engine", str(path), str(start)]
    crew = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    try:
        said: list[dict[str, int]] = [
            json.loads(member.communicate(timeout=_DRAIN_SECONDS)[0]) for member in crew
        ]
    finally:
        for member in crew:
            member.kill()
            member.wait()
    if sum(one["done"] for one in said) != count:
        raise RuntimeError(f"the engine drained {said} of {count}")
    nanoseconds = max(one["ended"] for one in said) - min(one["began"] for one in said)
    return float(count * 1e9 / nanoseconds)


if __name__ == "__main__":
    print(json.dumps(drain(Path(sys.argv[1]), start_at_ns=int(sys.argv[2]))))
