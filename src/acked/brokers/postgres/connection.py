"""The connections of this process to PostgreSQL: one for each operation that is under way.

An operation is one or more prepared statements that travel together, in libpq's pipeline mode:
one round trip, and one transaction, which the server commits by itself after the last. A second
group may follow in the same round trip as a transaction of its own.

libpq itself would wait for ever for a server that has stopped in its tracks, so the waiting is
done here, with a deadline. A connection on which anything went wrong half-way is closed: whoever
comes next opens another.

A forked child has copies of its parent's sockets. It closes its copies without a word (libpq would
tell the server goodbye, in the parent's name) and opens its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import pq

from acked.brokers.postgres.address import Address
from acked.brokers.postgres.connecting import connect, milliseconds
from acked.brokers.postgres.meaning import TRY_AGAIN, Broken, Refused, TimedOut, meaning, refusal
from acked.brokers.postgres.values import READERS, Reader
from acked.errors import BrokerError, ConfigurationError

OLDEST_SERVER = 130_000
TRIES = 10
"""How often a transaction is tried that others got in the way of."""

IDLE = 8
"""Connections that are kept for later. What a burst opens beyond these is closed after it: each is
a process of the server."""

SETTINGS = (
    # Everything asked here is answered from an index; statistics of tables that are full one
    # minute and empty the next would only mislead.
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET plan_cache_mode = force_generic_plan; SET jit = off; "
    "SET default_transaction_isolation = 'read committed'; "
    "SET idle_in_transaction_session_timeout = 60000; "
    "SET lock_timeout = {timeout}; SET statement_timeout = {timeout}"
)

_OK = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class Statement:
    """SQL that is prepared once for each connection.

    Args:
        sql: With ``{schema}`` for the schema.
        columns: A letter of `READERS` for each column of the rows it gives.
    """

    def __init__(self, sql: str, columns: str = "") -> None:
        self.sql = sql
        self.columns = columns
        self.readers: list[Reader] = [READERS[each] for each in columns]


class Call(NamedTuple):
    """A statement and its parameters, in binary."""

    statement: Statement
    parameters: Sequence[bytes | None] = ()


Rows = list[tuple[Any, ...]]


class Database:
    """A PostgreSQL database, and the connections of this process to it.

    Args:
        address: Where it is.
        timeout: Seconds for each operation, the opening of a connection included.
    """

    def __init__(self, address: Address, *, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        self._idle: deque[Session] = deque()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._generation = 0
        _databases.add(self)

    def run(
        self, *calls: Call, then: Sequence[Call] = (), repeatable: bool = False,
        until: float = math.inf,
    ) -> list[Rows]:  # fmt: skip
        """Run *calls* as one transaction, and *then* as another; the rows of each call.

        Args:
            repeatable: To run it twice does no harm, so that it is tried again when the
                connection was lost half-way.
            until: Monotonic time at which the caller's own time is over.

        Raises:
            BrokerError: It failed.
        """
        deadline = min(time.monotonic() + self.timeout, until)
        groups = [calls, then] if then else [calls]
        undone = True
        for number in range(1, TRIES + 1):
            try:
                session = self.take(deadline)
                try:
                    rows = session.run(groups, deadline)
                except BaseException as error:
                    undone &= isinstance(error, Refused) and error.undone
                    if not isinstance(error, Refused) or error.ends_connection:
                        session.close()
                    raise
                finally:
                    self.give_back(session)
            except Refused as error:
                again = error.state in TRY_AGAIN or (repeatable and error.ends_connection)
                if not again or number == TRIES or time.monotonic() >= deadline:
                    raise self._meaning(error, undone) from None
                time.sleep(min(0.001 * 2**number, 0.1))
            except (Broken, TimedOut) as error:
                if (
                    not repeatable
                    or number > 1
                    or isinstance(error, TimedOut)
                    or time.monotonic() >= deadline
                ):
                    raise self._meaning(error, undone) from None
            else:
                return rows
        raise AssertionError("the last try returns or raises")

    def _meaning(self, error: Exception, undone: bool) -> BrokerError:
        return meaning(error, self.address.shown, self.timeout, undone=undone)

    def take(self, deadline: float) -> Session:
        """A connection that nobody uses and that is still good, as far as one can tell.

        Raises:
            Broken: None can be made.
            TimedOut: Not before *deadline*.
        """
        while self._idle:
            with contextlib.suppress(IndexError):
                session = self._idle.pop()
                if session.generation == self._generation and session.is_quiet():
                    return session
                session.close()
        session = Session(self.address, self.timeout, deadline, self._generation)
        self._sessions.add(session)
        return session

    def give_back(self, session: Session) -> None:
        """The operation is over."""
        if session.generation != self._generation:
            session.close()
        if session.is_open:
            # The latest is the next, so that those which a burst has opened stay untouched.
            self._idle.append(session)
            while len(self._idle) > IDLE:
                with contextlib.suppress(IndexError):
                    self._idle.popleft().close()

    def close(self) -> None:
        """Close every connection, each when its operation has ended."""
        self._generation += 1
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def abandon(self) -> None:
        """Forget every connection; for a forked child."""
        self._generation += 1
        self._idle = deque()
        for session in list(self._sessions):
            session.abandon()


class Session:
    """One connection, used by one thread at a time.

    Args:
        address: Where to.
        timeout: Seconds that the server may take for a statement.
        deadline: Monotonic time until which it must be there.
        generation: Of the database's connections; it is closed when that is over.

    Raises:
        Broken: The server cannot be reached, or refuses.
        TimedOut: Not in time.
        ConfigurationError: The server is too old.
    """

    def __init__(
        self, address: Address, timeout: float, deadline: float, generation: int = 0
    ) -> None:
        self.generation = generation
        self._schema = address.quoted_schema
        self._names: dict[Statement, bytes] = {}  # of what is prepared here
        self._poll = select.poll()
        self._connection = connect(address, deadline)
        self.is_open = True
        try:
            version = self._connection.server_version
            if version < OLDEST_SERVER:
                raise ConfigurationError(
                    f"{address.shown} is PostgreSQL {version // 10_000}; acked needs 13 or newer."
                )
            self._connection.nonblocking = 1
            self.descriptor = self._connection.socket
            self._poll.register(self.descriptor, select.POLLIN)
            self._connection.send_query(SETTINGS.format(timeout=int(timeout * 1000)).encode())
            while (result := self._result(deadline)) is not None:
                if result.status not in _OK:
                    raise refusal(result)
            self._connection.enter_pipeline_mode()
        except psycopg.OperationalError as error:
            self.close()
            raise Broken(str(error)) from None
        except BaseException:
            self.close()
            raise

    def run(self, groups: Sequence[Sequence[Call]], deadline: float) -> list[Rows]:
        """Run each of *groups* as a transaction, all in one round trip.

        Raises:
            Refused: A statement failed; its group is rolled back, later ones may have run.
            Broken, TimedOut: The connection is of no use any more.
        """
        calls = [call for group in groups for call in group]
        fresh = dict.fromkeys(call.statement for call in calls if call.statement not in self._names)
        connection = self._connection
        try:
            if fresh:
                self._prepare(list(fresh), deadline)
            for group in groups:
                for statement, parameters in group:
                    connection.send_query_prepared(
                        self._names[statement], parameters, [1] * len(parameters), 1
                    )
                connection.pipeline_sync()
            results = self._results(len(groups), deadline)
        except psycopg.OperationalError as error:
            raise Broken(str(error)) from None
        return [_rows(result, call.statement) for result, call in zip(results, calls, strict=True)]

    def sleep(self, bell: int, seconds: float) -> bool:
        """Until a notification comes, or *bell* can be read, or for *seconds*; whether one came.

        Raises:
            Broken: The connection was lost.
        """
        if self.drain():  # It came with the answer to the last statement.
            return True
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        poll.register(bell, select.POLLIN)
        ready = dict(poll.poll(max(0, math.ceil(seconds * 1000))))
        return self.drain() if self.descriptor in ready else False

    def drain(self) -> bool:
        """Forget the notifications that have come; whether there were any.

        Raises:
            Broken: The connection was lost.
        """
        try:
            self._connection.consume_input()
            if self._connection.status != pq.ConnStatus.OK:
                raise Broken("the connection was lost")
            came = False
            while self._connection.notifies() is not None:
                came = True
        except psycopg.OperationalError as error:
            raise Broken(str(error)) from None
        return came

    def is_quiet(self) -> bool:
        """Whether the server has said nothing of its own accord, such as goodbye. Notifications,
        which come to who listens between two waits as well, are forgotten."""
        if not self._poll.poll(0):
            return True
        try:
            self.drain()
        except Broken:
            return False
        return not self._poll.poll(0)

    def close(self) -> None:
        """Close it; harmless when repeated."""
        self.is_open = False
        self._connection.finish()

    def abandon(self) -> None:
        """Let go of the parent's socket without a word; for a forked child."""
        if self.is_open:
            self.is_open = False
            with contextlib.suppress(OSError, psycopg.Error):
                os.close(self._connection.socket)

    def _prepare(self, statements: Sequence[Statement], deadline: float) -> None:
        """In a round trip of its own: one that fails must not be taken for prepared.

        Those before it are prepared on the server all the same. So the connection is closed: their
        names would be refused here from then on.
        """
        names = {each: f"a{len(self._names) + n}".encode() for n, each in enumerate(statements)}
        for statement, name in names.items():
            sql = statement.sql.replace("{schema}", self._schema)
            self._connection.send_prepare(name, sql.encode())
        self._connection.pipeline_sync()
        try:
            self._results(1, deadline)
        except Refused:
            self.close()
            raise
        self._names.update(names)

    def _results(self, groups: int, deadline: float) -> list[pq.abc.PGresult]:
        """What the server answers to *groups* of statements.

        Raises:
            Refused: The first error among them.
        """
        all_groups = groups
        results: list[pq.abc.PGresult] = []
        refused: Refused | None = None
        self._flush(deadline)
        while groups:
            result = self._result(deadline)
            if result is None:  # The end of one statement's answer.
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                groups -= 1
            elif result.status in _OK:
                results.append(result)
            elif result.status != pq.ExecStatus.PIPELINE_ABORTED and refused is None:
                refused = refusal(result)
                refused.group = all_groups - groups
                if refused.ends_connection:
                    break
        if refused is not None:
            raise refused
        return results

    def _flush(self, deadline: float) -> None:
        """Send everything. What the server says meanwhile is taken in, or both might wait for the
        other to read."""
        connection = self._connection
        while connection.flush():
            self._poll.modify(self.descriptor, select.POLLIN | select.POLLOUT)
            try:
                ready = self._poll.poll(milliseconds(deadline))
            finally:
                self._poll.modify(self.descriptor, select.POLLIN)
            if not ready:
                raise TimedOut
            if ready[0][1] & ~select.POLLOUT:
                connection.consume_input()

    def _result(self, deadline: float) -> pq.abc.PGresult | None:
        connection = self._connection
        while connection.is_busy():
            if not self._poll.poll(milliseconds(deadline)):
                raise TimedOut
            connection.consume_input()
        result = connection.get_result()
        if result is None and connection.status != pq.ConnStatus.OK:
            raise Broken(connection.get_error_message())
        return result


def _rows(result: pq.abc.PGresult, statement: Statement) -> Rows:
    get, readers = result.get_value, list(enumerate(statement.readers))
    return [
        tuple(None if (raw := get(row, column)) is None else read(raw) for column, read in readers)
        for row in range(result.ntuples)
    ]


_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _abandon_all() -> None:
    for database in list(_databases):
        database.abandon()


os.register_at_fork(after_in_child=_abandon_all)
