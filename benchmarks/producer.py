"""What sends: run as a process of its own by each measurement, prints what it measured as JSON::

python -m benchmarks.producer PEER ACTION '{"count": 1000}'
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engine import SerialCommits, average_row_bytes

_WARM_UP = 50
_CHUNK = 200
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


def beside_the_engine(peer: str, *, count: int, database: str) -> dict[str, Any]:
    """Calls after each other, in turns with bare commits of rows as large, on the same disk."""
    send = _sender(peer)
    for number in range(_WARM_UP):
        send(number)
    row_bytes = average_row_bytes(Path(database))
    sending = committing = 0.0
    with SerialCommits(Path(database).with_name("engine.db"), row_bytes) as engine:
        for _ in range(_WARM_UP):
            engine.commit()
        for _ in range(count // _CHUNK):
            began = time.perf_counter()
            for number in range(_CHUNK):
                send(number)
            between = time.perf_counter()
            for _ in range(_CHUNK):
                engine.commit()
            sending += between - began
            committing += time.perf_counter() - between
    done = count // _CHUNK * _CHUNK
    return {
        "per_second": done / sending,
        "engine_per_second": done / committing,
        "row_bytes": row_bytes,
    }


def from_threads(peer: str, *, count: int, threads: int) -> dict[str, Any]:
    """*count* calls shared by *threads* threads."""
    send = _sender(peer)
    send(0)
    start = threading.Barrier(threads + 1)

    def share() -> None:
        start.wait()
        for number in range(count // threads):
            send(number)

    crew = [threading.Thread(target=share) for _ in range(threads)]
    for member in crew:
        member.start()
    start.wait()
    began = time.perf_counter()
    for member in crew:
        member.join()
    return {"per_second": count // threads * threads / (time.perf_counter() - began)}


def from_coroutines(peer: str, *, count: int, coroutines: int) -> dict[str, Any]:
    """*count* awaited calls shared by *coroutines* coroutines of one loop."""
    task = _task(peer)

    async def share() -> None:
        for number in range(count // coroutines):
            await task.adelay(number)

    async def everything() -> float:
        await task.adelay(0)
        began = time.perf_counter()
        await asyncio.gather(*(share() for _ in range(coroutines)))
        return time.perf_counter() - began

    return {"per_second": count // coroutines * coroutines / asyncio.run(everything())}


def steadily(peer: str, *, count: int, per_second: int) -> dict[str, Any]:
    """*count* calls at an even pace; each carries the moment it was sent."""
    send = _sender(peer)
    next_at = time.monotonic()
    for _ in range(count):
        next_at += 1 / per_second
        time.sleep(max(0.0, next_at - time.monotonic()))
        send(time.monotonic_ns())
    return {}


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
    )
}  # fmt: skip


def main() -> None:
    peer, action, options = sys.argv[1:]
    print(json.dumps(ACTIONS[action](peer, **json.loads(options))))


if __name__ == "__main__":
    main()
