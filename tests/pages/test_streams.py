"""Streams and the one loop behind them: cheap with many, patient with a broker that is away."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any

import httpx2
import pytest

from acked.errors import BrokerUnavailable
from acked.pages.stream import EventStream
from acked.pages.view import Known
from acked.pages.watching import Watcher
from acked.record import Record
from tests.harness.workers import until
from tests.pages.conftest import Server, Shop

PATIENCE = 10


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(test(*args, **options))

    return run


class Store:
    """Tasks that a watcher reads; counts how often, and fails while `away`."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.reads = 0
        self.asked: set[str] = set()
        self.away = False

    def put(self, task_id: str, reason: str = "") -> None:
        self.known[task_id] = Known(record=Record(id=task_id, body=b"", reason=reason))

    async def read_all(self, tasks: Mapping[str, Known | None]) -> dict[str, Known]:
        self.reads += 1
        self.asked |= set(tasks)
        if self.away:
            raise BrokerUnavailable("away")
        return {task_id: self.known[task_id] for task_id in tasks}


def loops() -> list[asyncio.Task[Any]]:
    """The loops of watchers that run."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "acked pages"]


@on_a_loop
async def test_one_loop_reads_for_all_watchers_and_ends_with_the_last() -> None:
    store = Store()
    store.put("a")
    watcher = Watcher(store.read_all, interval=0.01)
    async with asyncio.timeout(PATIENCE):
        async with watcher.watch(["a"]) as first, watcher.watch(["a"]) as second:
            while second.known("a") is None:
                await second.wait(1)
            assert first.known("a") is second.known("a") is store.known["a"]
            assert len(loops()) == 1
        await asyncio.gather(*loops(), return_exceptions=True)


@on_a_loop
async def test_one_answer_that_came_late_does_not_put_off_the_next_look() -> None:
    store = Store()
    store.put("a")

    async def late_once(tasks: Mapping[str, Known | None]) -> dict[str, Known]:
        if store.reads == 1:
            await asyncio.sleep(PATIENCE / 3)  # as a broker that hangs and goes on
        return await store.read_all(tasks)

    watcher = Watcher(late_once, interval=0.01)
    async with asyncio.timeout(PATIENCE), watcher.watch("a") as watch:
        while store.reads < 2:
            await watch.wait(0.01)
        store.put("a", "news")
        while watch.known("a") is not store.known["a"]:
            await watch.wait(0.01)


@on_a_loop
async def test_where_reading_takes_long_it_looks_less_often() -> None:
    store = Store()
    store.put("a")

    async def slow(tasks: Mapping[str, Known | None]) -> dict[str, Known]:
        await asyncio.sleep(0.1)  # what reading takes
        return await store.read_all(tasks)

    watcher = Watcher(slow, interval=0.01)
    async with asyncio.timeout(PATIENCE), watcher.watch("a"):
        await asyncio.sleep(2.0)  # twenty readings, were there no pause between them
        assert 1 <= store.reads <= 8


@on_a_loop
async def test_a_change_wakes_those_whom_it_concerns() -> None:
    store = Store()
    store.put("a")
    store.put("b")
    watcher = Watcher(store.read_all, interval=0.01)
    async with asyncio.timeout(PATIENCE), watcher.watch("a") as one, watcher.watch("b") as other:
        while one.known("a") is None or other.known("b") is None:
            await one.wait(0.01)
        one.changed.clear()
        other.changed.clear()
        store.put("a", "news")
        await one.wait(PATIENCE)
        assert one.known("a") is store.known["a"]
        assert not other.changed.is_set()


@on_a_loop
async def test_what_was_last_known_is_kept_while_the_broker_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("acked.pages.watching.AWAY_FIRST", 0.01)
    store = Store()
    store.put("a")
    watcher = Watcher(store.read_all, interval=0.01)
    async with asyncio.timeout(PATIENCE), watcher.watch("a") as watch:
        while watch.known("a") is None:
            await watch.wait(1)
        before, store.away, reads = store.known["a"], True, store.reads
        while store.reads < reads + 2:
            await watch.wait(0.01)
        assert watch.known("a") is before
        store.put("a", "back")
        store.away = False
        while watch.known("a") is not store.known["a"]:
            await watch.wait(1)


@on_a_loop
async def test_a_broker_that_does_not_answer_is_told_to_all_and_its_return_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("acked.pages.watching.AWAY_TOLD", 0.05)
    store = Store()
    store.put("a")
    answers = asyncio.Event()

    async def hangs(tasks: Mapping[str, Known | None]) -> dict[str, Known]:
        await answers.wait()
        return await store.read_all(tasks)

    watcher = Watcher(hangs, interval=0.01)
    async with asyncio.timeout(PATIENCE), watcher.watch("a") as first:
        while not first.away:
            await first.wait(1)
        async with watcher.watch("a") as second:
            assert second.away
            answers.set()
            while second.away:
                await second.wait(1)
            assert (first.away, second.known("a")) == (False, store.known["a"])


class Reader:
    """The other end of a stream: takes `takes` messages, then none until it is let go."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.got: list[dict[str, Any]] = []
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if len(self.got) >= self.takes:
            await asyncio.Event().wait()
        self.got.append(message)


class Endless:
    """Events without end, which remember that they were closed."""

    def __init__(self) -> None:
        self.closed = False

    async def events(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"data: x\n\n"
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def served(reader: Reader, source: Endless, *, lifetime: float, stalled: float) -> None:
    async with asyncio.timeout(PATIENCE):
        stream = EventStream(source.events(), lifetime=lifetime, stalled=stalled)
        await stream({}, reader.receive, reader.send)


@on_a_loop
async def test_a_reader_that_takes_nothing_any_more_is_dropped() -> None:
    reader, source = Reader(takes=3), Endless()
    await served(reader, source, lifetime=60, stalled=0.05)
    assert (len(reader.got), source.closed) == (3, True)


@on_a_loop
async def test_a_reader_that_leaves_ends_its_stream() -> None:
    reader, source = Reader(takes=10**9), Endless()
    asyncio.get_running_loop().call_later(0.05, reader.left.set)
    await served(reader, source, lifetime=60, stalled=60)
    assert source.closed


@on_a_loop
async def test_a_stream_has_an_end_even_with_news_at_every_moment() -> None:
    reader, source = Reader(takes=10**9), Endless()
    await served(reader, source, lifetime=0.05, stalled=60)
    assert source.closed
    assert reader.got[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_a_server_that_is_told_to_stop_does_not_wait_for_its_streams(shop: Shop) -> None:
    server = Server(shop.directory, shop.environment)
    token = shop.pages.token_for(shop.stage.working())
    headers = {"sec-fetch-site": "same-origin"}
    try:
        with httpx2.stream(
            "POST", f"{server.url}/tasks/events", json={"tokens": [token]}, headers=headers
        ) as answer:
            assert next(answer.iter_raw())
            server.process.send_signal(signal.SIGTERM)
            until(lambda: server.process.poll() is not None, what="the server's end")
    finally:
        server.stop()
