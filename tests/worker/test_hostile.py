"""Bad input and a bad disk: nothing that lies in the queue, and no full volume, stops a worker."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import apsw
import pika
import psycopg
import pytest

from acked.delivery import FINAL, State
from acked.errors import BrokerError
from acked.message import Message
from tests.harness.privileges import need_root
from tests.harness.workers import until
from tests.servers.redis import RedisServer
from tests.worker.conftest import Shop, on_every_server
from tests.worker.forms import LONG, sizes
from tests.worker.test_measured_endings import resident

pytestmark = pytest.mark.chaos

GOOD = b'{"id":"%s","task":"tests.harness.shop.noop","args":[1],"sent":1.0}'


def nonsense(roll: random.Random, number: int) -> bytes:
    """A body that no producer would write, of one of the kinds a broker may be given."""
    name = f"bad-{number}".encode()
    good = GOOD % name
    kinds = [
        b"",
        good[: roll.randrange(1, len(good))],
        roll.randbytes(roll.randrange(1, 400)),
        bytes(b ^ (1 << roll.randrange(8)) if roll.random() < 0.1 else b for b in good),
        good.replace(b'"sent"', b'"v":99,"sent"'),
        good.replace(b"shop.noop", b"shop.no_such_task_here"),
        good.replace(b"[1]", b'[1,2,3,4,"too many"]'),
        good.replace(b"[1]", b"[NaN]"),
        good.replace(b"[1]", b'["\\ud800"]'),
        good.replace(b"[1]", b"[123456789012345678901234567890]").replace(b"noop", b"fussy"),
        good.replace(b'"task"', b'"task":"x","task"'),
        good.replace(b"[1]", b'[{"a":1,"a":2}]'),
        good.replace(b"[1]", b"[" * 100_000 + b"]" * 100_000),
        good.replace(b"[1]", b'{"not":"a list"}'),
        b'{"headers":{"\xff\xfe":1},' + good[1:],
        b"null",
        b"[]",
        good.replace(b"1.0", b'"yesterday"'),
    ]
    return kinds[number % len(kinds)]


def plant(shop: Shop, bodies: list[tuple[str, bytes]]) -> None:
    """Write rows into the database past the broker, as another program would."""
    connection = apsw.Connection(str(shop.database))
    connection.set_busy_timeout(10_000)
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO task (id, name, queue, priority, state, due, sent, body)"
        " VALUES (?, 'x', 'default', 0, 'QUEUED', 1.0, 1.0, ?)",
        bodies,
    )
    connection.execute("COMMIT")
    connection.close()


def test_messages_no_one_can_read_end_with_a_reason_and_stop_nobody(shop: Shop) -> None:
    """T38: fuzzed rows among good ones."""
    roll = random.Random(7)
    worker = shop.work()
    shop.tasks.noop.delay(0).get(timeout=10)
    processes = worker.processes
    before = max(resident(pid) for pid in processes)
    count = sizes(1_800, 20_000)
    bad = [(f"bad-{n}", nonsense(roll, n)) for n in range(count)]
    bad.append(("x" * (1 << 20), b"{}"))
    good = shop.tasks.noop.delay_many([(n,) for n in range(sizes(200, 1_000))])
    for at in range(0, len(bad), 500):
        plant(shop, bad[at : at + 500])
    shop.finish(*(r.id for r in good), within=60)

    def settled() -> bool:
        return all(c.queued == c.running == 0 for c in shop.app.records.counts())

    until(settled, within=120, what="all are settled")
    assert worker.processes == processes, "no process ended"
    assert max(resident(pid) for pid in processes) - before <= 32 * 1024
    for task_id, body in bad:
        judge_bad(shop, task_id, body)
    assert all(shop.record(r.id).state is State.SUCCESS for r in good)


def overwrite(shop: Shop, bodies: list[tuple[str, bytes]]) -> None:
    """Put other bodies into records, past the broker, as another program could."""
    place = shop.place
    if place.kind == "postgres":
        with psycopg.connect(place.url) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE acked.task SET body = %s WHERE id = %s",
                [(body, task.encode()) for task, body in bodies],
            )
    elif place.kind == "redis":
        base = shop.app.broker._client.base
        server = place.running
        assert isinstance(server, RedisServer)
        for task, body in bodies:
            server.ask("HSET", f"{base}body", server.ask("HGET", f"{base}id", task), body)
    else:
        connection = apsw.Connection(str(shop.database))
        connection.set_busy_timeout(10_000)
        connection.executemany(
            "UPDATE task SET body = ? WHERE id = ?", [(body, task) for task, body in bodies]
        )
        connection.close()


def publish_garbage(url: str, roll: random.Random, count: int) -> None:
    """Messages that no acked would publish, in a line of acked's."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for number in range(count):
            properties = [
                pika.BasicProperties(),
                pika.BasicProperties(message_id="nobody knows me"),
                pika.BasicProperties(headers={"id": "x" * 100_000, "priority": "very"}),
                pika.BasicProperties(message_id="\ud7ff" * 80, content_type="application/x-python"),
                pika.BasicProperties(headers={"id": {"a": [1, 2]}, "priority": 2**40}),
            ][number % 5]
            body = nonsense(roll, number)
            channel.basic_publish("", "acked.queue.default.0", body, properties)


@on_every_server
@pytest.mark.timeout(900 if LONG else 120)
def test_records_that_were_tampered_with_end_with_a_reason_and_stop_nobody(shop: Shop) -> None:
    """T38 on servers: bodies replaced in the server while the tasks wait."""
    roll = random.Random(7)
    broker = shop.app.broker
    worker = shop.work()
    good = shop.tasks.noop.delay_many([(n,) for n in range(sizes(50, 1_000))])
    shop.finish(*(r.id for r in good), within=60)
    processes = worker.processes
    before = max(resident(pid) for pid in processes)
    broker.pause("default")
    count = sizes(500, 20_000)
    bad = [(f"bad-{n}", nonsense(roll, n)) for n in range(count)]
    for at in range(0, count, 500):
        broker.send(
            [Message(id=task, task="tests.harness.shop.noop") for task, _ in bad[at : at + 500]]
        )
    overwrite(shop, bad)
    if shop.place.kind == "rabbitmq":
        publish_garbage(shop.place.url, roll, sizes(100, 2_000))
    more = shop.tasks.noop.delay_many([(n,) for n in range(sizes(50, 1_000))])
    broker.resume("default")
    shop.finish(*(r.id for r in more), within=60)

    def settled() -> bool:
        return all(c.queued == c.running == 0 for c in shop.app.records.counts())

    until(settled, within=120, what="all are settled")
    assert worker.processes == processes, "no process ended"
    assert max(resident(pid) for pid in processes) - before <= 32 * 1024
    for task_id, body in bad:
        judge_bad(shop, task_id, body)
    assert all(shop.record(r.id).state is State.SUCCESS for r in [*good, *more])


@on_every_server
def test_an_id_of_a_megabyte_is_refused_or_run_and_stops_nobody(shop: Shop) -> None:
    """T38: acked itself sends none longer than 200 characters; another program might."""
    long_id = "x" * 2**20
    worker = shop.work(processes=1)
    processes = worker.processes
    try:
        shop.app.broker.send([Message(id=long_id, task="tests.harness.shop.noop")])
    except BrokerError as refused:
        assert len(str(refused)) < 1_000
        assert shop.app.records.get(long_id) is None
    else:
        shop.finish(long_id)
    shop.finish(*(each.id for each in shop.tasks.noop.delay_many([(n,) for n in range(20)])))
    assert worker.processes == processes


def judge_bad(shop: Shop, task_id: str, body: bytes) -> None:
    """A message that is none has ended, for a reason that is told."""
    record = shop.record(task_id)
    if record.state is State.SCHEDULED:  # flipped bits may make another task's name
        assert "no worker knows this task" in record.reason
    elif record.state is not State.SUCCESS:  # and some leave a good message
        assert (record.state, bool(record.reason)) == (State.FAILURE, True), body[:200]


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A volume of 4 MiB."""
    need_root("mount a volume")
    place = tmp_path / "volume"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_refuses_clearly_and_loses_nothing(small_volume: Path, tmp_path: Path) -> None:
    """T18: 2,000 sends of 4 KiB onto 4 MiB; then there is room again, with no restart.

    A worker settles into the same file: while that cannot grow, neither can it settle, and it holds
    what it has until there is room.
    """
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack)
        shop.database = small_volume / "shop.db"
        shop.environment["SHOP_URL"] = f"sqlite:///{shop.database}"
        shop.open()
        stack.callback(lambda: shop.app.close())
        worker = shop.work()
        shop.tasks.keep.delay("first").get(timeout=10)
        ballast = small_volume / "ballast"
        ballast.write_bytes(b"x" * (1 << 20))
        stored, refused = [], []
        for _ in range(2_000):
            try:
                stored.append(shop.tasks.keep.delay("x" * 4096).id)
            except BrokerError as error:
                refused.append(str(error))
        assert stored and refused
        assert all(str(shop.database) in text for text in refused)
        ballast.unlink()
        freed = time.monotonic()
        assert shop.tasks.keep.delay("after").get(timeout=10) == 5
        assert time.monotonic() - freed <= 5.0, "and with no restart"
        for record in shop.finish(*stored, within=30):
            assert record.state is State.SUCCESS
        assert worker.process.poll() is None
        for task_id in stored:
            assert shop.record(task_id).state in FINAL
