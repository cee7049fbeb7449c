"""What is asked of SQLite all the time is answered from an index, however many tasks there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from acked.broker import Filter
from acked.brokers.sqlite import SQLiteBroker, queue, records, waiting
from acked.brokers.sqlite.search import selection
from acked.delivery import State


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SQLiteBroker]:
    broker = SQLiteBroker(tmp_path / "shop.db")
    broker.setup()
    yield broker
    broker.close()


DELETE = records.DELETE.format


@pytest.mark.parametrize(
    "statement",
    [
        waiting.FIND_WORK,
        queue.QUEUES_WITH_DUE,
        queue.PROMOTE,
        queue.HELD.format(which=queue.HELD_BY),
        queue.HELD.format(which=queue.ORPHANED),
        queue.ORDERS,
        records.COUNTS,
        f"{records.UPCOMING} {records.RECORD} {records.NEXT_FIRST}",
        records.WORKERS,
        records.REVOKE,
        records.REQUEUE,
        f"{records.RECORD} WHERE id = ?",
        DELETE(which="state = 'QUEUED' AND queue = ?"),
        DELETE(which="state = 'SCHEDULED' AND queue = ?"),
        DELETE(which="state = 'SUCCESS' AND finished < ?"),
        *(
            selection(Filter(states=(state,), queue="mail"), before=7, after=None)[0]
            for state in (State.RUNNING, State.FAILURE, State.REVOKED)
        ),
    ],
)
def test_no_statement_that_is_run_often_reads_the_whole_table(
    broker: SQLiteBroker, statement: str
) -> None:
    named = dict.fromkeys(("now", "wish", "soft", "ids", "due", "tag", "limit"))
    bindings = named if re.search(r":(ids|limit)\b", statement) else [None] * statement.count("?")
    with broker._database.session() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", bindings).fetchall()
    steps = [step for *_, step in plan]

    assert steps
    assert "SCAN task" not in steps
