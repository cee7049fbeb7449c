"""One SQLite connection for each thread, and what to make of it when something goes wrong.

Durability: WAL with ``synchronous=FULL``, so a commit returns after the flush to disk.

Hot operations are single statements outside any transaction of ours: SQLite takes the lock,
writes, flushes and lets go within one step, during which the interpreter is not needed. With
``BEGIN`` and ``COMMIT`` around them the lock would be held while the thread waits its turn for
the interpreter: up to 5 ms at each step when other threads compute.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
import weakref
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw

from acked.brokers.sqlite.placement import check_path, check_sqlite
from acked.errors import BrokerError, BrokerUnavailable, ConfigurationError

logger = logging.getLogger("acked.broker")

Value = int | float | str | bytes | None
Row = tuple[Value, ...]

SCHEMA_VERSION = 1
APPLICATION_ID = 0x41434B44
"""``ACKD``: tells our file from another program's (https://sqlite.org/fileformat2.html)."""

SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
TURN = Path(__file__).with_name("turn.sql").read_text(encoding="utf-8")

BUSY_PAUSE = (0.0002, 0.002)
"""Shortest and longest pause in seconds between two tries for the write lock."""

FILE_LOOK = 0.1
"""Seconds between two looks whether the file is still the one at its path: a look takes a third of
what storing a message takes of the processor."""

WAL_KEPT = 16 * 1024 * 1024
"""Bytes to which the write-ahead log is cut when it starts anew."""

WAL_LONG = 32 * 1024 * 1024
"""Bytes beyond which it is made to start anew: writers that never pause would let it grow."""

LOOK_EVERY = 8
"""Operations of a connection between two looks at its length."""

CUT_PATIENCE = (0.02, 0.25)
"""Seconds for which one try may hold writers back while it waits for readers, and for which it is
tried again: another thread's checkpoint is always in the way for a moment."""

CUT_PAUSE = (0.05, 2.0)
"""Shortest and longest pause in seconds before that is done once more."""


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
        self._local = threading.local()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._registering = threading.Lock()
        _databases.add(self)

    def session(self) -> Session:
        """The calling thread's own."""
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = Session(self)
            with self._registering:
                self._sessions.add(session)
        return session

    @contextlib.contextmanager
    def transaction(self) -> Generator[apsw.Connection]:
        """The thread's connection, in a write transaction that is committed at the end."""
        with self.session() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def version(self) -> int:
        """A number that is another one once another connection has written, for this thread."""
        with self.session() as connection:
            (version,) = fetch(connection, "PRAGMA data_version")[0]
        return int(version)

    def close(self) -> None:
        """Close the connections of every thread; each waits for its operation to end."""
        with self._registering:
            sessions = list(self._sessions)
        for session in sessions:
            with session.lock:
                session.drop()

    def freeze(self) -> list[threading.RLock]:
        """Close every connection and let none be opened; the locks to release after that."""
        self._registering.acquire()
        locks = [session.lock for session in self._sessions]
        for session in list(self._sessions):
            session.lock.acquire()
            session.drop()
        return locks

    def thaw(self, locks: list[threading.RLock]) -> None:
        """Undo `freeze`."""
        for lock in locks:
            lock.release()
        self._registering.release()


class Session:
    """One thread's connection. Entering it gives the connection; leaving it with an error rolls
    back, and raises what the error means."""

    def __init__(self, database: Database) -> None:
        self.database = database
        # Held during each operation, so that `Database.close` and a fork in another thread wait.
        self.lock = threading.RLock()
        self._connection: apsw.Connection | None = None
        self._file = (0, 0)
        self._log = database.path.with_name(f"{database.path.name}-wal")
        self._patience = database.timeout
        self._next_look = 0.0
        self._give_up = 0.0
        self._operations = 0
        self._next_cut = 0.0
        self._cut_pause = CUT_PAUSE[0]

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
        self._operations += 1
        if self._operations % LOOK_EVERY == 0:
            self._shorten_log()
        self.lock.release()

    def drop(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                connection.close(True)

    def _after(self, error: BaseException) -> None:
        """Undo what an operation that failed has begun, and raise what *error* means."""
        try:
            if isinstance(error, _SPOILED):
                self.drop()
            elif self._connection is not None and self._connection.in_transaction:
                # After a failed flush the connection stays: it knows that what it wrote last does
                # not count, and writes over it. The next to open the file alone would not.
                with contextlib.suppress(apsw.Error):
                    self._connection.execute("ROLLBACK")
        finally:
            self.lock.release()
        if isinstance(error, apsw.Error):
            raise self._meaning(error) from error
        if isinstance(error, OSError):
            raise BrokerError(
                f"{self.database.path} cannot be opened: {error.strerror}. Its directory must let "
                "this process read and write there."
            ) from error

    def _renew(self) -> apsw.Connection:
        """A connection that is open, in no transaction, and to the file that is there now."""
        connection = self._connection
        # What is written to a file that was deleted or replaced, nobody will ever read.
        if connection is None or self._file != _identity(self.database.path):
            self.drop()
            return self._open()
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return connection

    def _open(self) -> apsw.Connection:
        path = self.database.path
        check_path(path)
        # Made by us, so that nobody else can read it for even a moment. SQLite gives the files
        # beside it the same rights.
        with contextlib.suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(path, flags, 0o600))
        identity = _identity(path)
        connection = apsw.Connection(
            str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=self.database.vfs
        )
        self._connection, self._file = connection, identity
        try:
            connection.set_busy_handler(self._wait_for_lock)
            _set_up(connection, path)
        except BaseException:
            self.drop()
            raise
        return connection

    def _shorten_log(self) -> None:
        """Have the next writer start the log anew, if it is long.

        A checkpoint beside other writers never quite catches up with them, and the log starts
        anew only when one has. This one holds the writers back while it copies the rest. It waits
        for readers, but no longer than ours take: a program that keeps a snapshot open makes the
        log grow, and waiting for it would stop everybody.
        """
        now = time.monotonic()
        try:
            if now < self._next_cut or self._log.stat().st_size <= WAL_LONG:
                return
            self._next_cut = now + self._cut_pause
            self._cut_pause = min(self._cut_pause * 2, CUT_PAUSE[1])
            self._patience, give_up = CUT_PATIENCE[0], now + CUT_PATIENCE[1]
            while not self._cut_log() and time.monotonic() < give_up:
                time.sleep(BUSY_PAUSE[1])
        except (apsw.Error, OSError) as error:
            # What was committed is safe in the log; the next attempt may have more luck.
            logger.debug("could not shorten %s: %s", self._log, error)
        finally:
            self._patience = self.database.timeout

    def _cut_log(self) -> bool:
        try:
            if self._connection is not None:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            return False
        self._cut_pause, self._next_cut = CUT_PAUSE[0], 0.0
        return True

    def _wait_for_lock(self, tries: int) -> bool:
        now = time.monotonic()
        if tries == 0:
            self._give_up = now + self._patience
        elif now > self._give_up:
            return False
        shortest, longest = BUSY_PAUSE
        time.sleep(min(longest, shortest * 1.2 ** min(tries, 40)))
        return True

    def _meaning(self, error: apsw.Error) -> BrokerError:
        path = self.database.path
        code = getattr(error, "extendedresult", 0)
        what = str(error) or str(apsw.mapping_extended_result_codes.get(code, code))
        match error:
            case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
                return BrokerUnavailable(
                    f"{path} was locked by another program for {self.database.timeout:g} s; "
                    "nothing was stored. Try again; `fuser` names the programs that have it open."
                )
            case apsw.FullError():
                return BrokerError(
                    f"no room left for {path}; nothing was stored. Free space on its disk."
                )
            case apsw.IOError():
                return BrokerError(
                    f"the disk failed under {path} ({what}); do not count on what was to be "
                    "stored. The system's log says more."
                )
            case apsw.CorruptError() | apsw.NotADBError():
                return BrokerError(
                    f"{path} is damaged or no SQLite database ({what}). Restore it from a backup, "
                    "or move it away to start anew."
                )
            case apsw.CantOpenError() | apsw.ReadOnlyError() | apsw.PermissionsError():
                return BrokerError(
                    f"{path} cannot be written ({what}); nothing was stored. "
                    "Its owner and rights must let this process read and write it."
                )
            case _:
                return BrokerError(f"{path} refused the operation: {what}; nothing was stored")


_SPOILED = (apsw.CantOpenError, apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError)
"""Errors after which another connection may do better."""


def _set_up(connection: apsw.Connection, path: Path) -> None:
    """Make of a fresh connection what every one of ours is.

    Raises:
        ConfigurationError: The file is another program's, or of a newer acked.
    """
    if not _is_ours(connection, path):
        _create(connection, path)
    connection.pragma("synchronous", "FULL")
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("cache_size", -8192)
    connection.pragma("trusted_schema", 0)
    connection.pragma("journal_size_limit", WAL_KEPT)
    connection.execute(TURN)


def _is_ours(connection: apsw.Connection, path: Path) -> bool:
    """Whether the tables are there; False for an empty file."""
    made_by, version = connection.pragma("application_id"), connection.pragma("user_version")
    if made_by == APPLICATION_ID:
        if version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"{path} was made by another version of acked (format {version}, known here: "
                f"{SCHEMA_VERSION}). Upgrade acked here: pip install --upgrade acked"
            )
        return True
    if made_by or version or fetch(connection, "SELECT 1 FROM sqlite_schema LIMIT 1"):
        raise ConfigurationError(
            f"{path} is the database of another program. Name a file for acked alone in the "
            "broker's URL."
        )
    return False


def _create(connection: apsw.Connection, path: Path) -> None:
    # One after the other: SQLite does not wait for the lock that the change to WAL needs.
    turn = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if _is_ours(connection, path):
            return
        connection.pragma("auto_vacuum", "INCREMENTAL")
        connection.pragma("journal_mode", "WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(SCHEMA)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", SCHEMA_VERSION)
        connection.execute("COMMIT")
    finally:
        os.close(turn)


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
    except FileNotFoundError:
        return (0, 0)
    return (about.st_dev, about.st_ino)


# A connection must not cross a fork: the locks it believes it holds stay with the parent, and
# SQLite would believe it in the child for every later connection to the same file as well. So
# this process has none open while it forks.

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
