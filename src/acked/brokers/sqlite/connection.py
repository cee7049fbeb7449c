"""The connections of this process to the file, and what to make of them when something goes wrong.

Each operation takes an idle connection, or opens one more, so that there are as many as there ever
were operations at once. One for each thread would be opened and closed again by every short-lived
thread; and the last to close copies the whole log.

Durability: WAL with ``synchronous=FULL``, so a commit returns after the flush to disk.

Hot operations are single statements outside any transaction of ours: SQLite takes the lock,
writes, flushes and lets go within one step, during which the interpreter is not needed. With
``BEGIN`` and ``COMMIT`` around them the lock would be held while the thread waits its turn for
the interpreter: up to 5 ms at each step when other threads compute.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw

from acked.brokers.sqlite import wal
from acked.brokers.sqlite.meaning import SPOILED, meaning
from acked.brokers.sqlite.placement import check_path, check_sqlite
from acked.brokers.sqlite.schema import in_turn, set_up
from acked.errors import BrokerUnavailable, ConfigurationError

Value = int | float | str | bytes | None
Row = tuple[Value, ...]

FILE_LOOK = 0.1
"""Seconds between two looks whether the file is still the one at its path: a look takes a third of
what storing a message takes of the processor."""


class Database:
    """The file, and the connections of this process to it.

    Args:
        path: The database; made when it is first used.
        timeout: Seconds to wait for other writers.
        vfs: Name of an SQLite file system layer; tests put a failing disk there.
    """

    def __init__(self, path: Path, *, timeout: float, vfs: str | None = None) -> None:
        check_sqlite()
        self.path = path
        self.timeout = timeout
        self.vfs = vfs
        # Of the directory, once the file was found or made there.
        self._device: int | None = None
        # The latest is the next: its pages are in memory.
        self.idle: deque[Session] = deque()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._registering = threading.Lock()
        _databases.add(self)

    def session(self, until: float = math.inf) -> Session:
        """One that nobody uses, to be entered at once; it waits for no lock beyond *until*
        (monotonic seconds)."""
        try:
            session = self.idle.pop()
        except IndexError:
            session = Session(self)
            with self._registering:
                self._sessions.add(session)
        session.patience.until = until
        return session

    @contextlib.contextmanager
    def transaction(self, until: float = math.inf) -> Generator[apsw.Connection]:
        """A connection, in a write transaction that is committed at the end."""
        with self.session(until) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def version(self) -> tuple[int, int, int]:
        """Something else than before once anything was written, and perhaps when nothing was."""
        session = self.session()
        with session as connection:
            (version,) = fetch(connection, "PRAGMA data_version")[0]
        # Each connection counts for itself, from the same number on, and without what it wrote
        # itself.
        return session.number, version, connection.total_changes()

    def make(self, patience: wal.Patience) -> None:
        """Make the file if it is not there.

        Raises:
            apsw.BusyError: Somebody else makes one in that directory, for longer than *patience*.
            BrokerUnavailable: It was there, and its directory or volume is away.
            ConfigurationError: It was never there, and may not be.
            OSError: It cannot be made.
        """
        path = self.path
        try:
            check_path(path)
        except ConfigurationError as error:
            if self._device is None:
                raise
            raise BrokerUnavailable(str(error), nothing_stored=True) from None
        device = path.parent.stat().st_dev
        if self._device not in (None, device) and not path.exists():
            # What is stored below a mount point, nobody finds once the volume is back.
            raise BrokerUnavailable(
                f"{path} is gone with the volume it was on. Mount that again, or start anew what "
                "is to make another database there.",
                nothing_stored=True,
            )
        # By us, so that nobody else can read it for even a moment. SQLite gives the files beside
        # it the same rights.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        if not path.exists():
            # In turn: as long as the file is not there, what lies beside it is of one before, which
            # was removed alone. Processes that have that open still hold its index, and SQLite
            # would read the new log by it.
            with in_turn(path.parent, patience):
                if not path.exists():
                    for left in ("-wal", "-shm"):
                        path.with_name(f"{path.name}{left}").unlink(missing_ok=True)
                    os.close(os.open(path, flags, 0o600))
        self._device = device

    def close(self) -> None:
        """Close every connection, each when its operation has ended."""
        with self._registering:
            sessions = list(self._sessions)
        for session in sessions:
            with session.lock:
                session.drop()

    def freeze(self) -> list[threading.RLock]:
        """Close every connection and let none be opened; the locks to release after that."""
        self._registering.acquire()
        sessions = list(self._sessions)
        for session in sessions:
            session.lock.acquire()
            session.drop()
        return [session.lock for session in sessions]

    def thaw(self, locks: list[threading.RLock]) -> None:
        """Undo `freeze`."""
        for lock in locks:
            lock.release()
        self._registering.release()


class Session:
    """One connection. Entering it gives the connection; leaving it with an error rolls back, and
    raises what the error means."""

    def __init__(self, database: Database) -> None:
        self.database = database
        # Held during each operation, so that `Database.close` and a fork in another thread wait.
        self.lock = threading.RLock()
        self.number = 0  # of its connection, among all of this process
        self._connection: apsw.Connection | None = None
        self._file = (0, 0)
        self._next_look = 0.0
        self.patience = wal.Patience(database.timeout)
        self._log = wal.LogKeeper(database.path, self.patience)

    def __enter__(self) -> apsw.Connection:
        self.lock.acquire()
        connection, now = self._connection, time.monotonic()
        if (
            connection is None
            or now >= self._next_look
            or connection.in_transaction  # An exception came between BEGIN and us, from a signal.
        ):
            self._next_look = now + FILE_LOOK
            try:
                connection = self._renew()
            except BaseException as error:
                self._after(error)
                raise
        return connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._after(error)
            return
        try:
            if self._connection is not None:
                self._log.operation_done(self._connection)
        finally:
            self._leave()

    def _leave(self) -> None:
        self.lock.release()
        self.database.idle.append(self)

    def drop(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                connection.close(True)

    def _after(self, error: BaseException) -> None:
        """Undo what an operation that failed has begun, and raise what *error* means."""
        try:
            if isinstance(error, SPOILED):
                self.drop()
            elif self._connection is not None and self._connection.in_transaction:
                # After a failed flush the connection stays: it knows that what it wrote last does
                # not count, and writes over it. The next to open the file alone would not.
                with contextlib.suppress(apsw.Error):
                    self._connection.execute("ROLLBACK")
            if isinstance(error, apsw.FullError):
                self._log.is_full, self._next_look = True, 0.0
        finally:
            self._leave()
        if isinstance(error, apsw.Error):
            raise meaning(error, self.database.path, self.database.timeout) from error

    def _renew(self) -> apsw.Connection:
        """A connection that is open, in no transaction, and to the file that is there now."""
        connection = self._connection
        # What is written to a file that was deleted or replaced, nobody will ever read.
        if connection is None or self._file != _identity(self.database.path):
            self.drop()
            return self._open()
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if self._log.is_full:
            self._log.begin_anew(connection)
        return connection

    def _open(self) -> apsw.Connection:
        path = self.database.path
        try:
            self.database.make(self.patience)
        except OSError as error:
            raise meaning(error, path, self.database.timeout) from error
        identity = _identity(path)
        connection = apsw.Connection(
            str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=self.database.vfs
        )
        self._connection, self._file, self.number = connection, identity, next(_numbers)
        try:
            connection.set_busy_handler(self.patience)
            set_up(
                connection, path, patience=self.patience, log_limit=wal.KEPT,
                checkpoint_after=wal.CHECKPOINT_AFTER,
            )  # fmt: skip
        except BaseException:
            self.drop()
            raise
        return connection


def fetch(
    connection: apsw.Connection,
    sql: str,
    bindings: Sequence[Value] | Mapping[str, Value] = (),
) -> list[tuple[Any, ...]]:
    """Every row that *sql* gives, so that no statement is left half-way, holding a snapshot."""
    return connection.execute(sql, bindings).fetchall()


def _identity(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return (0, 0)
    return (about.st_dev, about.st_ino)


# A connection must not cross a fork: the locks it believes it holds stay with the parent, and
# SQLite would believe it in the child for every later connection to the same file as well. So
# this process has none open while it forks.

_numbers = itertools.count(1)
_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_forking = threading.Lock()
_frozen: list[tuple[Database, list[threading.RLock]]] = []


def _before_fork() -> None:
    _forking.acquire()
    _frozen.extend((database, database.freeze()) for database in list(_databases))


def _after_fork() -> None:
    while _frozen:
        database, locks = _frozen.pop()
        database.thaw(locks)
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
