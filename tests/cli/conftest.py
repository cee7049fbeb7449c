"""A broker that processes share, and the command line run on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from acked import cli
from acked.broker import Engine
from acked.brokers.memory import MemoryBroker
from acked.brokers.sqlite import SQLiteBroker
from acked.clock import ManualClock
from tests.cli.scenario import fill

SHOP = """
from acked import Acked

app = Acked("shop", broker="sqlite:///{path}")


@app.task
def scan(user: str, password: str) -> int:
    return 1


@app.task(queue="mails", acks_late=False)
def mail(to: str) -> None:
    pass


print("imported")
"""


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Acked = Callable[..., Ended]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def memory(clock: ManualClock) -> Engine:
    """A broker of this process with one task in each state."""
    store = MemoryBroker(clock)
    fill(store, clock.now())
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the broker that processes share."""
    return tmp_path / "shop.acked.db"


@pytest.fixture
def store(path: Path) -> Iterator[Engine]:
    """That broker, empty."""
    opened = SQLiteBroker(path)
    opened.setup()
    yield opened
    opened.close()


@pytest.fixture
def shop(path: Path, tmp_path: Path) -> Path:
    """A directory with an application in it: ``shop:app``."""
    (tmp_path / "shop.py").write_text(SHOP.format(path=path))
    return tmp_path


@pytest.fixture
def acked(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Acked:
    """Runs one command inside this process, on the broker's file."""
    monkeypatch.setenv("ACKED_BROKER_URL", f"sqlite:///{path}")
    monkeypatch.delenv("ACKED_APP", raising=False)
    monkeypatch.delenv("ACKED_DEBUG", raising=False)

    def run(*args: str) -> Ended:
        capsys.readouterr()
        code = cli.run(args)
        written = capsys.readouterr()
        return Ended(int(code), written.out, written.err)

    return run


@pytest.fixture
def shell(shop: Path) -> Acked:
    """Runs one command as a process of its own, in the application's directory."""

    def run(*args: str, **environment: str) -> Ended:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ACKED")}
        ended = subprocess.run(
            [sys.executable, "-m", "acked", *args],
            cwd=shop, env=clean | environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run
