"""A real dashboard for the browser tests: the command itself, a broker, a worker."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from acked.dashboard import hash_password
from tests.dashboard.staging import Shop
from tests.harness.places import BROKERS, Place, Servers
from tests.harness.workers import ROOT, Worker, until
from tests.pages.conftest import answers, axe, browser, visit
from tests.servers.server import free_port

__all__ = ["axe", "browser", "visit"]

TARGET = "tests.dashboard.shop:app"
on_every_broker = pytest.mark.parametrize("ops", BROKERS, indirect=True, scope="module")
PASSWORD = "correct horse battery"  # noqa: S105 - of a user who exists while a test runs


class Ops:
    """The application, its dashboard, and a worker."""

    def __init__(self, directory: Path, stack: ExitStack, place: Place) -> None:
        self.directory = directory
        self.environment = {
            "DASHBOARD_BROKER": place.url,
            "DASHBOARD_RESULTS": place.results or "",
            "ACKED_RUNTIME_DIR": str(directory),
            "ACKED_DASHBOARD_USERS": f"ada:operator:{hash_password(PASSWORD)}",
        }
        os.environ.update(self.environment)
        sys.modules.pop("tests.dashboard.shop", None)
        self.tasks: Any = importlib.import_module("tests.dashboard.shop")
        self.app = self.tasks.app
        stack.callback(self.app.close)
        self.shop = Shop(self.app)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "dashboard.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "acked", "dashboard", TARGET, "--port", str(self.port)],
                cwd=ROOT, env={**os.environ, **self.environment}, stdout=log, stderr=log,
            )  # fmt: skip
        stack.callback(self.stop)
        until(lambda: answers(self.port), what="the dashboard to answer")
        worker = Worker(
            TARGET, "-c", "2", environment=self.environment, log=directory / "worker.log"
        )
        stack.enter_context(worker).ready(2)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)


@pytest.fixture(scope="module")
def ops(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers: Servers
) -> Iterator[Ops]:
    """One dashboard for the tests of a module, on SQLite or the broker they name; each uses tasks
    of its own."""
    before = dict(os.environ)
    directory = tmp_path_factory.mktemp("dashboard")
    with ExitStack() as stack:
        place = servers.place(getattr(request, "param", "sqlite"), directory)
        yield Ops(directory, stack, place)
    os.environ.clear()
    os.environ.update(before)
