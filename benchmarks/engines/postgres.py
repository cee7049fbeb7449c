"""PostgreSQL's own limit, reached by psycopg with one statement a transaction.

The records stay, as acked's do: a task that is done is a row with its result.
"""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Self

import psycopg

from benchmarks.engines import BATCH

_TABLE = """
    CREATE TABLE engine_task (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state smallint NOT NULL DEFAULT 0,
        token bigint, body bytea NOT NULL, result bytea
    );
    CREATE INDEX engine_ready ON engine_task (id) WHERE state = 0;
"""
_SEED = "INSERT INTO engine_task (body) SELECT %s FROM generate_series(1, %s)"
_STEP = """
    WITH settled AS (
        UPDATE engine_task SET state = 2, result = 'null'
        WHERE id = ANY(%(held)s) AND token = %(settled)s
    )
    UPDATE engine_task SET state = 1, token = %(token)s
    WHERE id IN (
        SELECT id FROM engine_task WHERE state = 0 ORDER BY id LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, body
"""


class SerialWrites:
    """One row a commit into a bare table."""

    def __init__(self, row_bytes: int) -> None:
        self._connection = psycopg.connect(os.environ["BENCH_BROKER_URL"], autocommit=True)
        self._connection.execute(
            "CREATE TABLE engine_row ("
            "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL)"
        )
        self._body = b"x" * row_bytes

    def write(self) -> None:
        """Insert one row; on disk when it returns."""
        self._connection.execute("INSERT INTO engine_row (body) VALUES (%s)", (self._body,))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._connection.close()


class HandOver:
    """A row and a notification in one transaction; who hears it claims the row in another."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS engine_handover ("
            "number bigint PRIMARY KEY, taken boolean NOT NULL DEFAULT false)"
        )

    def send(self, number: int) -> None:
        self._connection.execute(
            "WITH row AS (INSERT INTO engine_handover VALUES (%s))"
            " SELECT pg_notify('engine_handover', '')",
            (number,),
        )

    def wait(self) -> None:
        self._connection.execute("LISTEN engine_handover")

    def take(self) -> int:
        while True:
            row = self._connection.execute(
                "UPDATE engine_handover SET taken = true WHERE number = ("
                " SELECT number FROM engine_handover WHERE NOT taken LIMIT 1"
                " FOR UPDATE SKIP LOCKED) RETURNING number"
            ).fetchone()
            if row is not None:
                return int(row[0])
            for _ in self._connection.notifies(stop_after=1):
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._connection.close()


def seed(url: str, *, count: int, row_bytes: int) -> None:
    """A table of *count* tasks to drain."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLE)
        connection.execute(_SEED, (b"x" * row_bytes, count))
        # Autovacuum would do it in the middle of the first drain, and not of the next.
        connection.execute("VACUUM ANALYZE engine_task")


def drain(url: str, *, start_at_ns: int) -> dict[str, int]:
    """Finish a batch and claim the next in one transaction, until nothing is left.

    Args:
        start_at_ns: Begin at this moment of `time.monotonic_ns`, so that processes start together.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        token = os.getpid() << 32
        time.sleep(max(0.0, (start_at_ns - time.monotonic_ns()) / 1e9))
        began = time.monotonic_ns()
        done = 0
        held: list[int] = []
        while True:
            arguments = {"held": held, "settled": token, "token": token + 1, "limit": BATCH}
            rows = connection.execute(_STEP, arguments, binary=True).fetchall()
            done += len(held)
            token += 1
            held = [number for number, _ in rows]
            if not held:
                return {"done": done, "began": began, "ended": time.monotonic_ns()}
