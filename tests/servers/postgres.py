"""A private PostgreSQL. It refuses to run as root, and so runs as ``nobody`` where tests do."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from acked.brokers.postgres import PostgresBroker
from tests.harness.workers import alive, until
from tests.servers.server import Server, program

PLACES = tuple(
    str(each / "bin")
    for each in sorted(Path("/usr/lib/postgresql").glob("*"), key=lambda p: p.name, reverse=True)
)
"""Where Debian keeps them, the newest first."""

UNPRIVILEGED = "nobody"


class PostgresServer(Server):
    """PostgreSQL on a free port of 127.0.0.1, with its default settings.

    Args:
        directory: Where it keeps its data and its log.
        settings: ``name=value``, of postgresql.conf.
    """

    def __init__(self, directory: Path, *settings: str) -> None:
        super().__init__(directory)
        self.data = directory / "data"
        self._settings = settings
        self._numbers = itertools.count(1)
        self._user = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        if not self.data.exists():
            self._make()

    def _make(self) -> None:
        if self._user is not None:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        subprocess.run(
            [
                *self._unprivileged(), program("initdb", *PLACES), "-D", str(self.data),
                "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync",
                "--no-instructions",
            ],
            check=True, stdout=subprocess.DEVNULL, cwd=self.directory,
        )  # fmt: skip

    def _unprivileged(self) -> list[str]:
        if self._user is None:
            return []
        return [
            program("setpriv"), f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}",
            # Said again: a change of user makes the kernel forget it.
            "--clear-groups", "--pdeathsig=KILL", "--",
        ]  # fmt: skip

    def command(self) -> list[str]:
        settings = [
            f"port={self.port}", "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.directory}", *self._settings,
        ]  # fmt: skip
        command = [*self._unprivileged(), program("postgres", *PLACES), "-D", str(self.data)]
        for setting in settings:
            command += ["-c", setting]
        return command

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.address("postgres"), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def address(self, database: str) -> str:
        """The URL of *database*."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def operator(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of an operator's."""
        return psycopg.connect(self.address(database), autocommit=True)

    def unmigrated(self) -> str:
        """A URL of a new database without any tables."""
        name = f"test_{next(self._numbers)}_{os.getpid()}"
        with self.operator() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.address(name)

    def fresh(self) -> str:
        name = f"test_{next(self._numbers)}_{os.getpid()}"
        with self.operator() as connection:
            # One database is migrated; the others are copies of it, which is quick.
            if (
                connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = 'migrated'"
                ).fetchone()
                is None
            ):
                connection.execute("CREATE DATABASE migrated")
                PostgresBroker(self.address("migrated")).migrate()
            connection.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
        return self.address(name)

    def signal(self, number: int) -> None:
        """Send *number* to the server and its sessions, each of which leads a process group."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            # Stopped first, so that it starts no more of them meanwhile.
            os.kill(self.process.pid, signal.SIGSTOP)
            sessions = self._sessions()
            for pid in (self.process.pid, *sessions):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGKILL:
                until(lambda: not any(map(alive, sessions)), "the end of every session")

    def _sessions(self) -> list[int]:
        assert self.process is not None
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def stop(self) -> None:
        """Fast shutdown: sessions are ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)
