"""What sends: run as a process of its own by each measurement, prints what it measured as JSON::

python -m benchmarks.producer PEER ACTION '{"count": 1000}'
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.engine import SerialCommits, average_row_bytes

_WARM_UP = 50
_COMMITS = 200
_WARM_UP_COMMITS = 1_600
_SHARED_TURNS = 8
_BULK = 50_000


def _task(peer: str) -> Any:
    return importlib.import_module(f"benchmarks.apps.{peer}_app").noop


def _sender(peer: str) -> Callable[[int], object]:
    """Each peer's ordinary call."""
    task = _task(peer)
    sender: Callable[[int], object] = task if peer == "huey" else task.delay
    return sender


def fill(peer: str, *, count: int) -> dict[str, Any]:
    """Put *count* tasks in the queue, the quickest way the peer has."""
    began = time.perf_counter()
    if peer == "acked":
        _task(peer).delay_many([(number,) for number in range(count)])
    else:
        send = _sender(peer)
        for number in range(count):
            send(number)
    return {"per_second": count / (time.perf_counter() - began)}


def one_by_one(peer: str, *, count: int) -> dict[str, Any]:
    """*count* calls after each other."""
    send = _sender(peer)
    for number in range(_WARM_UP):
        send(number)
    began = time.perf_counter()
    for number in range(count):
        send(number)
    return {"per_second": count / (time.perf_counter() - began)}


def beside_the_engine(peer: str, *, count: int) -> dict[str, Any]:
    """Calls after each other."""
    send = _sender(peer)

    def one_turn(calls: int) -> None:
        for number in range(calls):
            send(number)

    return _in_turns(one_turn, count=count, turns=max(1, count // _COMMITS))


def from_threads(peer: str, *, count: int, threads: int) -> dict[str, Any]:
    """*count* calls shared by *threads* threads."""
    send = _sender(peer)

    def share(calls: int) -> None:
        for number in range(calls):
            send(number)

    with ThreadPoolExecutor(threads) as crew:
        return _in_turns(
            lambda calls: list(crew.map(share, [calls // threads] * threads)),
            count=count, turns=_SHARED_TURNS,
        )  # fmt: skip


def from_coroutines(peer: str, *, count: int, coroutines: int) -> dict[str, Any]:
    """*count* awaited calls shared by *coroutines* coroutines of one loop."""
    task = _task(peer)

    async def share(calls: int) -> None:
        for number in range(calls):
            await task.adelay(number)

    async def one_turn(calls: int) -> None:
        await asyncio.gather(*(share(calls // coroutines) for _ in range(coroutines)))

    with asyncio.Runner() as runner:
        return _in_turns(
            lambda calls: runner.run(one_turn(calls)), count=count, turns=_SHARED_TURNS
        )


def _in_turns(send: Callable[[int], object], *, count: int, turns: int) -> dict[str, Any]:
    """*send* in turns with bare commits of rows as large as acked's, on the same disk.

    Args:
        send: Sends as many tasks as it is told.
    """
    per_turn = count // turns
    # Until both have begun their log anew: writing it over is quicker than letting it grow.
    send(max(per_turn, _WARM_UP_COMMITS))
    database = Path(os.environ["BENCH_SQLITE"])
    row_bytes = average_row_bytes(database)
    sending = committing = 0.0
    with SerialCommits(database.with_name("engine.db"), row_bytes) as engine:
        for _ in range(_WARM_UP_COMMITS):
            engine.commit()
        for _ in range(turns):
            began = time.perf_counter()
            send(per_turn)
            between = time.perf_counter()
            for _ in range(_COMMITS):
                engine.commit()
            sending += between - began
            committing += time.perf_counter() - between
    return {
        "per_second": per_turn * turns / sending,
        "engine_per_second": _COMMITS * turns / committing,
        "row_bytes": row_bytes,
    }


def steadily(peer: str, *, count: int, per_second: int) -> dict[str, Any]:
    """*count* calls at an even pace; each carries the moment it was sent."""
    send = _sender(peer)
    next_at = time.monotonic()
    for _ in range(count):
        next_at += 1 / per_second
        time.sleep(max(0.0, next_at - time.monotonic()))
        send(time.monotonic_ns())
    return {}


def succeeded(peer: str) -> dict[str, Any]:
    """How many tasks acked's records call a success; the others' are not looked at."""
    counts = _task(peer).app.records.counts()
    return {"count": sum(queue.success for queue in counts)}


def schedule(peer: str, *, count: int) -> dict[str, Any]:
    """*count* tasks due tomorrow, in bulk calls."""
    task = _task(peer)
    began = time.perf_counter()
    for first in range(0, count, _BULK):
        numbers = range(first, min(first + _BULK, count))
        task.delay_many([(number,) for number in numbers], countdown=86_400)
    return {"per_second": count / (time.perf_counter() - began)}


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    action.__name__: action
    for action in (
        fill, one_by_one, beside_the_engine, from_threads, from_coroutines, steadily, schedule,
        succeeded,
    )
}  # fmt: skip


def main() -> None:
    peer, action, options = sys.argv[1:]
    print(json.dumps(ACTIONS[action](peer, **json.loads(options))))


if __name__ == "__main__":
    main()
