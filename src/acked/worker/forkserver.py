"""The supervisor's side of the fork server: its process, and the channel to it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

import msgspec

from acked.worker import wire
from acked.worker.options import WorkerOptions


class ForkServer:
    """The fork server's process, and the channel to it."""

    def __init__(self, target: str, options: WorkerOptions, generation: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = ours
        self.generation = generation
        self.hello: wire.Hello | None = None
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
        """Let it go; it kills what it forked and ends."""
        self.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
