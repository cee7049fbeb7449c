"""What sends: run as a process of its own by each measurement, prints what it measured as JSON::

python -m benchmarks.producer APP ACTION '{"count": 1000}'
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, Protocol

from benchmarks.engines import engine, row_bytes

_WARM_UP = 50
_WRITES = 200
_WARM_UP_WRITES = 1_600
_SHARED_TURNS = 8
_BULK = 50_000


class Sender:
    """The ordinary calls of one queue, without a word of difference between those that block and
    those that are awaited: the latter share one event loop."""

    def __init__(self, name: str) -> None:
        self.app: ModuleType = importlib.import_module(f"benchmarks.apps.{name}_app")
        self._runner = asyncio.Runner()
        self._awaited = inspect.iscoroutinefunction(self.app.send)
        if hasattr(self.app, "connect"):
            self._runner.run(self.app.connect())
        if hasattr(self.app, "close"):
            atexit.register(lambda: self._runner.run(self.app.close()))

    def each(self, numbers: Iterable[int]) -> None:
        """One call for each, after each other."""
        send = self.app.send
        if not self._awaited:
            for number in numbers:
                send(number)
            return

        async def await_each() -> None:
            for number in numbers:
                await send(number)

        self._runner.run(await_each())

    def all(self, numbers: Sequence[int]) -> None:
        """One call for many, as often as it takes; each alone where there is none."""
        if not hasattr(self.app, "send_all"):
            self.each(numbers)
            return
        for first in range(0, len(numbers), _BULK):
            done = self.app.send_all(numbers[first : first + _BULK])
            if self._awaited:
                self._runner.run(done)


class Writes(Protocol):
    """What an engine alone does for one task."""

    def write(self) -> None: ...


def prepare(app: str) -> dict[str, Any]:
    """Make the queue's tables."""
    module = importlib.import_module(f"benchmarks.apps.{app}_app")
    asyncio.run(module.prepare())
    return {}


def fill(app: str, *, count: int) -> dict[str, Any]:
    """Put *count* tasks in the queue, the quickest way it has."""
    sender = Sender(app)
    began = time.perf_counter()
    sender.all(range(count))
    return {"per_second": count / (time.perf_counter() - began)}


def one_by_one(app: str, *, count: int) -> dict[str, Any]:
    """*count* calls after each other."""
    sender = Sender(app)
    sender.each(range(_WARM_UP))
    began = time.perf_counter()
    sender.each(range(count))
    return {"per_second": count / (time.perf_counter() - began)}


def beside_the_engine(app: str, *, count: int, beside: str) -> dict[str, Any]:
    """Calls of acked after each other."""
    sender = Sender(app)
    return _in_turns(
        lambda calls: sender.each(range(calls)), count=count, turns=max(1, count // _WRITES),
        beside=beside,
    )  # fmt: skip


def from_threads(app: str, *, count: int, threads: int, beside: str) -> dict[str, Any]:
    """*count* calls of acked shared by *threads* threads."""
    sender = Sender(app)
    with ThreadPoolExecutor(threads) as crew:
        return _in_turns(
            lambda calls: list(crew.map(sender.each, [range(calls // threads)] * threads)),
            count=count, turns=_SHARED_TURNS, beside=beside,
        )  # fmt: skip


def from_coroutines(app: str, *, count: int, coroutines: int, beside: str) -> dict[str, Any]:
    """*count* awaited calls of acked shared by *coroutines* coroutines of one loop."""
    task = Sender(app).app.noop

    async def share(calls: int) -> None:
        for number in range(calls):
            await task.adelay(number)

    async def one_turn(calls: int) -> None:
        await asyncio.gather(*(share(calls // coroutines) for _ in range(coroutines)))

    with asyncio.Runner() as runner:
        return _in_turns(
            lambda calls: runner.run(one_turn(calls)), count=count, turns=_SHARED_TURNS,
            beside=beside,
        )  # fmt: skip


def _in_turns(
    send: Callable[[int], object], *, count: int, turns: int, beside: str
) -> dict[str, Any]:
    """*send* in turns with bare writes of rows as large as acked's, on the same disk.

    Args:
        send: Sends as many tasks as it is told.
        beside: The engine.
    """
    per_turn = count // turns
    # Until both have begun their log anew: writing it over is quicker than letting it grow.
    send(max(per_turn, min(_WARM_UP_WRITES, count)))
    size = row_bytes(beside, os.environ["BENCH_BROKER_URL"])
    sending = writing = 0.0
    writes: AbstractContextManager[Writes] = engine(beside).SerialWrites(size)
    with writes as by_itself:
        for _ in range(min(_WARM_UP_WRITES, count)):
            by_itself.write()
        for _ in range(turns):
            began = time.perf_counter()
            send(per_turn)
            between = time.perf_counter()
            for _ in range(_WRITES):
                by_itself.write()
            sending += between - began
            writing += time.perf_counter() - between
    return {
        "per_second": per_turn * turns / sending,
        "engine_per_second": _WRITES * turns / writing,
        "row_bytes": size,
    }


def steadily(app: str, *, count: int, per_second: int) -> dict[str, Any]:
    """*count* calls at an even pace; each carries the moment it was sent."""

    def moments() -> Iterator[int]:
        next_at = time.monotonic()
        for _ in range(count):
            next_at += 1 / per_second
            time.sleep(max(0.0, next_at - time.monotonic()))
            yield time.monotonic_ns()

    Sender(app).each(moments())
    return {}


def succeeded(app: str) -> dict[str, Any]:
    """How many tasks acked's records call a success; the others' are not looked at."""
    counts = Sender(app).app.app.records.counts()
    return {"count": sum(queue.success for queue in counts)}


def schedule(app: str, *, count: int) -> dict[str, Any]:
    """*count* tasks of acked due tomorrow, in bulk calls."""
    task = Sender(app).app.noop
    began = time.perf_counter()
    for first in range(0, count, _BULK):
        numbers = range(first, min(first + _BULK, count))
        task.delay_many([(number,) for number in numbers], countdown=86_400)
    return {"per_second": count / (time.perf_counter() - began)}


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    action.__name__: action
    for action in (
        prepare, fill, one_by_one, beside_the_engine, from_threads, from_coroutines, steadily,
        schedule, succeeded,
    )
}  # fmt: skip


def main() -> None:
    app, action, options = sys.argv[1:]
    print(json.dumps(ACTIONS[action](app, **json.loads(options))))


if __name__ == "__main__":
    main()
