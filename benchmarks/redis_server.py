"""A Redis of the benchmark's own: a free port of 127.0.0.1, nothing kept on disk."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import ProcessTree, running

_START_SECONDS = 10.0


def redis_version() -> str | None:
    """As `redis-server --version` says it; None where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return next((word[2:] for word in said.split() if word.startswith("v=")), said.strip())


@contextmanager
def redis_server(directory: Path) -> Generator[tuple[ProcessTree, str]]:
    """A server as long as the block runs, and its URL.

    Raises:
        RuntimeError: It is not installed, or did not start.
    """
    if shutil.which("redis-server") is None:
        raise RuntimeError("Celery is measured on Redis: install it (apt-get install redis-server)")
    port = _free_port()
    command = [
        "redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory),
        "--save", "", "--appendonly", "no",
    ]  # fmt: skip
    with running(command, os.environ, directory / "redis.log") as tree:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port):
            tree.check_alive()
            if time.monotonic() > deadline:
                raise RuntimeError(f"redis-server did not answer within {_START_SECONDS:g} s")
            time.sleep(0.02)
        yield tree, f"redis://127.0.0.1:{port}/0"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
