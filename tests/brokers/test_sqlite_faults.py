"""The SQLite broker when the disk, another program or a row goes wrong: it says so, keeps what it
acknowledged, and goes on once it can."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import apsw
import msgspec
import pytest

from acked.broker import Filter
from acked.brokers.sqlite import SQLiteBroker
from acked.delivery import Failure, Settlement, State
from acked.errors import BrokerError, BrokerUnavailable
from acked.message import Message
from acked.testing.timeline import beat, message, settlements
from tests.harness.workers import until
from tests.worker.forms import sizes

_numbers = itertools.count()

Name: TypeAlias = "str | apsw.URIFilename | None"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def broker(path: Path) -> Iterator[SQLiteBroker]:
    broker = SQLiteBroker(path, timeout=0.2)
    broker.setup()
    yield broker
    broker.close()


class FailingDisk(apsw.VFS):
    """A disk whose flushes fail when they are told to.

    Args:
        base: Name of the file system layer below; the default one if empty.
    """

    def __init__(self, base: str = "") -> None:
        self.name = f"failing-{next(_numbers)}"
        self.flushes = 0
        self.fails_at: int | None = None
        super().__init__(self.name, base)

    def xOpen(self, name: Name, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        return FailingFile(self, name, flags)

    def fail(self, *, after: int = 0) -> None:
        """The flush after *after* further ones of the log fails, and all that follow."""
        self.fails_at = self.flushes + after

    def mend(self) -> None:
        self.fails_at = None


class FailingFile(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: Name, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.disk, self.flags = disk, flags[0]

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        if self.flags & apsw.SQLITE_OPEN_WAL:
            if self.disk.fails_at is not None and self.disk.flushes >= self.disk.fails_at:
                raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
            self.disk.flushes += 1
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    disk = FailingDisk()
    yield disk
    disk.unregister()


@pytest.fixture
def frail(path: Path, disk: FailingDisk) -> Iterator[SQLiteBroker]:
    """A broker on the failing disk."""
    broker = SQLiteBroker(path, vfs=disk.name)
    broker.setup()
    yield broker
    broker.close()


def stored(path: Path) -> set[str]:
    """What a program that opens the file now finds in it."""
    broker = SQLiteBroker(path)
    found = {record.id for record in broker.search(Filter(), limit=10_000)}
    broker.close()
    return found


@pytest.mark.chaos
@pytest.mark.parametrize("after", range(sizes(6, 50)))
def test_a_send_whose_flush_fails_raises_and_loses_nothing_acknowledged(
    frail: SQLiteBroker, disk: FailingDisk, path: Path, after: int
) -> None:
    """T17: the first flush, or a later one, fails, and all after it."""
    frail.send([message("first")])
    disk.fail(after=after)
    acknowledged, refused = {"first"}, set()
    for number in range(after + 5):
        try:
            frail.send([message(f"task-{number}")])
            acknowledged.add(f"task-{number}")
        except BrokerError as error:
            refused.add(f"task-{number}")
            assert str(path) in str(error)
    disk.mend()
    frail.send([message("last")])

    assert len(refused) == 5
    assert stored(path) >= acknowledged | {"last"}
    frail.send([message(task_id) for task_id in refused])
    assert stored(path) == acknowledged | refused | {"last"}


def test_a_settlement_whose_flush_failed_can_be_repeated(
    frail: SQLiteBroker, disk: FailingDisk
) -> None:
    frail.send([message("a"), message("b")])
    (held,) = frail.claim("w1/0", ["default"], 1).deliveries
    done = Settlement.succeed(held, at=2.0, started=1.0, result=b"1")
    disk.fail()
    with pytest.raises(BrokerError):
        frail.claim("w1/0", ["default"], 5, settlements=[done])
    disk.mend()

    claim = frail.claim("w1/0", ["default"], 5, settlements=[done])

    assert claim.refused == []
    assert [each.id for each in claim.deliveries] == ["b"]
    assert len(frail.attempts("a")) == 1


FAIL_CHECKPOINTS = """
import sys
import msgspec
from acked.brokers.sqlite import SQLiteBroker
from acked.testing.timeline import message

broker = SQLiteBroker(sys.argv[1])
large = msgspec.Raw(msgspec.json.encode(["x" * 200_000]))
for number in range(100):
    broker.send([msgspec.structs.replace(message(f"task-{number}"), args=large)])
print(broker.counts()[0].queued, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_checkpoint_that_fails_does_not_fail_what_is_durable(
    broker: SQLiteBroker, path: Path
) -> None:
    """The log is flushed; each flush of the database itself fails."""
    broker.send([message("first")])
    trace = path.with_name("trace")

    done = subprocess.run(
        [
            "strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace), "-P", str(path),
            "-e", "fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO",
            sys.executable, "-c", f"import os\n{FAIL_CHECKPOINTS}", str(path),
        ],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.stdout == "101\n", done.stderr
    assert "INJECTED" in trace.read_text()
    assert stored(path) == {"first", *(f"task-{number}" for number in range(100))}


def test_a_full_disk_is_an_error_that_names_the_file_and_stores_none_of_the_call(
    broker: SQLiteBroker, path: Path
) -> None:
    broker.send([message("first")])
    with broker._database.session() as connection:
        pages = connection.pragma("page_count")
        connection.pragma("max_page_count", pages + 20)
    large = msgspec.Raw(msgspec.json.encode(["x" * 10_000]))

    with pytest.raises(BrokerError, match=f"no room left for {path}. Free"):
        broker.send([msgspec.structs.replace(message(f"t{n}"), args=large) for n in range(50)])

    assert stored(path) == {"first"}
    with broker._database.session() as connection:
        connection.pragma("max_page_count", 2**30)
    broker.send([message("last")])
    assert stored(path) == {"first", "last"}


def test_a_lock_that_another_program_keeps_is_reported_in_time(
    broker: SQLiteBroker, path: Path
) -> None:
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(BrokerUnavailable, match=f"{path} was locked"):
        broker.send([message("a")])
    with pytest.raises(BrokerUnavailable):
        broker.requeue(["a"])

    assert broker.get("a") is None, "reading needs no lock"
    other.execute("ROLLBACK")
    other.close()
    broker.send([message("a")])
    assert broker.get("a") is not None


def test_an_idle_worker_writes_nothing(broker: SQLiteBroker, path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")

    assert broker.claim("w1/0", ["default"], 10).deliveries == []
    broker.wait(["default"], 0.01)
    assert broker.reap(by="w1") == []

    other.execute("ROLLBACK")
    other.close()


def test_a_snapshot_that_a_reader_keeps_stops_nobody_and_the_log_shrinks_after_it(
    broker: SQLiteBroker, path: Path
) -> None:
    broker.send([message("first")])
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM task").fetchall()
    log = path.with_name("shop.db-wal")
    large = msgspec.Raw(msgspec.json.encode(["x" * 1_000_000]))

    def send(name: str, count: int) -> None:
        for number in range(count):
            broker.send([msgspec.structs.replace(message(f"{name}-{number}"), args=large)])

    send("beside", 50)
    assert log.stat().st_size > 40 * 1024 * 1024
    assert reader.execute("SELECT count(*) FROM task").get == 1
    reader.execute("COMMIT")
    reader.close()

    def one_more_send_leaves_it_short() -> bool:
        send(f"after-{next(_numbers)}", 1)
        return log.stat().st_size <= 32 * 1024 * 1024

    until(one_more_send_leaves_it_short)


def test_the_log_stays_short_while_several_threads_write_without_a_pause(
    broker: SQLiteBroker, path: Path
) -> None:
    """64 MiB at most, of some 150 MiB written."""
    body = msgspec.Raw(msgspec.json.encode(["x" * 1000]))
    longest = 0
    log = path.with_name("shop.db-wal")
    writer = SQLiteBroker(path)

    def write(name: str) -> None:
        for batch in range(16):
            writer.send([
                Message(id=f"{name}-{batch}-{n}", task="t", args=body) for n in range(1000)
            ])  # fmt: skip

    threads = [threading.Thread(target=write, args=(f"thread-{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        longest = max(longest, log.stat().st_size)
        threads[0].join(0.002)
    for thread in threads:
        thread.join()

    assert longest <= 64 * 1024 * 1024
    assert sum(each.queued for each in broker.counts()) == 48_000
    writer.close()


def test_the_disk_gets_back_what_purged_tasks_took(broker: SQLiteBroker, path: Path) -> None:
    large = msgspec.Raw(msgspec.json.encode(["x" * 100_000]))
    broker.send([msgspec.structs.replace(message(f"t{n}"), args=large) for n in range(200)])
    broker.send([message("kept", queue="mail")])

    assert broker.purge("default") == 200

    assert broker.get("kept") is not None
    broker.close()
    assert path.stat().st_size < 8 * 1024 * 1024


def plant(path: Path, sql: str, *bindings: apsw.SQLiteValue) -> None:
    """Write past the broker, as another program would."""
    other = apsw.Connection(str(path))
    try:
        other.execute(sql, bindings)
    finally:
        other.close()


NEW_ROW = """
INSERT INTO task (id, name, queue, priority, state, due, sent, body)
VALUES (CAST(? AS TEXT), CAST(? AS TEXT), 'default', 0, 'QUEUED', 0, 0, x'ff')
"""


def test_an_id_that_is_no_text_is_handed_out_listed_and_settled(
    broker: SQLiteBroker, path: Path
) -> None:
    plant(path, NEW_ROW, b"\xff\xfe", b"\xc3")
    broker.send([message("a")])

    bad, good = broker.claim("w1/0", ["default"], 5).deliveries

    assert (bad.id, bad.body, good.id) == ("\ufffd\ufffd", b"\xff", "a")
    assert broker.settle([settlements(bad, 2.0)["failure unread"]]) == []
    assert [record.state for record in broker.search(Filter())] == [State.RUNNING, State.FAILURE]
    assert broker.counts()[0].failure == 1


@pytest.mark.parametrize("column", ["id", "name", "queue", "consumer", "reason", "failure"])
def test_a_row_with_text_that_is_none_hides_no_other(
    broker: SQLiteBroker, path: Path, column: str
) -> None:
    broker.send([message("a"), msgspec.structs.replace(message("b"), eta=2e9), message("c")])
    (held,) = broker.claim("w1/0", ["default"], 1).deliveries
    broker.revoke(["a"], terminate=True)
    plant(path, f"UPDATE task SET {column} = CAST(x'ff' AS TEXT) WHERE seq = 1")  # noqa: S608 - from this file

    assert len(broker.search(Filter())) == 3
    assert sum(each.queued + each.running + each.scheduled for each in broker.counts()) == 3
    assert len(broker.renew(beat("w1"))) == (column != "consumer")
    (seized,) = broker.seize("w1", by="w2") or broker.reap(by="w2")
    assert (seized.tag, seized.seized_token) == (held.tag, held.token)


def test_a_scheduled_row_in_a_queue_that_is_no_text_stops_no_other(
    broker: SQLiteBroker, path: Path
) -> None:
    broker.send([msgspec.structs.replace(message(name), eta=2e9) for name in "ab"])
    plant(path, "UPDATE task SET due = 1.0")
    plant(path, "UPDATE task SET queue = CAST(x'ff' AS TEXT) WHERE id = 'a'")

    broker.reap(by="w1")

    assert {record.state for record in broker.search(Filter())} == {State.QUEUED}


@pytest.mark.parametrize(
    "change",
    [
        "state = 'SUCCES'",
        "state = 'SUCCESS'",
        "state = 'RUNNING'",
        "finished = 1.0",
        "attempt = -1",
        "id = NULL",
        "id = 'b'",
        "body = 'text'",
        "priority = 'high'",
        "due = NULL",
    ],
)
def test_a_row_that_cannot_be_is_refused_by_the_schema(
    broker: SQLiteBroker, path: Path, change: str
) -> None:
    broker.send([message("a"), message("b")])
    before = broker.get("a")

    with pytest.raises(apsw.ConstraintError):
        plant(path, f"UPDATE task SET {change} WHERE id = 'a'")  # noqa: S608 - from this file

    assert broker.get("a") == before


def test_a_text_with_half_a_character_settles_all_the_same(broker: SQLiteBroker) -> None:
    broker.send([message("a"), message("b")])
    first, second = broker.claim("w1/0", ["default"], 5).deliveries
    failure = Failure("OSError", "no file \udcff", "Traceback: \udcff")

    refused = broker.settle([
        Settlement.fail(first, at=2.0, started=1.0, failure=failure),
        Settlement.succeed(second, at=2.0, started=1.0, result=b"1"),
    ])  # fmt: skip

    assert refused == []
    record = broker.get("a")
    assert record is not None and record.failure == Failure("OSError", "no file ?", "Traceback: ?")
    assert broker.attempts("a")[0].reason == "OSError: no file ?"


def test_arguments_too_long_for_one_answer_are_handed_out_one_by_one(
    broker: SQLiteBroker,
) -> None:
    large = msgspec.Raw(msgspec.json.encode(["x" * 100_000]))
    broker.send([msgspec.structs.replace(message(f"t{n}"), args=large) for n in range(5)])
    with broker._database.session() as connection:
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, 300_000)

    deliveries = broker.claim("w1/0", ["default"], 5).deliveries

    assert [each.id for each in deliveries] == ["t0", "t1", "t2", "t3", "t4"]
    assert all(len(each.body) > 100_000 for each in deliveries)
