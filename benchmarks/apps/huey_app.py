"""huey as it comes, on SQLite or Redis: results kept until they are read."""

from __future__ import annotations

import os

from huey import RedisHuey, SqliteHuey

from benchmarks.marks import mark

_URL = os.environ["BENCH_BROKER_URL"]

if _URL.startswith("sqlite:"):
    app = SqliteHuey(filename=_URL.removeprefix("sqlite:///"))
else:
    app = RedisHuey(url=_URL)


@app.task()  # type: ignore[untyped-decorator]  # it ships no types
def noop(number: int) -> int:
    mark(number)
    return number


send = noop
