"""The SQLite broker between real processes: contention, wake-ups, kills and forks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from acked.broker import Filter
from acked.brokers.sqlite import SQLiteBroker
from acked.delivery import Settlement
from acked.testing.timeline import message
from tests.harness.workers import ROOT, until

LONG = 100.0
"""Seconds a `wait` is given where something else must end it."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def broker(path: Path) -> Iterator[SQLiteBroker]:
    broker = SQLiteBroker(path)
    broker.setup()
    yield broker
    broker.close()


Start = Callable[..., "subprocess.Popen[str]"]

HEAD = """
import os, sys, time
import msgspec
from acked.brokers.sqlite import SQLiteBroker
from acked.delivery import Settlement
from acked.testing.timeline import message
broker = SQLiteBroker(sys.argv[1])
"""


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Run a program that has `broker`, the same database, in a process of its own."""
    with contextlib.ExitStack() as stack:

        def start(program: str, *arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", HEAD + program, str(path), *arguments],
                stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def said(process: subprocess.Popen[str]) -> list[str]:
    """What the process printed, once it has ended well."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output.split()


def waiting(broker: SQLiteBroker) -> threading.Thread:
    """A thread that waits for work, once it sleeps."""
    asleep = sleepers(broker)
    thread = threading.Thread(target=broker.wait, args=(["default"], LONG), daemon=True)
    thread.start()
    until(lambda: sleepers(broker) > asleep, what="the thread sleeps")
    return thread


def sleepers(broker: SQLiteBroker) -> int:
    with contextlib.suppress(FileNotFoundError):
        return (broker.presence_dir / "slots").read_bytes()[:1024].count(1)
    return 0


def woken(thread: threading.Thread) -> bool:
    """Whether it wakes long before its time-out."""
    thread.join(LONG / 4)
    return not thread.is_alive()


WORK = """
name, seen = sys.argv[2], []
held = []
while True:
    done = [Settlement.succeed(h, at=2.0, started=1.0, result=b"1") for h in held]
    claim = broker.claim(f"{name}/0", ["default"], 7, settlements=done)
    assert not claim.refused
    held = claim.deliveries
    seen += [h.id for h in held]
    if not held:
        break
print(*seen)
"""

SEND = """
for n in range(150):
    broker.send([message(f"{sys.argv[2]}-{n}")])
"""


def test_processes_that_send_and_work_at_once_lose_and_double_nothing(
    broker: SQLiteBroker, start: Start
) -> None:
    senders = [start(SEND, f"s{n}") for n in range(4)]
    workers = [start(WORK, f"w{n}") for n in range(4)]

    for sender in senders:
        said(sender)
    done = [task_id for worker in workers for task_id in said(worker)]
    done += said(start(WORK, "last"))

    assert sorted(done) == sorted(f"s{s}-{n}" for s in range(4) for n in range(150))
    (counts,) = broker.counts()
    assert (counts.success, counts.queued, counts.running) == (600, 0, 0)
    assert all(len(broker.attempts(task_id)) == 1 for task_id in done[::37])


def test_processes_may_make_the_database_at_the_same_moment(path: Path, start: Start) -> None:
    senders = [start("broker.send([message(sys.argv[2])])", f"a{n}") for n in range(6)]

    for sender in senders:
        said(sender)

    broker = SQLiteBroker(path)
    assert len(broker.search(Filter())) == 6
    broker.close()


ENDLESS = """
n = 0
while True:
    ids = [f"{os.getpid()}-{n}-{m}" for m in range(n % 3 + 1)]
    broker.send([message(i) for i in ids])
    print(*ids, flush=True)
    n += 1
"""


def test_a_producer_that_is_killed_loses_nothing_it_was_told_is_stored(
    broker: SQLiteBroker, path: Path, start: Start
) -> None:
    acknowledged = []
    for round_ in range(5):
        process = start(ENDLESS)
        assert process.stdout is not None
        for _ in range(20 + round_):
            acknowledged += process.stdout.readline().split()
        process.kill()
        acknowledged += process.stdout.read().rpartition("\n")[0].split()

    stored = {record.id for record in broker.search(Filter(), limit=100_000)}
    assert set(acknowledged) <= stored
    other = apsw.Connection(str(path))
    assert other.pragma("integrity_check") == "ok"
    other.close()


KILLED_WORKER = """
held = []
while True:
    done = [Settlement.succeed(h, at=2.0, started=1.0, result=b"1") for h in held]
    held = broker.claim("dead/0", ["default"], 5, settlements=done).deliveries
    print("turn", flush=True)
"""


def test_what_a_killed_worker_held_is_seized_and_what_it_settled_stays_settled(
    broker: SQLiteBroker, start: Start
) -> None:
    broker.send([message(f"t{n}") for n in range(500)])
    process = start(KILLED_WORKER)
    assert process.stdout is not None
    for _ in range(10):
        process.stdout.readline()
    process.kill()
    process.wait()

    (before,) = broker.counts()
    seized = broker.seize("dead", by="heir")

    assert before.success >= 40
    assert len(seized) == before.running <= 5
    done = [Settlement.succeed(each, at=2.0, started=1.0, result=b"1") for each in seized]
    assert broker.settle(done) == []
    (after,) = broker.counts()
    assert (after.success, after.running) == (before.success + len(seized), 0)
    assert after.success + after.queued == 500


def test_a_message_from_another_process_wakes_a_waiter(broker: SQLiteBroker, start: Start) -> None:
    thread = waiting(broker)

    said(start("broker.send([message('a')])"))

    assert woken(thread)


def test_a_message_for_another_queue_wakes_nobody(broker: SQLiteBroker) -> None:
    thread = waiting(broker)

    broker.send([message("a", queue="mail")])

    assert sleepers(broker) == 1
    broker.interrupt()
    assert woken(thread)


def test_each_message_wakes_one_waiter(broker: SQLiteBroker) -> None:
    threads = [waiting(broker) for _ in range(3)]

    broker.send([message("a")])
    assert sleepers(broker) == 2
    broker.send([message("b"), message("c")])

    assert all(woken(thread) for thread in threads)


def test_a_task_that_is_due_sooner_than_a_waiter_means_to_look_wakes_it(
    broker: SQLiteBroker,
) -> None:
    thread = waiting(broker)

    broker.send([msgspec.structs.replace(message("a"), eta=time.time() + 0.1)])
    assert woken(thread)
    until(lambda: broker.claim("w1/0", ["default"], 1).deliveries)

    thread = waiting(broker)
    broker.send([msgspec.structs.replace(message("b"), eta=time.time() + 10 * LONG)])
    assert sleepers(broker) == 1
    broker.interrupt()
    assert woken(thread)


def test_a_wait_ends_when_a_scheduled_task_becomes_due(broker: SQLiteBroker) -> None:
    broker.send([msgspec.structs.replace(message("a"), eta=time.time() + 0.2)])

    broker.wait(["default"], LONG)

    until(lambda: broker.claim("w1/0", ["default"], 1).deliveries)


def test_a_waiter_that_was_killed_keeps_no_wake_up_to_itself(
    broker: SQLiteBroker, start: Start
) -> None:
    process = start("broker.wait(['default'], 1000)")
    until(lambda: sleepers(broker) == 1)
    thread = waiting(broker)
    process.kill()
    process.wait()

    broker.send([message("a")])

    assert woken(thread)


def test_the_slot_of_a_killed_waiter_is_used_again(broker: SQLiteBroker, start: Start) -> None:
    for _ in range(3):
        process = start("broker.wait(['default'], 1000)")
        until(lambda: sleepers(broker) == 1)
        process.kill()
        process.wait()
    broker.wait(["default"], 0.001)

    assert [file.name for file in broker.presence_dir.iterdir() if file.is_socket()] == ["0"]


def test_threads_that_end_give_their_slots_back(broker: SQLiteBroker) -> None:
    for _ in range(5):
        thread = threading.Thread(target=broker.wait, args=(["default"], 0.001))
        thread.start()
        thread.join()

    assert not [file for file in broker.presence_dir.iterdir() if file.is_socket()]


def test_wake_ups_reach_a_directory_whose_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    broker = SQLiteBroker(deep / "shop.db")
    broker.setup()
    thread = waiting(broker)

    broker.send([message("a")])

    assert woken(thread)
    broker.close()


def test_where_no_wake_up_can_come_a_waiter_polls(
    broker: SQLiteBroker, caplog: pytest.LogCaptureFixture
) -> None:
    (broker.presence_dir / "slots").mkdir()
    thread = threading.Thread(target=broker.wait, args=(["default"], LONG))
    thread.start()
    broker.send([message("a")])
    assert woken(thread)
    assert broker.claim("w1/0", ["default"], 1).deliveries

    thread = threading.Thread(target=broker.wait, args=(["default"], LONG))
    thread.start()
    broker.interrupt()
    assert woken(thread)

    assert [record.message for record in caplog.records if "polling instead" in record.message]


def test_a_signal_handler_may_interrupt_a_wait(broker: SQLiteBroker, start: Start) -> None:
    process = start("""
import signal
signal.signal(signal.SIGTERM, lambda *_: broker.interrupt())
broker.wait(["default"], 1000)
print("interrupted")
""")
    until(lambda: sleepers(broker) == 1)

    process.send_signal(signal.SIGTERM)

    assert said(process) == ["interrupted"]


FORK = """
broker.send([message("before")])
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.close(writer)
    broker.send([message("child")])
    print("child", flush=True)
    os.read(reader, 1)  # Until the parent has ended, and with it every connection of its own.
    broker.send([message("orphan")])
    again = SQLiteBroker(sys.argv[1])
    assert {r.id for r in again.search(Filter())} >= {"before", "child", "parent", "orphan"}
    assert len(broker.claim("w1/0", ["default"], 10).deliveries) == 4
    print("orphan", flush=True)
    os._exit(0)
os.close(reader)
broker.send([message("parent")])
broker.close()
"""


def test_a_broker_can_be_used_on_both_sides_of_a_fork(
    broker: SQLiteBroker, path: Path, start: Start
) -> None:
    broker.close()

    lines = said(start("from acked.broker import Filter\n" + FORK))

    assert sorted(lines) == ["child", "orphan"]
    assert {record.id for record in broker.search(Filter())} == {
        "before", "child", "parent", "orphan",
    }  # fmt: skip
    other = apsw.Connection(str(path))
    assert other.pragma("integrity_check") == "ok"
    other.close()


def test_a_fork_while_other_threads_write_breaks_neither_side(
    broker: SQLiteBroker, start: Start
) -> None:
    program = """
import threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Threads and a fork: that is what is tested.

def write(name):
    for n in range(100):
        broker.send([message(f"{name}-{n}")])

threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(3)]
for thread in threads:
    thread.start()
for n in range(5):
    child = os.fork()
    if child == 0:
        broker.send([message(f"child-{n}")])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
for thread in threads:
    thread.join()
"""
    said(start(program))

    assert len(broker.search(Filter(), limit=1000)) == 305


def test_a_datagram_from_a_stranger_does_no_harm(broker: SQLiteBroker) -> None:
    thread = waiting(broker)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"x" * 1000, os.path.relpath(broker.presence_dir / "0"))
    assert woken(thread)

    broker.send([message("a")])
    broker.wait(["default"], LONG)


def test_a_change_during_which_the_connection_was_closed_for_a_fork_is_seen(
    broker: SQLiteBroker, path: Path
) -> None:
    other = SQLiteBroker(path)
    other.setup()
    database = broker._database
    database.thaw(database.freeze())
    before = database.version()

    database.thaw(database.freeze())
    other.send([message("a")])

    assert database.version() != before
    other.close()
