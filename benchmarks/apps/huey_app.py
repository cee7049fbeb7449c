"""huey as it comes, on SQLite: results kept until they are read."""

from __future__ import annotations

import os

from huey import SqliteHuey

from benchmarks.marks import mark

app = SqliteHuey(filename=os.environ["BENCH_SQLITE"])


@app.task()  # type: ignore[untyped-decorator]  # it ships no types
def noop(number: int) -> int:
    mark(number)
    return number
