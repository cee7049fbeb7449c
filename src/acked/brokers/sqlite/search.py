"""What `Records.search` asks of SQLite: a `Filter` as a SELECT of the records' numbers.

Newest first is the table's own order, read from its end, so that the first page of a common kind
is found at once. Records in a rare state could lie anywhere in a million; they are found by the
index of their state, and then sorted.
"""

from __future__ import annotations

from acked.broker import Filter, as_json_has_it
from acked.brokers.sqlite.connection import Value
from acked.delivery import State

RARE = {
    State.RUNNING: "SELECT seq FROM task INDEXED BY running WHERE state = 'RUNNING'",
    State.FAILURE: "SELECT seq FROM task INDEXED BY final "
    "WHERE finished IS NOT NULL AND state = 'FAILURE'",
    State.REVOKED: "SELECT seq FROM task INDEXED BY final "
    "WHERE finished IS NOT NULL AND state = 'REVOKED'",
}
"""Where to look for them. The conditions repeat those of the indexes, or SQLite would not use
them; a bound value would not do."""


def selection(wanted: Filter, before: int | None, after: int | None) -> tuple[str, list[Value]]:
    """A SELECT of the numbers (`seq`) of what is *wanted*, in no order, and its bindings."""
    asked: dict[str, Value] = {
        "queue = ?": wanted.queue,
        "name = ?": wanted.task,
        "instr(id, ?) > 0": wanted.id_part,
        "? IN (consumer, substr(consumer, 1, instr(consumer || '/', '/') - 1))": wanted.worker,
        "sent >= ?": wanted.sent_from,
        "sent < ?": wanted.sent_before,
        "seq < ?": before,
        "seq > ?": after,
        # Last, as the conditions are tried in this order: these read the whole row.
        "instr(failure, ?) > 0": _in_json(wanted.error, text_column=True),
        "instr(body, ?) > 0": _in_json(wanted.text),
    }
    terms = [term for term, value in asked.items() if value is not None]
    bindings = [storable(value) for value in asked.values() if value is not None]
    states = tuple(dict.fromkeys(wanted.states)) if wanted.states is not None else None
    if states and RARE.keys() >= set(states):
        parts = [" AND ".join([RARE[state], *terms]) for state in states]
        return " UNION ALL ".join(parts), bindings * len(parts)
    if states is not None:
        terms.append(f"state IN ({', '.join('?' * len(states))})")
        bindings += [state.value for state in states]
    return " AND ".join(["SELECT seq FROM task WHERE true", *terms]), bindings


def _in_json(text: str | None, *, text_column: bool = False) -> Value:
    if text is None:
        return None
    found = as_json_has_it(text)
    return found.decode() if text_column else found


def storable(value: Value) -> Value:
    """*value* as it could have been stored: half a character cannot, and so finds nothing."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
