"""acked as it comes, on SQLite: late acknowledgement, synchronous=FULL, everything kept."""

from __future__ import annotations

import os

from acked import Acked
from benchmarks.marks import mark

app = Acked("bench", broker=f"sqlite:///{os.environ['BENCH_SQLITE']}")


@app.task
def noop(number: int) -> int:
    mark(number)
    return number
