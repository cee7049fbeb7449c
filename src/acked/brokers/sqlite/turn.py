"""One turn of a worker, seen from Python: what goes into ``turn.sql``, and what comes out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import apsw
import msgspec

from acked.brokers.sqlite.connection import Row, fetch
from acked.delivery import COMES_BACK, SETTLES, TRANSITIONS, Delivery, Failure, Settlement, State
from acked.record import with_message

AT_ONCE = 50
"""Settlements in one INSERT: few steps, and a statement short enough to be kept prepared."""

SETTLING = "INSERT INTO settling VALUES {rows}"

TURN = "INSERT INTO turn VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

TAKEN = """
SELECT CAST(json_group_array(json_array(
           id, token, attempt, retries, losses, suspected, runs, queue, sent, seq, length(body)
       )) AS BLOB),
       CAST(group_concat(CAST(body AS TEXT), '') AS BLOB)
FROM (SELECT * FROM taken ORDER BY number)
"""
"""Everything in one row: each row that is handed out waits for the interpreter."""

TAKEN_ONE_BY_ONE = """
SELECT CAST(id AS BLOB), token, attempt, retries, losses, suspected, runs, queue, sent, seq, body
FROM taken ORDER BY number
"""

_AFTER = {
    event: (TRANSITIONS[State.RUNNING][event].value, event in COMES_BACK) for event in SETTLES
}
"""The state after each settlement, and whether the task would run again."""

_encoder = msgspec.json.Encoder()
_taken_decoder = msgspec.json.Decoder(
    list[tuple[str, int, int, int, int, int, int, str, float, int, int]]
)


def stage(connection: apsw.Connection, settlements: Sequence[Settlement]) -> None:
    """Put *settlements* where the next turn finds them: in memory, without the file's lock."""
    connection.execute("DELETE FROM settling")
    if not settlements:
        return
    try:
        insert(connection, SETTLING, [_row(each) for each in settlements], AT_ONCE)
    except UnicodeEncodeError:
        # An exception's text may hold half a character. The task must settle all the same.
        connection.execute("DELETE FROM settling")
        insert(connection, SETTLING, [_row(_storable(each)) for each in settlements], AT_ONCE)


def taken(connection: apsw.Connection, consumer: str, now: float) -> list[Delivery]:
    """The deliveries of the turn that was just taken at *now*."""
    try:
        about, joined = fetch(connection, TAKEN)[0]
        rows, bodies, start = _taken_decoder.decode(about), [], 0
        for row in rows:
            bodies.append(joined[start : start + row[-1]])
            start += row[-1]
    except (apsw.TooBigError, msgspec.DecodeError, UnicodeDecodeError):
        # A gigabyte of arguments, or an id that is no text, from another program. They are ours
        # by now, so they must be handed out.
        raw = fetch(connection, TAKEN_ONE_BY_ONE)
        rows, bodies = [(readable(row[0]), *row[1:10], 0) for row in raw], [row[10] for row in raw]
    return [
        Delivery(
            id=task_id, body=body, token=token, attempt=attempt, retries=retries, losses=losses,
            suspected=suspected, runs=runs, queue=queue, sent=sent, tag=tag, consumer=consumer,
            claimed=now,
        )
        for (
            task_id, token, attempt, retries, losses, suspected, runs, queue, sent, tag, _,
        ), body in zip(rows, bodies, strict=True)
    ]  # fmt: skip


def insert(connection: apsw.Connection, statement: str, rows: Sequence[Row], at_once: int) -> None:
    """Run *statement*, an INSERT with ``{rows}`` in it, for up to *at_once* rows at a time."""
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        sql = _with_rows(statement, len(part), len(part[0]))
        connection.execute(sql, list(itertools.chain.from_iterable(part)))


def readable(text: bytes) -> str:
    """*text* as a string, whatever another program wrote there."""
    return text.decode(errors="replace")


def _row(settlement: Settlement) -> Row:
    settlement, message = with_message(settlement)
    event, failure = settlement.event, settlement.failure
    outcome, back = _AFTER[event]
    queue, priority = (None, None) if message is None else (message.queue, message.priority)
    return (
        settlement.tag, settlement.token, outcome, back, event.value, settlement.at,
        settlement.started, settlement.not_before, settlement.reason, settlement.counts,
        settlement.loss, settlement.suspect,
        None if failure is None else _encoder.encode(failure).decode(),
        settlement.result, settlement.body, queue, priority, settlement.consumer or None,
        settlement.log,
    )  # fmt: skip


def _storable(settlement: Settlement) -> Settlement:
    def text(value: str) -> str:
        return value.encode(errors="replace").decode()

    failure = settlement.failure
    if failure is not None:
        failure = Failure(text(failure.type), text(failure.message), text(failure.traceback))
    return msgspec.structs.replace(
        settlement, reason=text(settlement.reason), log=text(settlement.log), failure=failure
    )


@lru_cache(maxsize=256)
def _with_rows(statement: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return statement.format(rows=", ".join([row] * rows))
