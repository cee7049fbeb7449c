"""acked as it comes, on whichever broker: late acknowledgement, durable, everything kept."""

from __future__ import annotations

import os
from collections.abc import Sequence

from acked import Acked
from benchmarks.marks import mark

app = Acked(
    "bench",
    broker=os.environ["BENCH_BROKER_URL"],
    results=os.environ.get("BENCH_RESULTS_URL"),
)


@app.task
def noop(number: int) -> int:
    mark(number)
    return number


send = noop.delay


def send_all(numbers: Sequence[int]) -> None:
    noop.delay_many([(number,) for number in numbers])
