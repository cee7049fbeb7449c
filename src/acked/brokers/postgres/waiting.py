"""How a thread waits for work, and how it is told of some: `Broker.wait`, `Broker.interrupt`.

A thread that waits takes a connection that listens. It first takes the advisory lock of each of its
queues, shared, which says that somebody waits there; then it looks for work; and only then it
sleeps, on the connection's socket. A sender commits its task, and only then looks whether it could
have such a lock for itself alone; where it cannot, it notifies. So one of the two sees the other,
and where nobody waits, nobody is notified: NOTIFY takes a lock of the whole instance when it
commits. An advisory lock is memory of the server, so none of this leaves rows behind, and it goes
with its connection.

A wake-up is a hint. One may be lost: a sender dies between the two, or the connection that listens
breaks. So a waiter looks again every `NET` seconds.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence

from acked.bells import Interrupts
from acked.brokers.postgres.address import signed
from acked.brokers.postgres.connection import Call, Database, Session, Statement
from acked.brokers.postgres.looking import Looks
from acked.brokers.postgres.meaning import Broken, Refused, TimedOut, meaning
from acked.brokers.postgres.values import int4, int4s, texts
from acked.clock import Clock, ServerClock

NET = 0.8
"""Seconds after which a waiter looks again, whatever it was told."""

RAISE_FLAGS = Statement(
    "SELECT pg_advisory_lock_shared($1, key) FROM unnest($2::int4[]) AS key", "b"
)
LOWER_FLAGS = Statement("SELECT pg_advisory_unlock_all()", "b")
NEXT_WORK = Statement(
    "SELECT {schema}.next_work($1, $2, $3, $4, $5), extract(epoch FROM clock_timestamp())::float8",
    "dd",
)


class Waiting:
    """Who of this process waits for work.

    Args:
        database: Where the work is.
        clock: The caller's own; None for the server's.
        server_clock: Is told the server's time.
        looks: Where to begin to look for work.
    """

    def __init__(
        self, database: Database, clock: Clock | None, server_clock: ServerClock, looks: Looks
    ) -> None:
        # Connections that listen are kept apart from the others, to which notifications would come
        # as well.
        self._listening = Database(database.address, timeout=database.timeout)
        self._clock = clock
        self._server_clock = server_clock
        self._looks = looks
        self._space = database.address.lock_space
        self._listens: dict[str, Statement] = {}
        self._local = threading.local()
        self._interrupts = Interrupts()
        # Replaced, never changed: a signal handler may read it at any moment.
        self._bells: frozenset[_Bell] = frozenset()
        self._pid = os.getpid()
        self._adding = threading.Lock()

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        bell = self._bell()
        if self._interrupts.reached():
            return
        shown, limit = self._listening.address.shown, self._listening.timeout
        until = time.monotonic() + timeout
        try:
            session = self._listening.take(time.monotonic() + limit)
        except (Broken, Refused, TimedOut) as error:
            raise meaning(error, shown, limit) from None
        try:
            self._wait_on(session, bell, queues, until)
            session.run([[Call(LOWER_FLAGS)]], time.monotonic() + limit)
        except (Broken, Refused, TimedOut) as error:
            session.close()
            if isinstance(error, TimedOut) or (
                isinstance(error, Refused) and not error.ends_connection
            ):
                raise meaning(error, shown, limit) from None
            # Whoever waits looks for work himself when this returns, and hears what is wrong.
        except BaseException:
            session.close()
            raise
        finally:
            self._listening.give_back(session)

    def interrupt(self) -> None:
        self._interrupts.add()
        if self._pid == os.getpid():
            for bell in self._bells:
                os.eventfd_write(bell.descriptor, 1)

    def close(self) -> None:
        """Let every wait return, and close the connections that listen."""
        self.interrupt()
        self._listening.close()

    def _wait_on(self, session: Session, bell: int, queues: Sequence[str], until: float) -> None:
        keys = sorted({signed(queue) for queue in queues})
        flags = Call(RAISE_FLAGS, (int4(self._space), int4s(keys)))
        listen = [Call(each) for each in self._listen(keys)]
        session.drain()
        first: list[list[Call]] = [[*listen, flags]]
        while True:
            look = Call(NEXT_WORK, [texts(queues), *self._looks.parameters(queues)])
            limit = time.monotonic() + self._listening.timeout
            asked = self._server_clock.here()
            *_, ((due, now),) = session.run([*first, [look]], limit)
            first = []
            if self._clock is not None:
                now = self._clock.now()
            else:
                self._server_clock.sync(now, asked)
            left = until - time.monotonic()
            seconds = left if due is None else min(left, due - now)
            if seconds <= 0 or self._interrupts.reached():
                return
            if session.sleep(bell, min(seconds, NET)) or self._interrupts.reached():
                return
            if seconds <= NET:
                return

    def _listen(self, keys: Sequence[int]) -> list[Statement]:
        return [
            self._listens.setdefault(channel, Statement(f'LISTEN "{channel}"'))
            for channel in (f"acked_{self._space}_{key}" for key in keys)
        ]

    def _bell(self) -> int:
        """What can be read once the calling thread is to wake up."""
        if self._pid != os.getpid():  # Those are the parent's.
            self._adding, self._bells, self._pid = threading.Lock(), frozenset(), os.getpid()
            self._local = threading.local()
        bell: _Bell | None = getattr(self._local, "bell", None)
        if bell is None:
            with self._adding:
                bell = next((each for each in self._bells if each.is_free), None) or _Bell()
                bell.thread = threading.current_thread()
                self._bells |= {bell}
            self._local.bell = bell
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(bell.descriptor)
        return bell.descriptor


class _Bell:
    """What wakes one thread: an eventfd, to which a signal handler may write.

    Threads end without a word, and a handler may be about to write to any bell there ever was. So
    none is closed as long as anybody might ring it; the next thread takes it over.
    """

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def is_free(self) -> bool:
        """Whether its thread has ended."""
        return not self.thread.is_alive()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.descriptor)
