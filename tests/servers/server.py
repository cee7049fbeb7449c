"""Private servers for tests: on free ports of 127.0.0.1, with data in a directory of their own.

Each engine has its module beside this one, with a subclass that says how it is started, when it
answers, and how an empty place in it is made.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.workers import stand_still

START_SECONDS = 60.0


PORTS = range(10_000, 30_000)
"""Below the ports that Linux gives to outgoing connections (32,768 and up): one of those could take
the port of a server that is yet to start, or that a test has stopped for a while."""
_claims: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that no other test process is given as long
    as this one lives."""
    while True:
        port = random.choice(PORTS)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0acked-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port


def program(name: str, *places: str) -> str:
    """Where the installed program *name* is; Debian keeps some outside PATH, in *places*.

    Raises:
        AssertionError: It is not installed. `make test` installs it.
    """
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    assert found is not None, f"{name} is not installed; `make test` installs it"
    return found


def mortal(command: list[str]) -> list[str]:
    """*command*, killed when the thread that starts it is gone: also a session that was killed
    leaves no server behind."""
    return [program("setpriv"), "--pdeathsig=KILL", "--", *command]


class Server:
    """A server process. Subclasses give `command` and `answers`, and `fresh`.

    Args:
        directory: Where it keeps its data and its log.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.surroundings: dict[str, str] = {}
        """Environment variables a test adds."""

    def command(self) -> list[str]:
        """The command that starts it in the foreground, on `port`."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Environment variables it needs."""
        return {}

    def answers(self) -> bool:
        """Whether it takes requests now."""
        raise NotImplementedError

    def fresh(self) -> str:
        """A broker URL of an empty place in it that no other test uses."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start it, on the data that is there, and wait until it answers."""
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                mortal(self.command()), cwd=self.directory,
                env={**os.environ, **self.environment(), **self.surroundings},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, f"{self.command()[0]} ended: {self.output()}"
            assert time.monotonic() < deadline, f"no answer of {self.command()[0]}: {self.output()}"
            time.sleep(0.02)  # between two looks
        return self

    def output(self) -> str:
        """The end of what it has logged."""
        return (self.directory / "server.log").read_text(errors="replace")[-4000:]

    def signal(self, number: int) -> None:
        """Send *number* to the server and everything it started."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay, nothing is answered."""
        self.signal(signal.SIGSTOP)
        stand_still(self._group())

    def _group(self) -> list[int]:
        assert self.process is not None
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_bytes().rsplit(b")", 1)[1].split()[2]) == self.process.pid:
                    found.append(int(stat.parent.name))
        return found

    def thaw(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, at once."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    def close(self) -> None:
        """End it for good, with everything that was started for it, by force."""
        self.kill()

    def stop(self) -> None:
        """End it in good order, or by force where that takes long."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()
