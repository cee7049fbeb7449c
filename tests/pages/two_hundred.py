"""What open pages cost the server that serves them: ``python -m tests.pages.two_hundred``.

The site of `tests.pages.shop` in a process of its own, a task for each page, and the pages in
another process: once each with a stream, once each asking every two seconds, as the widget does.
Prints the processor time that the server took, in percent of one core, from /proc. No test
asserts it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import tempfile
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import click

from acked.record import Progress
from tests.harness.places import BROKERS, Servers
from tests.pages.conftest import Shop

TICK = os.sysconf("SC_CLK_TCK")
LOOK = 2.0
"""Seconds between two questions of a page without a stream; the widget takes up to a quarter more
or less, so that pages do not ask all at once."""

SETTLE = 3.0
"""Seconds in which the pages are opened, before anything is measured."""


# -- the pages -------------------------------------------------------------------------------------


def request(port: int, what: str, token: str) -> bytes:
    body = json.dumps({"tokens": [token]})
    return (
        f"POST /tasks/{what} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nsec-fetch-site: same-origin\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


class Pages:
    """Open pages, and what they were told."""

    def __init__(self, port: int, tokens: list[str]) -> None:
        self.port = port
        self.tokens = tokens
        self.told = 0

    async def stream(self, token: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request(self.port, "events", token))
        status = await reader.readline()
        assert b" 200 " in status, status
        while line := await reader.readline():
            self.told += line.startswith(b"data: ")

    async def poll(self, token: str) -> None:
        await asyncio.sleep(random.random() * LOOK)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while True:
            writer.write(request(self.port, "states", token))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head.partition(b"\r\n")[0], head
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            await reader.readexactly(length)
            self.told += 1
            await asyncio.sleep(LOOK * (0.75 + random.random() / 2))

    async def open(self, kind: str, asked: Connection) -> None:
        """Until *asked* says so; each word it sends before is answered with how many times the
        pages were told something."""
        opened = [asyncio.create_task(getattr(self, kind)(token)) for token in self.tokens]
        while await asyncio.to_thread(asked.recv):
            ended = [task for task in opened if task.done()]
            assert not ended, f"{len(ended)} pages are closed: {ended[0]}"
            asked.send(self.told)
        for task in opened:
            task.cancel()


def open_pages(port: int, tokens: list[str], kind: str, asked: Connection) -> None:
    asyncio.run(Pages(port, tokens).open(kind, asked))


# -- the server ------------------------------------------------------------------------------------


def processor_seconds(pid: int) -> float:
    """What the process has used, all threads, in and out of the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Tasks:
    """Tasks that run, and say how far they are when told to."""

    def __init__(self, shop: Shop, number: int) -> None:
        self.shop = shop
        ids = [shop.stage.working() for _ in range(number)]
        self.tokens = [shop.pages.token_for(each, label="Importing customers") for each in ids]
        self.held = [shop.app.records.get(each) for each in ids]
        self.steps = 0

    def progress(self) -> None:
        self.steps += 1
        for each in self.held:
            assert self.shop.app.records.report(
                each.id, each.token,
                Progress(done=self.steps, total=1e6, message="Packing", at=self.shop.stage.now),
            )  # fmt: skip


def measure(shop: Shop, tasks: Tasks, kind: str, seconds: float, news: bool) -> tuple[float, int]:
    """The server's processor time, in percent of a core, and how often the pages were told
    something."""
    here, there = multiprocessing.Pipe()
    arguments = (shop.server.port, tasks.tokens, kind, there)
    pages = multiprocessing.get_context("spawn").Process(target=open_pages, args=arguments)
    pages.start()
    there.close()
    time.sleep(SETTLE)

    def told() -> int:
        here.send(True)
        number: int = here.recv()
        return number

    pid = shop.server.process.pid
    before, used, began = told(), processor_seconds(pid), time.monotonic()
    while (past := time.monotonic() - began) < seconds:
        if news:
            tasks.progress()
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began - past)))
    took = time.monotonic() - began
    percent = 100 * (processor_seconds(pid) - used) / took
    heard = told() - before
    here.send(False)
    pages.join(10)
    return percent, heard


@click.command()
@click.option("--pages", "number", default=200, show_default=True, help="Open pages.")
@click.option("--seconds", default=20.0, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Of which the median counts.")
@click.option("--broker", "kind", default="sqlite", show_default=True, type=click.Choice(BROKERS))
def main(number: int, seconds: float, rounds: int, kind: str) -> None:
    """What open progress pages cost their server."""
    servers = Servers()
    with ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        stack.callback(servers.stop)
        shop = Shop(Path(directory), stack, servers.place(kind, Path(directory)))
        stack.callback(shop.app.close)
        stack.callback(shop.server.stop)
        tasks = Tasks(shop, number)
        print(f"{number} pages on {kind}, {seconds:.0f} s each, the median of {rounds}")
        print(f"{'':<44} {'of a core':>9} {'told':>7}   each round")
        for way, what in (("stream", "with a stream"), ("poll", "asking every 2 s")):
            for news in (False, True):
                found = [measure(shop, tasks, way, seconds, news) for _ in range(rounds)]
                each = " ".join(f"{percent:.1f}" for percent, _ in found)
                name = f"{what}, {'progress every second' if news else 'nothing to tell'}"
                heard = median(told for _, told in found)
                cost = median(percent for percent, _ in found)
                print(f"{name:<44} {cost:>7.1f} % {heard:>7.0f}   {each}", flush=True)


if __name__ == "__main__":
    main()
