"""Where attempts run beside the main thread: an event loop for `async def` tasks, and threads.

Both have a fixed number of places; each place is a slot of the process's section. `submit` is
called by the feeding thread after it has taken a place; what ends is told through `ended`.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from functools import partial
from typing import Protocol

from acked import shield
from acked.errors import SoftTimeLimitExceeded
from acked.execute import Attempt
from acked.outcome import Revoked
from acked.worker.limits import raise_in_thread, with_soft_limit
from acked.worker.section import Section, rules_of

logger = logging.getLogger("acked.worker")


class Ended(Protocol):
    """Told when an attempt in a lane has ended."""

    def __call__(self, attempt: Attempt) -> None: ...


class Places:
    """The slots of a lane: which are free, and a way to wait for one."""

    def __init__(self, slots: range) -> None:
        self._free = list(reversed(slots))
        self._total = len(slots)
        self._changed = threading.Condition()

    def take(self, timeout: float | None = None) -> int | None:
        """A free slot; waits up to *timeout* seconds for one."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free, timeout):
                return None
            return self._free.pop()

    def give(self, slot: int) -> None:
        with self._changed:
            self._free.append(slot)
            self._changed.notify_all()

    def wait_any_free(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._free), timeout)

    def wait_all_free(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self._free) == self._total, timeout)

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def busy(self) -> int:
        return self._total - len(self._free)


def enter(section: Section, slot: int, attempt: Attempt) -> None:
    """Say in the presence file that *attempt* runs, and until when it may."""
    limit = attempt.policy.time_limit or 0.0
    section.begin(
        slot, attempt.held.token, attempt.task.app.clock.now(),
        time.monotonic() + limit if limit else 0.0, limit, rules_of(attempt.policy),
    )  # fmt: skip


class CoroutineLane:
    """`async def` tasks, many at once, on one event loop in its own thread."""

    def __init__(self, section: Section, slots: range, ended: Ended) -> None:
        self.places = Places(slots)
        self._section = section
        self._ended = ended
        self._running: dict[int, asyncio.Task[None]] = {}
        self._cancelled: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()

    def start(self) -> None:
        threading.Thread(target=self._run_loop, name="acked-loop", daemon=True).start()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        while True:
            try:
                self._loop.run_forever()
            except BaseException as error:
                # SystemExit and KeyboardInterrupt of a task's own asyncio.Task come out here.
                logger.error("%s came out of the event loop; it goes on", type(error).__name__)
            else:
                logger.error("a task stopped the event loop; it goes on")

    def submit(self, attempt: Attempt, slot: int) -> None:
        self._loop.call_soon_threadsafe(self._start, attempt, slot)

    def _start(self, attempt: Attempt, slot: int) -> None:
        task = self._loop.create_task(self._run(attempt, slot), name=f"acked {attempt.held.id}")
        self._running[slot] = task
        task.add_done_callback(partial(self._over, attempt, slot))

    def _over(self, attempt: Attempt, slot: int, task: asyncio.Task[None]) -> None:
        # A task of the user's may cancel whatever it finds on the loop, also what has not taken
        # its first step. Nothing of that has run, so nothing has told its end.
        if task.cancelled() and self._running.get(slot) is task:
            self._start(attempt, slot)

    async def _run(self, attempt: Attempt, slot: int) -> None:
        enter(self._section, slot, attempt)
        attempt.begin()
        soft = attempt.policy.soft_time_limit
        struck = False
        alarm: asyncio.TimerHandle | None = None

        def strike() -> None:
            nonlocal struck
            struck = True
            self._running[slot].cancel()

        def passed() -> bool:
            nonlocal struck
            was, struck = struck, False
            return was

        if soft:
            alarm = self._loop.call_later(soft, strike)
        try:
            coroutine = attempt.call()
            attempt.returned(await (with_soft_limit(coroutine, passed) if soft else coroutine))
        except asyncio.CancelledError as error:
            if self._section.ordered(slot):
                attempt.raised, attempt.outcome = error, Revoked("terminated")
            else:
                attempt.failed(error)
        except BaseException as error:
            attempt.failed(error)
        finally:
            if alarm is not None:
                alarm.cancel()
            self._leave(attempt, slot)

    def _leave(self, attempt: Attempt, slot: int) -> None:
        try:
            self._ended(attempt)
        finally:
            self._section.end(slot)
            self._cancelled.discard(self._running.pop(slot))
            self.places.give(slot)

    def tick(self, now: float) -> None:
        """Cancel what the supervisor ordered to be cancelled."""
        for slot, task in list(self._running.items()):
            # Once: what it does in its `finally` is its own.
            if self._section.ordered(slot) and task not in self._cancelled:
                self._cancelled.add(task)
                self._loop.call_soon_threadsafe(task.cancel)


class ThreadLane:
    """Synchronous tasks in a pool of threads (``--threads``)."""

    def __init__(self, section: Section, slots: range, ended: Ended) -> None:
        self.places = Places(slots)
        self._section = section
        self._ended = ended
        self._work: queue.SimpleQueue[tuple[Attempt, int]] = queue.SimpleQueue()
        self._alarms: dict[int, tuple[float, Attempt]] = {}
        self._arming = threading.Lock()
        self._threads = len(slots)

    def start(self) -> None:
        for number in range(self._threads):
            threading.Thread(target=self._serve, name=f"acked-task-{number}", daemon=True).start()

    def submit(self, attempt: Attempt, slot: int) -> None:
        self._work.put((attempt, slot))

    def _serve(self) -> None:
        while True:
            try:
                self._run(*self._work.get())
            except SoftTimeLimitExceeded:
                # Raised in the instant in which its task ended; that task is settled.
                continue
            except BaseException:
                logger.exception("a thread of the worker goes on")

    def _run(self, attempt: Attempt, slot: int) -> None:
        thread = threading.get_ident()
        enter(self._section, slot, attempt)
        try:
            attempt.begin()
            soft = attempt.policy.soft_time_limit
            try:
                if soft:
                    with self._arming:
                        self._alarms[thread] = (time.monotonic() + soft, attempt)
                try:
                    value = attempt.call()
                finally:
                    self._disarm(thread, attempt)
            except BaseException as error:
                attempt.failed(error)
            else:
                attempt.returned(value)
        finally:
            try:
                self._ended(attempt)
            finally:
                self._section.end(slot)
                self.places.give(slot)

    def _disarm(self, thread: int, attempt: Attempt) -> None:
        with self._arming:
            self._alarms.pop(thread, None)
        shield.forget(thread)

    def tick(self, now: float) -> None:
        """Raise the soft limit in threads that have passed it."""
        if not self._alarms:
            return
        with self._arming:
            for thread, (at, _attempt) in list(self._alarms.items()):
                if now >= at:
                    del self._alarms[thread]
                    raise_in_thread(thread)


Lane = CoroutineLane | ThreadLane
