"""One loop per process looks at every task that some page watches, however many pages there are.

It runs on the event loop while anybody watches, and reads in a thread. Subscribers are told *that*
something changed and look for themselves, so a slow one holds up nobody, and gets the latest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

from acked.errors import AckedError
from acked.pages.view import Known

logger = logging.getLogger("acked.pages")

BUSY_SHARE = 0.25
"""Share of the time that reading may take; beyond that the loop looks less often. The quicker of
the last two answers counts: one that came late alone tells of a broker that hung, not of one that
has much to read."""

AWAY_FIRST, AWAY_LAST = 1.0, 5.0
"""Seconds between two tries while the broker does not answer."""

AWAY_TOLD = 5.0
"""Seconds without an answer of the broker after which subscribers are told."""

ReadAll = Callable[[Mapping[str, Known | None]], Awaitable[dict[str, Known]]]


def server_stops() -> bool:
    """Whether the server has been told to stop.

    It would wait for open streams, ten minutes long: uvicorn has no other way to say it than the
    handler of its signals, which is looked at here and left alone. Of other servers nothing is
    known; they have a time limit of their own.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


class Watch:
    """One subscriber: `known` is the latest of each of its tasks, `changed` is set with news,
    `away` while the broker does not answer, and `closing` when the server stops."""

    def __init__(self, ids: frozenset[str], latest: Mapping[str, Known]) -> None:
        self.ids = ids
        self.changed = asyncio.Event()
        self.away = False
        self.closing = False
        self._latest = latest

    def known(self, task_id: str) -> Known | None:
        """None until it was read for the first time."""
        return self._latest.get(task_id)

    async def wait(self, timeout: float) -> None:
        """Return with news, or after *timeout* seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.changed.wait()
        self.changed.clear()


class Watcher:
    """Looks at what is watched.

    Args:
        read_all: Reads tasks; gets what was known of them before.
        interval: Seconds between two looks.
    """

    def __init__(self, read_all: ReadAll, *, interval: float) -> None:
        self._read_all = read_all
        self._interval = interval
        self._watches: set[Watch] = set()
        self._latest: dict[str, Known] = {}
        self._loop: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._away = False
        self._silence: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def watch(self, ids: Iterable[str]) -> AsyncGenerator[Watch, None]:
        """Watch tasks for as long as the context lasts."""
        watch = Watch(frozenset(ids), self._latest)
        watch.away = self._away
        self._watches.add(watch)
        watch.changed.set()  # what others already watch is known
        if self._loop is None:
            self._more = asyncio.Event()
            self._loop = asyncio.create_task(self._look(), name="acked pages")
        self._more.set()
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            for gone in watch.ids - {task_id for each in self._watches for task_id in each.ids}:
                self._latest.pop(gone, None)
            if not self._watches:
                self._stop()

    def _stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            self._loop = None
        self._hear()

    def _ask(self) -> None:
        """An answer is waited for, which may come late: a broker that hangs raises no error."""
        if self._silence is None:
            loop = asyncio.get_running_loop()
            self._silence = loop.call_later(AWAY_TOLD, self._tell, True)

    def _hear(self) -> None:
        """It is there."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._tell(away=False)

    def _tell(self, away: bool) -> None:
        if away is self._away:
            return
        self._away = away
        for watch in self._watches:
            watch.away = away
            watch.changed.set()

    async def _look(self) -> None:
        away = due = before = 0.0
        while not server_stops():
            self._more.clear()
            began = time.monotonic()
            wanted = {task_id for watch in self._watches for task_id in watch.ids}
            if began < due:  # somebody new, who need not wait for what the others wait for
                wanted -= self._latest.keys()
            try:
                if wanted:
                    self._ask()
                    await self._look_at(wanted)
                    self._hear()
                away = 0.0
            except AckedError as error:
                if not away:
                    logger.warning("pages show what was last known: %s", error)
                away = min(AWAY_LAST, away * 2 or AWAY_FIRST)
            now = time.monotonic()
            if away:
                await asyncio.sleep(away)
            elif began >= due:
                took = now - began
                due = now + max(self._interval, min(took, before) / BUSY_SHARE)
                before = took
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due - now):
                    await self._more.wait()
        for watch in self._watches:
            watch.closing = True
            watch.changed.set()

    async def _look_at(self, wanted: set[str]) -> None:
        found = await self._read_all({task_id: self._latest.get(task_id) for task_id in wanted})
        changed = {
            task_id for task_id, known in found.items() if self._latest.get(task_id) is not known
        }
        self._latest.update(found)
        for watch in self._watches:
            if not changed.isdisjoint(watch.ids):
                watch.changed.set()
