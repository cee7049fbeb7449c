"""The supervisor's side of the fork server: its process, and the channel to it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time

import msgspec

from acked.worker import wire
from acked.worker.options import WorkerOptions

PATIENCE = 10.0
"""Seconds a fork server that was let go of is given to end."""


class ForkServer:
    """One fork server.

    Args:
        target: The application.
        options: The worker's.
        generation: Its number; a reload starts another.

    Attributes:
        hello: What it said of the application; None until it has imported it.
    """

    def __init__(self, target: str, options: WorkerOptions, generation: int) -> None:
        ours, theirs = socket.socketpair()
        self.channel = wire.Channel(ours)
        self.generation = generation
        self.hello: wire.Hello | None = None
        self._closed_at = 0.0
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "acked.worker.template",
                str(theirs.fileno()), target, msgspec.json.encode(options).decode(),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()

    def close(self) -> None:
        """Let it go: it kills what it forked and ends. Does not wait."""
        self._closed_at = time.monotonic()
        self.channel.close()

    def gone(self) -> bool:
        """Whether it has ended since `close`; it is killed when it takes too long."""
        if self.process.poll() is not None:
            return True
        if time.monotonic() - self._closed_at > PATIENCE:
            self.process.kill()
        return False

    def wait(self) -> None:
        """Wait for its end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
            return
        self.process.kill()
        self.process.wait()
