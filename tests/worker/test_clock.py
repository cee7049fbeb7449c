"""T27: the wall clock of a host is set while tasks run and wait: of the workers', of a producer's,
of the broker's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.places import BROKERS, Servers
from tests.harness.workers import ROOT, until
from tests.servers.clock import HostClock
from tests.worker.conftest import HOSTS, Shop, on
from tests.worker.forms import LONG, sizes

pytestmark = pytest.mark.chaos
HOUR = 3600.0
LATE = 1.0 if LONG else 1.5
"""Seconds after its time within which something due starts; more where two files run at once."""

YEARS = 10 * 365 * 24 * HOUR
JUMPS = {"an hour back": -HOUR, "ten years on": YEARS, **({"an hour on": HOUR} if LONG else {})}
ONWARD = {"an hour on": HOUR, **({"ten years on": YEARS} if LONG else {})}
WRONG = JUMPS if LONG else {"an hour back": -HOUR}

MANY = sizes(100, 1_000)
"""Tasks that are due at one moment."""

LEDGER = 20.0
"""Seconds after which RabbitMQ's tasks start whose time has come because the ledger's clock was
set. Their messages are in delays of RabbitMQ, which measures them by a clock that does not jump; a
message that does not come is missed 10 s after its time, by whoever looks every 5 s."""

HOPS = 5
"""Times a message of RabbitMQ comes before its time, of the two seconds that are due here, and is
put off again: its delays are 1024 ms, 512, 256, 128 and 64. Each takes as much as to run it."""


class Wall:
    """The wall clock of the workers of one test."""

    def __init__(self, shop: Shop, file: Path) -> None:
        self._file = file
        file.write_text("0")
        shop.environment |= {
            "ACKED_TEST_CLOCK": str(file),
            "ACKED_TEST_PATH": str(ROOT / "tests" / "harness" / "shifted_time"),
            "SHOP_LEASE": "1", "SHOP_HEARTBEAT": "0.2",
        }  # fmt: skip
        shop.open()
        self.true = {"ACKED_TEST_PATH": ""}
        """The environment of a worker whose clock is right."""

    def jump(self, seconds: float) -> None:
        # In one step: a reader must not find the file empty.
        draft = self._file.with_suffix(".new")
        draft.write_text(str(float(self._file.read_text()) + seconds))
        draft.rename(self._file)


@pytest.fixture
def wall(shop: Shop, tmp_path: Path) -> Wall:
    return Wall(shop, tmp_path / "clock")


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS)
@on(*BROKERS, short=("sqlite", "redis"))
def test_a_jump_of_the_clock_redelivers_nothing_that_runs(
    shop: Shop, wall: Wall, seconds: float
) -> None:
    count = sizes(40, 1_000)
    shop.work("--coroutines", str(count // 2))
    # Longer than it takes for all to have started.
    results = shop.tasks.work_async.delay_many([(sizes(2, 15),)] * count)
    until(lambda: len(shop.history("start")) >= count, what=f"{count} running")
    wall.jump(seconds)
    ran_once(shop, [r.id for r in results])


def ran_once(shop: Shop, ids: list[str]) -> None:
    shop.finish(*ids, within=90)
    verdict = shop.check(ids)
    assert verdict.violations == []
    assert verdict.starts == len(ids)


class Due:
    """Many tasks that are due at one moment.

    Before them come as many that are due at once: how long those take, from the first start to the
    last, is what the worker needs for such a number on this machine.

    Args:
        countdown: Seconds until then.
    """

    def __init__(self, shop: Shop, countdown: float) -> None:
        self._shop = shop
        self._plain = [r.id for r in shop.tasks.work.delay_many([(0.0,)] * MANY)]
        shop.finish(*self._plain)
        starts = self.starts(self._plain)
        self._drained_in = starts[-1] - starts[0]
        work = shop.tasks.work.s(0.0)
        calls = [work.set(countdown=countdown) for _ in range(MANY)]
        self.sent_at = time.monotonic()
        self.ids = [r.id for r in shop.app.send_many(calls)]

    def starts(self, ids: list[str]) -> list[float]:
        """When those of *ids* started that have, in order."""
        wanted = set(ids)
        return sorted(x["at"] for x in self._shop.history("start") if x["task"] in wanted)

    def wait(self) -> None:
        """None has started, and each waits for its time by the clock."""
        assert self.starts(self.ids) == []
        assert sum(each.scheduled for each in self._shop.app.records.counts()) == MANY

    def fire(self, at: float, *, late: float = LATE, beside: Sequence[str] = ()) -> None:
        """Each starts once, the first within *late* seconds of their time *at*, and the last later
        than that by no more than so many take anyhow; twice that, as it is measured once, and a
        machine is not equally busy all the time.

        Args:
            beside: Ids of other tasks there are.
        """
        self._shop.finish(*self.ids, *beside, within=90)
        assert self._shop.check([*self._plain, *self.ids, *beside]).violations == []
        starts = self.starts(self.ids)
        assert len(starts) == MANY
        assert at - 0.1 <= starts[0] <= at + late
        rounds = 1 + (HOPS if self._shop.place.kind == "rabbitmq" else 0)
        assert starts[-1] <= at + late + 2 * rounds * self._drained_in


@pytest.mark.parametrize("seconds", ONWARD.values(), ids=ONWARD)
def test_what_is_due_fires_within_a_second_of_the_clock(
    shop: Shop, wall: Wall, seconds: float
) -> None:
    shop.work()
    due = Due(shop, HOUR)
    time.sleep(1.5)  # several looks of the worker at what is due, which it must leave alone
    due.wait()
    jumped = time.monotonic()
    wall.jump(seconds)
    due.fire(jumped)


def test_a_clock_set_back_makes_nothing_early_and_nothing_stuck(shop: Shop, wall: Wall) -> None:
    shop.work()
    due = Due(shop, 2.0)
    wall.jump(-HOUR)
    now = shop.tasks.noop.delay(1)
    assert now.get(timeout=10) == 1
    time.sleep(2.5)  # past its time, had the clock not been set back
    due.wait()
    jumped = time.monotonic()
    wall.jump(HOUR)
    due.fire(jumped)


@on(*HOSTS, short=("redis",))
def test_a_workers_clock_moves_nothing_that_is_due_by_a_servers(shop: Shop, wall: Wall) -> None:
    shop.work()
    due = Due(shop, 2.0)
    wall.jump(YEARS)
    time.sleep(0.5)  # several looks at what is due
    due.wait()
    wall.jump(-YEARS - HOUR)
    due.fire(due.sent_at + 2.0)


def test_a_clock_set_forward_does_not_delete_results(shop: Shop, wall: Wall) -> None:
    shop.work(processes=1)
    done = shop.tasks.noop.delay(5)
    done.get(timeout=10)
    wall.jump(10 * 365 * 24 * HOUR)
    time.sleep(1.5)  # the upkeep that would delete it comes each second
    shop.finish(shop.tasks.noop.delay(6).id)
    assert done.get(timeout=1) == 5


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS)
@on(*HOSTS, short=HOSTS[:3])
def test_a_countdown_is_the_brokers_whatever_the_clock_of_its_sender(
    shop: Shop, wall: Wall, seconds: float
) -> None:
    """Also when that is set while it sends: in its midst."""
    shop.work(environment=wall.true)
    producer = shop.produce("wrong", sizes(20, 200), pause=0.02, countdown=1.5)
    until(lambda: len(shop.history("sent")) >= 5, what="some are sent")
    wall.jump(seconds)
    producer.wait(60)
    each_in_its_time(shop, sizes(20, 200), 1.5)


@pytest.mark.parametrize("seconds", WRONG.values(), ids=WRONG)
def test_a_countdown_holds_on_a_host_whose_clock_is_wrong(
    shop: Shop, wall: Wall, seconds: float
) -> None:
    """On SQLite sender and worker have one clock, that of their host."""
    wall.jump(seconds)
    shop.work()
    shop.produce("wrong", sizes(20, 200), countdown=1.5).wait(60)
    each_in_its_time(shop, sizes(20, 200), 1.5)


def each_in_its_time(shop: Shop, count: int, countdown: float) -> None:
    """Each of *count* tasks that were sent starts once, that many seconds after that."""
    sent, unsure = shop.produced()
    assert (len(sent), unsure) == (count, [])
    ran_once(shop, sent)
    starts = {x["task"]: x["at"] for x in shop.history("start")}
    for said in shop.history("sent"):
        # It was taken at some moment between the call's beginning and its end.
        earliest, latest = said["at"] - said["took"] + countdown, said["at"] + countdown
        assert earliest - 0.1 <= starts[said["task"]] <= latest + LATE


class Host:
    """Where the servers of a test run: they have one clock."""

    def __init__(self, clocks: list[HostClock]) -> None:
        self._clocks = clocks

    def jump_to(self, seconds: float) -> None:
        for clock in self._clocks:
            clock.jump_to(seconds)


@pytest.fixture(params=["redis", "postgres", *(["rabbitmq+redis"] if LONG else [])])
def moved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Shop, Host]]:
    """A shop on servers of its own, and their host."""
    clocks: list[HostClock] = []
    servers = Servers(lambda server: clocks.append(HostClock(server)))
    with ExitStack() as stack:
        stack.callback(servers.stop)
        shop = Shop(tmp_path, stack, servers.place(request.param, tmp_path))
        shop.environment |= {"SHOP_LEASE": "1", "SHOP_HEARTBEAT": "0.2"}
        shop.open()
        stack.callback(lambda: shop.app.close())
        yield shop, Host(clocks)


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("moved", ["redis", "postgres", "rabbitmq+redis"], indirect=True)
def test_a_jump_of_the_servers_clock_redelivers_nothing_that_runs(
    moved: tuple[Shop, Host], seconds: float
) -> None:
    shop, clock = moved
    count = sizes(20, 1_000)
    for _ in range(2):
        shop.work("--coroutines", str(count // 2), processes=1)
    results = shop.tasks.work_async.delay_many([(sizes(2, 15),)] * count)
    until(lambda: len(shop.history("start")) >= count, what=f"{count} running")
    clock.jump_to(seconds)
    ran_once(shop, [r.id for r in results])


def after_a_jump(shop: Shop) -> float:
    """Seconds within which something starts whose time a jump of the servers' clock has brought."""
    return LEDGER if shop.place.kind == "rabbitmq" else LATE


@pytest.mark.parametrize("seconds", ONWARD.values(), ids=ONWARD)
def test_what_is_due_by_the_servers_clock_fires_within_a_second(
    moved: tuple[Shop, Host], seconds: float
) -> None:
    shop, host = moved
    shop.work()
    due = Due(shop, HOUR)
    time.sleep(0.5)  # in which a worker that took them for due would have started them
    due.wait()
    jumped = time.monotonic()
    host.jump_to(seconds)
    due.fire(jumped, late=after_a_jump(shop))


def test_a_servers_clock_set_back_makes_nothing_early_and_nothing_stuck(
    moved: tuple[Shop, Host],
) -> None:
    shop, host = moved
    worker = shop.work()
    due = Due(shop, 2.0)
    host.jump_to(-HOUR)
    assert shop.tasks.noop.delay(1).get(timeout=10) == 1
    running = shop.tasks.work.delay(3.0)
    shop.started(running.id)
    worker.kill_process(shop.history("start")[-1]["pid"])
    shop.started(running.id, 2)
    until(lambda: time.monotonic() > due.sent_at + 2.5, what="past their time")
    due.wait()
    jumped = time.monotonic()
    host.jump_to(0)
    due.fire(jumped, late=after_a_jump(shop), beside=[running.id])
