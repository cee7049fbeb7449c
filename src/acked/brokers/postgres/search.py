"""What `Records.search` asks of PostgreSQL.

Each of the three tables that a wanted state may be in gives its own newest, by its numbers from
their end; the newest of those are the page. So neither a rare state among a million nor a common
one is long to find.
"""

from __future__ import annotations

from functools import lru_cache

from acked.broker import Filter, as_json_has_it
from acked.brokers.postgres.connection import Call, Statement
from acked.brokers.postgres.values import float8, int8, text
from acked.delivery import FINAL, State

RECORD = """
SELECT id, body, name, queue, priority, sent, state, due, attempt, retries, losses, suspected, runs,
       token, consumer, claimed, finished, result, failure, reason, revoke, progress, seq
FROM {schema}.record
"""
RECORD_COLUMNS = "tbttqdtdqqqqqqtddbbtqbq"

UNSUCCESSFUL = frozenset({State.FAILURE, State.REVOKED})


def selection(wanted: Filter, before: int | None, after: int | None, limit: int) -> Call | None:
    """What finds up to *limit* of what is *wanted*, newest first; None where nothing can fit."""
    states = frozenset(State) if wanted.states is None else frozenset(wanted.states)
    asked = {
        "t.queue = {}": None if wanted.queue is None else text(wanted.queue),
        "t.name = {}": None if wanted.task is None else text(wanted.task),
        "position({} IN t.id) > 0": None if wanted.id_part is None else text(wanted.id_part),
        "(s.consumer = {0} OR s.consumer >= {0} || '/'::bytea "
        "AND s.consumer < {0} || '0'::bytea)": (
            None if wanted.worker is None else text(wanted.worker)
        ),
        "t.sent >= {}": float8(wanted.sent_from),
        "t.sent < {}": float8(wanted.sent_before),
        "s.seq < {}": None if before is None else int8(before),
        "s.seq > {}": None if after is None else int8(after),
        "position({} IN s.failure) > 0": _in_json(wanted.error),
        "position({} IN t.body) > 0": _in_json(wanted.text),
    }
    if not states:
        return None
    terms = tuple(term for term, value in asked.items() if value is not None)
    values = [value for value in asked.values() if value is not None]
    return Call(_statement(states, terms), [int8(limit), *values])


def _in_json(wanted: str | None) -> bytes | None:
    return None if wanted is None else as_json_has_it(wanted)


@lru_cache(maxsize=64)
def _statement(states: frozenset[State], terms: tuple[str, ...]) -> Statement:
    """One of a few dozen, so that each is prepared once."""
    types = {
        "s.seq < {}": "bigint", "s.seq > {}": "bigint",
        "t.sent >= {}": "double precision", "t.sent < {}": "double precision",
    }  # fmt: skip
    asked = [
        term.format(f"${number}::{types.get(term, 'bytea')}")
        for number, term in enumerate(terms, start=2)
    ]
    needs_task = any("t." in term for term in terms)
    parts = [
        f"(SELECT s.seq FROM {{schema}}.{table} AS s "  # noqa: S608 - our own words alone
        + ("JOIN {schema}.task AS t ON t.seq = s.seq " if needs_task else "")
        + f"WHERE {' AND '.join([condition, *asked])} ORDER BY s.seq DESC LIMIT $1)"
        for table, condition in _places(states)
    ]
    found = " UNION ALL ".join(parts)
    numbers = (
        f"SELECT seq FROM ({found}) AS found "  # noqa: S608 - our own words alone
        "ORDER BY seq DESC LIMIT $1"
    )
    return Statement(
        f"{RECORD} WHERE seq = ANY (ARRAY({numbers})) ORDER BY seq DESC", RECORD_COLUMNS
    )


def _places(states: frozenset[State]) -> list[tuple[str, str]]:
    """The tables that *states* may be in, and what tells them there."""
    places = []
    if {State.QUEUED, State.SCHEDULED} <= states:
        places.append(("waiting", "true"))
    elif State.QUEUED in states:
        places.append(("waiting", "NOT s.scheduled"))
    elif State.SCHEDULED in states:
        places.append(("waiting", "s.scheduled"))
    if State.RUNNING in states:
        places.append(("running", "true"))
    if states >= FINAL:
        places.append(("done", "true"))
    elif final := states & FINAL:
        names = ", ".join(f"'{state}'" for state in sorted(final))
        rare = "s.state <> 'SUCCESS' AND " if final <= UNSUCCESSFUL else ""
        places.append(("done", f"{rare}s.state IN ({names})"))
    return places
