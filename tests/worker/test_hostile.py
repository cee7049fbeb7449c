"""Bad input and a bad disk: nothing that lies in the queue, and no full volume, stops a worker."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import apsw
import pika
import psycopg
import pytest

from acked.delivery import FINAL, State
from acked.errors import BrokerError
from acked.message import Message
from tests.harness.privileges import need_root
from tests.harness.workers import Worker, until
from tests.servers.redis import RedisServer
from tests.worker.conftest import Shop, on, on_every_server
from tests.worker.forms import LONG, sizes
from tests.worker.test_measured_endings import resident

pytestmark = pytest.mark.chaos

GOOD = b'{"id":"%s","task":"tests.harness.shop.noop","args":[1],"sent":1.0}'
NOOP = "tests.harness.shop.noop"

READ = "MessageUnreadable"
WAITS = "no worker knows this task"
AS_IT_SAYS = "as it says"
"""What becomes of a message: the type of its failure, or it waits, or it is to be read again, by
`ending_of`."""


class Kind(NamedTuple):
    """One kind of body that no producer would write.

    Args:
        make: It, from a body that is good.
        ending: What becomes of its task.
    """

    make: Callable[[random.Random, bytes], bytes]
    ending: str = READ


def replacing(old: bytes, new: bytes, ending: str = READ) -> Kind:
    return Kind(lambda _, good: good.replace(old, new), ending)


KINDS = [
    Kind(lambda roll, good: b""),
    Kind(lambda roll, good: good[: roll.randrange(1, len(good))]),
    Kind(lambda roll, good: roll.randbytes(roll.randrange(1, 400))),
    Kind(lambda roll, good: flipped(roll, good), AS_IT_SAYS),
    replacing(b'"sent"', b'"v":99,"sent"'),
    replacing(b"shop.noop", b"shop.no_such_task_here", WAITS),
    replacing(b"[1]", b'[1,2,3,4,"too many"]', "TypeError"),
    replacing(b"[1]", b"[NaN]"),
    replacing(b"[1]", b'["\\ud800"]'),
    Kind(lambda roll, good: good.replace(b"[1]", b"[%d]" % 2**97).replace(b"noop", b"fussy"),
         "msgspec.ValidationError"),
    replacing(b'"task"', b'"task":"x","task"'),
    replacing(b"[1]", b'[{"a":1,"a":2}]'),
    replacing(b"[1]", b"[" * 100_000 + b"]" * 100_000),
    replacing(b"[1]", b'{"not":"a list"}'),
    Kind(lambda roll, good: b'{"headers":{"\xff\xfe":1},' + good[1:]),
    Kind(lambda roll, good: b"null"),
    Kind(lambda roll, good: b"[]"),
    replacing(b"1.0", b'"yesterday"'),
    replacing(b'"sent"', b'"priority":%d,"sent"' % 2**70),
    replacing(b"1.0", b"1e300"),
    replacing(b'"args"', b'"queue":"","args"'),
]  # fmt: skip
"""Of the kinds a broker may be given."""


def flipped(roll: random.Random, content: bytes) -> bytes:
    """*content*, one bit of every tenth byte or so the other way."""
    return bytes(b ^ (1 << roll.randrange(8)) if roll.random() < 0.1 else b for b in content)


class Bad(NamedTuple):
    """A body that no producer would write, of the task *id*."""

    id: str
    body: bytes
    ending: str


def nonsense(roll: random.Random, count: int) -> list[Bad]:
    """*count* of them, of each kind in turn."""
    return [
        Bad(f"bad-{number}", kind.make(roll, GOOD % f"bad-{number}".encode()), kind.ending)
        for number, kind in zip(range(count), itertools.cycle(KINDS), strict=False)
    ]


def plant(shop: Shop, bad: list[Bad]) -> None:
    """Write rows into the database past the broker, as another program would."""
    connection = apsw.Connection(str(shop.database))
    connection.set_busy_timeout(10_000)
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO task (id, name, queue, priority, state, due, sent, body)"
        " VALUES (?, 'x', 'default', 0, 'QUEUED', 1.0, 1.0, ?)",
        [(each.id, each.body) for each in bad],
    )
    connection.execute("COMMIT")
    connection.close()


def test_messages_no_one_can_read_end_with_a_reason_and_stop_nobody(shop: Shop) -> None:
    """T38: fuzzed rows among good ones."""
    worker = shop.work()
    shop.tasks.noop.delay(0).get(timeout=10)
    with nobody_suffers(worker):
        bad = [*nonsense(random.Random(7), sizes(1_800, 20_000)), Bad("x" * 2**20, b"{}", READ)]
        good = shop.tasks.noop.delay_many([(n,) for n in range(sizes(200, 1_000))])
        for at in range(0, len(bad), 500):
            plant(shop, bad[at : at + 500])
        shop.finish(*(r.id for r in good), within=60)
        until(lambda: shop.waiting() == running(shop) == 0, within=120, what="all are settled")
    for each in bad:
        judge_bad(shop, each)
    assert all(shop.record(r.id).state is State.SUCCESS for r in good)


@contextmanager
def nobody_suffers(worker: Worker) -> Iterator[None]:
    """Of *worker*, nothing ends meanwhile and nothing grows: neither its task processes, nor what
    started them, nor the supervisor, which settles for those that die."""
    processes, everybody = worker.processes, [worker.pid, worker.template, *worker.processes]
    before = {pid: resident(pid) for pid in everybody if pid is not None}
    yield
    assert worker.process.poll() is None
    assert worker.processes == processes, "no process ended"
    grown = {pid: resident(pid) - kib for pid, kib in before.items()}
    assert max(grown.values()) <= 32 * 1024, f"{grown} KiB; the supervisor is {worker.pid}"


def running(shop: Shop) -> int:
    return sum(counts.running for counts in shop.app.records.counts())


def overwrite(shop: Shop, bad: list[Bad]) -> None:
    """Put other bodies into records, past the broker, as another program could."""
    place = shop.place
    if place.kind == "postgres":
        with psycopg.connect(place.url) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE acked.task SET body = %s WHERE id = %s",
                [(each.body, each.id.encode()) for each in bad],
            )
    elif place.kind == "redis":
        base, server = shop.app.broker._client.base, redis_of(shop)
        for each in bad:
            server.ask("HSET", f"{base}body", server.ask("HGET", f"{base}id", each.id), each.body)
    else:
        connection = apsw.Connection(str(shop.database))
        connection.set_busy_timeout(10_000)
        connection.executemany(
            "UPDATE task SET body = ? WHERE id = ?", [(each.body, each.id) for each in bad]
        )
        connection.close()


def redis_of(shop: Shop) -> RedisServer:
    server = shop.place.running
    assert isinstance(server, RedisServer)
    return server


def publish_garbage(url: str, roll: random.Random, count: int) -> None:
    """Messages that no acked would publish, in a line of acked's."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for number, bad in enumerate(nonsense(roll, count)):
            properties = [
                pika.BasicProperties(),
                pika.BasicProperties(message_id="nobody knows me"),
                pika.BasicProperties(headers={"id": "x" * 100_000, "priority": "very"}),
                pika.BasicProperties(message_id="\ud7ff" * 80, content_type="application/x-python"),
                pika.BasicProperties(headers={"id": {"a": [1, 2]}, "priority": 2**40}),
            ][number % 5]
            channel.basic_publish("", "acked.queue.default.0", bad.body, properties)


def dead_letters(url: str) -> int:
    """How many messages RabbitMQ has put where those go that belong to no task."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        about = connection.channel().queue_declare("acked.dead", passive=True)
        return int(about.method.message_count)


@on_every_server
@pytest.mark.timeout(900 if LONG else 120)
def test_records_that_were_tampered_with_end_with_a_reason_and_stop_nobody(shop: Shop) -> None:
    """T38 on servers: bodies replaced in the server while the tasks wait. RabbitMQ has no bodies to
    replace, as they are in the ledger; it is given messages that belong to nothing there."""
    roll = random.Random(7)
    broker = shop.app.broker
    worker = shop.work()
    good = shop.tasks.noop.delay_many([(n,) for n in range(sizes(50, 1_000))])
    shop.finish(*(r.id for r in good), within=60)
    with nobody_suffers(worker):
        broker.pause("default")
        bad = nonsense(roll, sizes(500, 20_000))
        for at in range(0, len(bad), 500):
            broker.send([Message(id=each.id, task=NOOP) for each in bad[at : at + 500]])
        overwrite(shop, bad)
        garbage = sizes(100, 20_000) if shop.place.kind == "rabbitmq" else 0
        if garbage:
            publish_garbage(shop.place.url, roll, garbage)
        more = shop.tasks.noop.delay_many([(n,) for n in range(sizes(50, 1_000))])
        broker.resume("default")
        shop.finish(*(r.id for r in more), within=60 + garbage / 100)
        until(lambda: shop.waiting() == running(shop) == 0, within=120, what="all are settled")
        if garbage:
            until(lambda: dead_letters(shop.place.url) >= garbage, within=120,
                  what=f"{garbage} dead letters")  # fmt: skip
            assert dead_letters(shop.place.url) == garbage
    for each in bad:
        judge_bad(shop, each)
    assert all(shop.record(r.id).state is State.SUCCESS for r in [*good, *more])


Spoil: TypeAlias = Callable[[random.Random, bytes], bytes]

NO_RECORDS: list[Spoil] = [
    lambda roll, good: b"",
    lambda roll, good: good[: roll.randrange(len(good))],
    lambda roll, good: b"\xc0",  # nil
    lambda roll, good: b"\x07",  # a number
    lambda roll, good: b"\xa3abc",  # text
    lambda roll, good: b"\x80",  # a map
    lambda roll, good: b"\xdc\x00\x17" + b"\xc0" * 23,  # as many values as one, and all of them nil
    lambda roll, good: good + good,
]
"""What the bytes of a task's record may have become in Redis, so that they are none."""


@on("redis")
@pytest.mark.timeout(600 if LONG else 120)
def test_a_task_whose_record_redis_cannot_read_runs_from_its_message(shop: Shop) -> None:
    """T38: as do the innocents beside it, which are claimed with it."""
    roll = random.Random(7)
    broker, base, server = shop.app.broker, shop.app.broker._client.base, redis_of(shop)
    worker = shop.work()
    shop.tasks.noop.delay(0).get(timeout=10)
    bad = [f"bad-{number}" for number in range(sizes(240, 10_000))]
    good = [f"good-{number}" for number in range(len(bad))]
    with nobody_suffers(worker):
        broker.pause("default")
        for at in range(0, len(bad), 250):
            both = zip(good[at : at + 250], bad[at : at + 250], strict=True)
            broker.send([Message(id=task, task=NOOP) for task in itertools.chain(*both)])
        for task, spoil in zip(bad, itertools.cycle(NO_RECORDS), strict=False):
            tag = server.ask("HGET", f"{base}id", task)
            record = server.ask("HGET", f"{base}state", tag)
            server.ask("HSET", f"{base}state", tag, spoil(roll, record))
        broker.resume("default")
        for record in shop.finish(*good, within=sizes(10, 60)):
            assert record.state is State.SUCCESS
    until(lambda: shop.waiting() == running(shop) == 0, what="all are settled")
    for task in bad:
        assert (shop.record(task).state, shop.record(task).result) == (State.SUCCESS, b"0")


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


def judge_bad(shop: Shop, bad: Bad) -> None:
    """The task has ended as it has to, for a reason that is told."""
    record, ending = shop.record(bad.id), bad.ending
    if ending is AS_IT_SAYS:
        ending = ending_of(bad.body)
    if ending is WAITS:
        assert (record.state, ending in record.reason) == (State.SCHEDULED, True), bad
    elif ending.isdigit():
        assert (record.state, record.result) == (State.SUCCESS, ending.encode()), bad
    else:
        assert (record.state, bool(record.reason)) == (State.FAILURE, True), bad
        assert record.failure is not None and record.failure.type == ending, bad


def ending_of(body: bytes) -> str:
    """How the task ends whose message lost some bits: by the book, as Python's own JSON has it.

    Only a message that is one still succeeds, and then with the result that its bytes ask for:
    nobody can tell that it once said something else.
    """
    try:
        said = json.loads(body.decode(), object_pairs_hook=each_once)
        message_id, task, args, sent = (
            said["id"], said["task"], said.get("args", []), said.get("sent", 0.0),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return READ
    if not (isinstance(message_id, str) and isinstance(task, str) and isinstance(args, list)):
        return READ
    if not isinstance(sent, float | int):
        return READ
    return WAITS if task != NOOP else str(*(args or [0]))


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key appears twice")
    return dict(pairs)


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


def test_a_database_whose_directory_is_away_for_a_moment_ends_no_worker(tmp_path: Path) -> None:
    """What runs meanwhile goes on; a process that is killed meanwhile is replaced after it."""
    place, elsewhere = tmp_path / "volume", tmp_path / "elsewhere"
    place.mkdir()
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack)
        shop.database = place / "shop.db"
        shop.environment["SHOP_URL"] = f"sqlite:///{shop.database}"
        shop.open()
        stack.callback(lambda: shop.app.close())
        worker = shop.work(processes=2)
        slow = shop.tasks.work.delay(3.0)
        until(lambda: shop.history("start"), what="it runs")
        busy = shop.history("start")[0]["pid"]
        (idle,) = (pid for pid in worker.processes if pid != busy)
        place.rename(elsewhere)
        until(lambda: "heartbeat failed" in worker.output(), what="the supervisor has noticed")
        until(lambda: "cannot reach the broker" in worker.output(), what="a process has noticed")
        worker.kill_process(idle)
        until(lambda: "died: signal 9" in worker.output(), what="that it died is noticed")
        elsewhere.rename(place)
        until(lambda: set(worker.processes) - {idle, busy}, what="another process")
        shop.finish(slow.id, shop.tasks.noop.delay(1).id)
        assert worker.process.poll() is None and "Traceback" not in worker.output()
        assert [x["task"] for x in shop.history("start")] == [slow.id], "once"
