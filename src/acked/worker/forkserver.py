"""The supervisor's side of fork servers: their processes, the channels to them, and which of them
starts new processes."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time

import msgspec

from acked.supervision import restart_delay
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


class ForkServers:
    """Which fork server starts new processes, which still has old ones, and when the next is made.

    Args:
        target: The application.
        options: The worker's.

    Attributes:
        current: The one that starts processes; None while there is none.
    """

    def __init__(self, target: str, options: WorkerOptions) -> None:
        self._target = target
        self._options = options
        self._generation = 0
        self._old: list[ForkServer] = []
        self._closed: list[ForkServer] = []
        self._deaths: list[float] = []
        self._start_at = 0.0
        self.current: ForkServer | None = None

    @property
    def open(self) -> list[ForkServer]:
        """Those that are to be listened to."""
        return [*([self.current] if self.current is not None else []), *self._old]

    @property
    def can_start(self) -> bool:
        """Whether there is one that has imported the application."""
        return self.current is not None and self.current.hello is not None

    @property
    def replacing(self) -> bool:
        """Whether one with old code is still there beside one with new."""
        return bool(self._old) and self.can_start

    def start(self) -> None:
        """Import the application; anew where there is a fork server already, which stays until the
        processes it forked are replaced."""
        if self.current is not None:
            self._old.append(self.current)
        self.current = self._new()

    def retire(self) -> None:
        """Let go of those with old code."""
        for server in self._old:
            self._let_go(server)
        self._old.clear()

    def keep(self, now: float, *, stopping: bool) -> None:
        """Collect those that have ended, and make one where there is none and it is time."""
        self._closed = [server for server in self._closed if not server.gone()]
        if self.current is None and not stopping and now >= self._start_at:
            self.current = self._new()

    def failed(self, server: ForkServer) -> None:
        """*server* is of no use: go on with the code before, where there is some; else try again,
        ever more slowly."""
        self._let_go(server)
        if server is not self.current:
            self._old.remove(server)
        elif server.hello is None and self._old:
            self.current = self._old.pop()
        else:
            self.current = None
            now = time.monotonic()
            self._deaths = [*self._deaths[-20:], now]
            self._start_at = now + restart_delay(self._deaths, now)

    def end(self) -> None:
        """Let go of all, and wait for their ends."""
        for server in self.open:
            server.close()
            if server.hello is None:
                # It imports the application, however long that takes, and has forked nothing.
                server.process.kill()
            server.wait()
        for server in self._closed:
            server.wait()

    def _new(self) -> ForkServer:
        self._generation += 1
        return ForkServer(self._target, self._options, self._generation)

    def _let_go(self, server: ForkServer) -> None:
        server.close()
        self._closed.append(server)
