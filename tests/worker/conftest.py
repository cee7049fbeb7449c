"""A shop of its own for each test: broker, history, and workers that end with the test."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from acked.broker import Filter
from acked.delivery import FINAL, State
from acked.errors import BrokerError
from acked.record import Record
from tests.harness import checker, history
from tests.harness.places import BROKERS, SERVERS, Place, Servers
from tests.harness.producer import Producer
from tests.harness.workers import Worker, until
from tests.servers.proxy import Proxy
from tests.worker.forms import EVERYWHERE

HOSTS = ("redis", "postgres", "rabbitmq+redis", "rabbitmq+postgres")
"""What workers on several hosts can share: a file is out of their reach."""


def on(*places: str, short: Sequence[str] = ()) -> pytest.MarkDecorator:
    """Run a test on shops at *places*; in ``make test``, where it is given, on *short* alone."""
    chosen = places if EVERYWHERE or not short else short
    return pytest.mark.parametrize("shop", chosen, indirect=True)


on_every_broker = on(*BROKERS)
on_every_server = on(*SERVERS)
on_every_host = on(*HOSTS, short=HOSTS[:3])

TARGET = "tests.harness.shop:app"


class Detour:
    """A way to every server of a place through proxies.

    Args:
        environment: What leads a worker or a producer there.
    """

    def __init__(self, environment: dict[str, str], proxies: list[Proxy]) -> None:
        self.environment = environment
        self._proxies = proxies

    def set(self, **weather: Any) -> None:
        for proxy in self._proxies:
            proxy.set(**weather)

    def heal(self) -> None:
        self.set()

    def reset_all(self) -> int:
        """RST every connection; how many there were."""
        return sum(proxy.reset_all() for proxy in self._proxies)


class Shop:
    """The test application with a broker of its own, and the workers that serve it.

    Args:
        directory: For everything it writes.
        stack: Ends its workers.
        place: Its broker; by default SQLite, on `database`.
    """

    def __init__(self, directory: Path, stack: ExitStack, place: Place | None = None) -> None:
        self.directory = directory
        self.database = directory / "shop.db"
        self.history_file = directory / "history.jsonl"
        self.breaks_at_import = directory / "broken"
        self.place = place or Place("sqlite", f"sqlite:///{self.database}")
        self.environment = {
            "SHOP_BROKEN": str(self.breaks_at_import),
            "ACKED_RUNTIME_DIR": str(directory),
            history.VARIABLE: str(self.history_file),
            **address(self.place),
        }
        self._stack = stack
        self._workers = 0
        self.tasks: Any = None

    def open(self) -> None:
        """Import the application anew, on this shop's broker."""
        if self.tasks is not None:
            self.app.close()
        for name in [name for name in os.environ if name.startswith("SHOP_")]:
            del os.environ[name]
        os.environ.update(self.environment)
        sys.modules.pop("tests.harness.shop", None)
        self.tasks = importlib.import_module("tests.harness.shop")

    def end(self) -> None:
        """End every worker, producer and detour; the fixture does so with the test."""
        self._stack.close()

    @property
    def app(self) -> Any:
        return self.tasks.app

    def work(
        self, *arguments: str, processes: int = 2, wait: bool = True,
        environment: dict[str, str] | None = None, prefix: tuple[str, ...] = (),
    ) -> Worker:  # fmt: skip
        """Start a worker; it is stopped with the test.

        Args:
            arguments: Of its command line.
            processes: How many task processes it has.
            wait: Until they are there.
            environment: Added to the shop's.
            prefix: The command that runs it, such as ``ip netns exec``.
        """
        self._workers += 1
        worker = self._stack.enter_context(
            Worker(
                TARGET, "-c", str(processes), *arguments,
                environment={**self.environment, **(environment or {})},
                log=self.directory / f"worker-{self._workers}.log", prefix=prefix,
            )
        )  # fmt: skip
        return worker.ready(processes) if wait else worker

    def produce(
        self, name: str, count: int, *, pause: float = 0.0, countdown: float = 0.0,
        environment: dict[str, str] | None = None, prefix: tuple[str, ...] = (),
    ) -> Producer:  # fmt: skip
        """Start a process that sends *count* tasks; it is ended with the test."""
        return self._stack.enter_context(
            Producer(
                name, count, pause, environment={**self.environment, **(environment or {})},
                log=self.directory / f"producer-{name}.log", countdown=countdown, prefix=prefix,
            )
        )  # fmt: skip

    def produced(self) -> tuple[list[str], list[str]]:
        """Ids that producers sent, and those of which they do not know whether they did."""
        lines = self.history()
        sent = list(dict.fromkeys(x["task"] for x in lines if x["event"] == "sent"))
        unsure = dict.fromkeys(x["task"] for x in lines if x["event"] == "unsent")
        known = set(sent)
        return sent, [task for task in unsure if task not in known]

    def detour(self, host: str = "127.0.0.1") -> Detour:
        """A way to this shop's servers that can be spoiled."""
        proxies = {
            port: self._stack.enter_context(Proxy(port, address=host)) for port in self.place.ports
        }
        place = self.place.through({port: proxies[port].port for port in proxies}, host)
        return Detour(address(place), list(proxies.values()))

    def takes(self, task_id: str) -> bool:
        """Whether the broker takes a task. RabbitMQ's queues need a moment after its start."""
        try:
            self.tasks.noop.apply_async([1], task_id=task_id)
        except BrokerError:
            return False
        return True

    def waiting(self) -> int:
        """How many tasks wait for a worker."""
        return sum(counts.queued for counts in self.app.records.counts())

    def drain(self, within: float) -> None:
        """Wait until nothing is waiting or running."""

        def empty() -> bool:
            try:
                counts = self.app.records.counts()
            except BrokerError:
                return False
            return all(c.queued == c.scheduled == c.running == 0 for c in counts)

        try:
            until(empty, within=within, what="drained")
        except AssertionError as late:
            left = self.app.records.search(Filter(states=tuple(set(State) - FINAL)), limit=5)
            raise AssertionError(f"{late}; left, some of them: {left}") from None

    def record(self, task_id: str) -> Record:
        record = self.app.records.get(task_id)
        assert record is not None, f"no record of {task_id}"
        return record

    def finish(self, *ids: str, within: float = 30.0) -> list[Record]:
        """Wait until each of *ids* is in a final state."""
        left = list(ids)

        def all_final() -> bool:
            while left and self.record(left[-1]).state in FINAL:
                left.pop()
            return not left

        until(all_final, within=within, what=f"final state of {left[-3:]}")
        return [self.record(one) for one in ids]

    def history(self, event: str | None = None) -> list[dict[str, Any]]:
        lines = history.read(self.history_file)
        return [line for line in lines if event is None or line["event"] == event]

    def starts(self, task_id: str) -> int:
        return sum(line["task"] == task_id for line in self.history("start"))

    def started(self, task_id: str, times: int = 1, within: float = 20.0) -> None:
        """Wait until *task_id* has started *times* times."""
        until(
            lambda: self.starts(task_id) >= times, within=within, what=f"start {times} of {task_id}"
        )

    def slow_restarts(self, longest: float) -> str:
        """What the records say of tasks that started again later than *longest* after they had."""
        lines: dict[str, list[float]] = {}
        for line in self.history("start"):
            lines.setdefault(line["task"], []).append(line["at"])
        slow = [(task, at) for task, at in lines.items() if at[-1] - at[0] > longest]
        every = sorted(itertools.chain(*lines.values()))
        return "\n".join(
            f"{task}: {self.app.records.attempts(task)}; "
            f"starts meanwhile: {[round(x - at[0], 2) for x in every if at[0] < x <= at[-1]]}"
            for task, at in slow
        )

    def check(self, sent: Sequence[str], **rules: Any) -> checker.Verdict:
        """Judge the run by the seven rules."""
        return checker.check(self.history(), list(sent), self.app.records, **rules)


def address(place: Place) -> dict[str, str]:
    """What a shop's environment says of its broker."""
    results = {} if place.results is None else {"SHOP_RESULTS": place.results}
    return {"SHOP_URL": place.url, **results}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of a test that failed, show what its workers and producers have logged."""
    report = yield
    shop = item.funcargs.get("shop")
    if report.failed and isinstance(shop, Shop):
        for log in sorted(shop.directory.glob("*.log")):
            report.sections.append((log.name, log.read_text(errors="replace")[-SHOWN:]))
    return report


SHOWN = 6_000
"""Characters of a log."""


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, servers: Servers) -> Iterator[Shop]:
    """A shop on SQLite, or on the broker the test is parametrized with."""
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack, servers.place(getattr(request, "param", "sqlite"), tmp_path))
        shop.open()
        stack.callback(lambda: shop.app.close())
        yield shop


Start = Callable[..., Worker]
