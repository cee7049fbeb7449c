"""What all the methods of the broker stand on."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from acked.broker import DEFAULT_LEASE
from acked.brokers.postgres.address import signed
from acked.brokers.postgres.connection import Call, Database, Statement
from acked.brokers.postgres.looking import Looks
from acked.brokers.postgres.values import float8, int4, int4s, int8
from acked.brokers.postgres.waiting import Waiting
from acked.clock import Clock, ServerClock

PLACE = Statement("SELECT id::text, current_database()::text FROM {schema}.place", "tt")
WAKE = Statement("SELECT {schema}.wake($1, $2)", "b")


class Store:
    """A database, the time, and who waits for work.

    Args:
        database: The database.
        clock: The caller's own; None for the server's.
    """

    def __init__(self, database: Database, clock: Clock | None) -> None:
        self._database = database
        self._given_clock = clock
        self._server_clock = ServerClock()
        self._known_place: tuple[str, str] | None = None
        self._looks = Looks()
        self._waiting = Waiting(database, clock, self._server_clock, self._looks)

    @property
    def clock(self) -> Clock:
        return self._given_clock or self._server_clock

    def _now(self) -> bytes | None:
        """The parameter that says what time it is; NULL lets the server say."""
        return None if self._given_clock is None else float8(self._given_clock.now())

    def _steady(self) -> bytes | None:
        """The same for the time by which leases are counted."""
        return None if self._given_clock is None else float8(self._given_clock.steady())

    def _told(self, now: float | None, asked: float) -> None:
        """The server has said what time it is; it was asked at *asked* (`ServerClock.here`)."""
        if self._given_clock is None and now is not None:
            self._server_clock.sync(now, asked)

    def _claiming(self) -> list[bytes | None]:
        """The last parameters of what hands out tasks; the very last is the tokens' base."""
        return [self._now(), self._steady(), float8(DEFAULT_LEASE), int8(token_base())]

    def _place(self) -> tuple[str, str]:
        """What tells the broker's database from every other."""
        if self._known_place is None:
            (((place, database),),) = self._database.run(Call(PLACE), repeatable=True)
            self._known_place = place, database
        return self._known_place

    def _ready_again(self, queues: Sequence[str]) -> None:
        """What was no longer ready in *queues* is again: look there, and let others look."""
        if queues:
            self._looks.begin_anew(queues)
            self._database.run(*self._wake(queues))

    def _wake(self, queues: Iterable[str]) -> list[Call]:
        """What wakes those who wait for *queues*, to be run after what they wait for."""
        keys = sorted({signed(queue) for queue in queues})
        if not keys:
            return []
        return [Call(WAKE, (int4(self._database.address.lock_space), int4s(keys)))]


def token_base() -> int:
    """What is added to a task's own number to make a token. From the system, not `random`: a task
    that seeds `random` would make tokens repeat."""
    return secrets.randbits(62) | 1
