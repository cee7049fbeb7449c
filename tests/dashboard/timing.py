"""How long the pages take on a million records: ``python -m tests.dashboard.timing``.

``--records`` and ``--broker`` (repeatable: sqlite, redis, postgres, rabbitmq) choose others. Prints
p50 and p95 of each page in milliseconds. Measured in the process, without a network between it and
a browser; no test asserts it.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import click
from msgspec import Raw
from starlette.testclient import TestClient

from acked import Acked
from acked.dashboard import Dashboard
from acked.delivery import Failure, Settlement
from acked.message import Message, new_ids
from tests.dashboard.staging import Past, count
from tests.harness.places import BROKERS, Servers

ROUNDS = 30
SHARES = {"failure": 0.01, "queued": 0.02, "scheduled": 0.01}


def fill(app: Acked, records: int) -> list[str]:
    """So many records, most of them done, and a day of counters; ids of a few."""
    dice, store, now = random.Random(7), app.broker, time.time()
    some: list[str] = []
    waiting = int(records * SHARES["queued"])
    step = max(records // 100, 1)
    for start in range(0, records, step):
        size = min(step, records - start)
        last = start + size > records - waiting
        messages = [
            Message(
                id=task_id, task=f"shop.task{number % 20}", queue=f"queue{number % 4}",
                args=Raw(b'[%d,{"url":"https://shop.example/orders/%d"}]' % (number, number)),
                kwargs=Raw(b'{"password":"x","note":"%s"}' % (b"n" * 80)),
                sent=now - records + number,
                eta=now + 86_400 if number % 100 == 0 else None,
            )
            for number, task_id in enumerate(new_ids(size), start)
        ]  # fmt: skip
        store.send(messages)
        some.append(messages[1].id)
        while not last:
            queues = [f"queue{number}" for number in range(4)]
            held = store.claim("box.1.a/0", queues, 2_000).deliveries
            if not held:
                break
            settled = []
            for each in held:
                began = now - 100
                if dice.random() < SHARES["failure"]:
                    failure = Failure(
                        f"Error{dice.randrange(8)}",
                        f"order {each.tag} failed after 3 s",
                        "T" * 2_000,
                    )
                    settled.append(Settlement.fail(each, at=now, started=began, failure=failure))
                else:
                    settled.append(Settlement.succeed(each, at=now, started=began, result=b"1"))
            store.settle(settled)
        print(f"\r{start + size} records", end="", file=sys.stderr)
    count(app, dice, 1440)
    return some


def measure(client: Any, path: str) -> tuple[float, float, float]:
    """The first time, the median and the 95th percentile, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        assert client.get(path).status_code == 200, path
        times.append((time.perf_counter() - began) * 1000)
    cuts = quantiles(times, n=20)
    return times[0], cuts[9], cuts[18]


def paths(client: TestClient, some: list[str], records: int) -> list[str]:
    """Every page, and the searches that find nothing, late, or a lot."""
    failed = client.get("/tasks?state=FAILURE").text.partition('name="selected" value="')[2][:44]
    return [
        "/", "/?span=day", "/tasks", f"/tasks?before={records // 2}", "/tasks?state=FAILURE",
        "/tasks?state=QUEUED", "/tasks?task=shop.task3", "/tasks?task=nothing",
        f"/tasks?id={some[-1][-12:]}", "/tasks?text=orders/999999", "/tasks?text=nothing-has-this",
        "/tasks?error=Error3", "/tasks?worker=box.1.a&state=SUCCESS", "/tasks?since=2h",
        f"/tasks?id={some[0]}", f"/tasks?until={records - 200}s", "/tasks?until=2h",
        f"/task?id={some[0]}", f"/task?id={failed}", "/failures", "/dead", "/waiting",
        f"/failures?before={records // 2}", f"/dead?before={records // 2}",
        f"/waiting?due={time.time() + 86_000}&tag=0",
        "/queues", "/workers", "/registered", "/audit", "/run",
        "/confirm/retry?matching=1&state=FAILURE", f"/confirm/retry?selected={failed}",
    ]  # fmt: skip


@contextmanager
def servers_of_a_run() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.stop()


@click.command()
@click.option("--records", default=1_000_000, show_default=True)
@click.option("--broker", "kinds", multiple=True, default=("sqlite",), type=click.Choice(BROKERS))
def main(records: int, kinds: tuple[str, ...]) -> None:
    """How long the pages of the dashboard take."""
    with tempfile.TemporaryDirectory(dir=".") as directory, servers_of_a_run() as servers:
        for kind in kinds:
            place = servers.place(kind, Path(directory).absolute())
            # Where the server's clock rules, everything was claimed just now.
            clock = Past() if kind == "sqlite" else None
            app = Acked("shop", broker=place.url, results=place.results, clock=clock)
            began = time.monotonic()
            some = fill(app, records)
            print(f"\n{kind}: {records} records, made in {time.monotonic() - began:.0f} s")
            client = TestClient(
                Dashboard(app, open_to_this_host=True), base_url="http://127.0.0.1",
                client=("127.0.0.1", 1),
            )  # fmt: skip
            print(f"{'page':<48} {'first':>8} {'p50':>8} {'p95':>8}  ms")
            for path in paths(client, some, records):
                first, middle, high = measure(client, path)
                print(f"{path[:48]:<48} {first:8.1f} {middle:8.1f} {high:8.1f}", flush=True)
            app.close()


if __name__ == "__main__":
    main()
