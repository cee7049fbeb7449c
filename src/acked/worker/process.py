"""One task process: its main thread feeds and runs synchronous tasks, a watcher sees to the rest.

The main thread claims, runs one task after the other and settles in batches, with no hand-over
between threads: a no-op costs a few microseconds. While a task keeps the main thread, the *watcher*
does what cannot wait: it writes settlements that are due, gives back deliveries that would wait
behind a long task, feeds the coroutine lane, and strikes soft limits in threads.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
import types
from collections.abc import Callable

from acked import signals
from acked.app import Acked
from acked.chance import roll
from acked.delivery import Delivery, Settlement
from acked.errors import BrokerError
from acked.execute import Attempt, prepare
from acked.supervision import must_run_alone, pause_after
from acked.worker import limits
from acked.worker.counting import Counting
from acked.worker.feed import Feed, Pace
from acked.worker.lanes import CoroutineLane, Lane, ThreadLane, enter
from acked.worker.memory import resident_kib
from acked.worker.options import WorkerOptions
from acked.worker.permits import Permits
from acked.worker.priority import Priority
from acked.worker.section import Section

logger = logging.getLogger("acked.worker")

POLL = 1.0
"""Longest sleep in seconds of an idle process: the net under the wake-ups."""

TICK = 0.005
LANE_TICK = 0.05
STUCK_AFTER = 0.025
"""Seconds a task may keep the main thread before what is claimed behind it goes back."""

MEMORY_EVERY = 0.5
BROKER_PAUSE = 0.5
"""Seconds before the watcher asks a broker anew that has failed it."""


class TaskProcess:
    """Runs tasks of *app* until it is told to stop, has run enough, or (burst) finds none.

    Args:
        app: The application, imported before the fork.
        section: This process's part of the presence file.
        consumer: Its name, ``worker/index``.
        options: The worker's.
    """

    def __init__(self, app: Acked, section: Section, consumer: str, options: WorkerOptions) -> None:
        self._app = app
        self._broker = app.broker
        self._section = section
        self._consumer = consumer
        self._options = options
        self._feed = Feed(self._broker, consumer, options.queues, section, lease=app.settings.lease)
        self._pace = Pace()
        self._permits = Permits(self._broker)
        self._counting = Counting(app.records)
        self._alarm = limits.Alarm()
        self._stop_asked = False
        self._alone = False
        self._leaving = False
        self._busy_since = 0.0
        self._waiting = False
        self._away = False
        self._handed_back = False
        self._watch = threading.Event()
        self._memory_checked = 0.0
        # Slots: 0 is the main thread's, then the coroutines', then the threads'.
        first = 1 + options.coroutines
        self._coroutines = (
            CoroutineLane(section, range(1, first), self._ended)
            if options.coroutines and any(task.is_async for task in app.tasks.values())
            else None
        )
        self._threads = (
            ThreadLane(section, range(first, first + options.threads), self._ended)
            if options.threads
            else None
        )
        self._lanes: list[Lane] = [
            lane for lane in (self._coroutines, self._threads) if lane is not None
        ]

    # -- the main thread --------------------------------------------------------------------------

    @property
    def _stopping(self) -> bool:
        """It is to end: a signal said so, or the section, where a task has taken the signal."""
        return self._stop_asked or self._section.asked_to_leave

    def run(self) -> None:
        """Run until the end; everything is settled or given back when it returns."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signals.worker_process_init.send(self._consumer)
        # Not before: a handler may have chosen a priority, which threads take from their maker.
        self._priority = Priority()
        watcher = threading.Thread(target=self._watch_loop, name="acked-watcher", daemon=True)
        watcher.start()
        for lane in self._lanes:
            lane.start()
        failures = 0
        while not self._stopping:
            held = self._feed.next()
            if held is not None:
                self._start(held)
                continue
            try:
                self._refill()
                failures = 0
            except BrokerError as error:
                # What is settled stays in the journal; the next turn writes it.
                logger.error("cannot reach the broker: %s", error)
                failures += 1
                time.sleep(pause_after(failures, roll()))
        self._feed.give_back()
        self._sleep_until(self._lanes_are_free)
        if self._priority.restore():
            self._write_the_rest()
        else:
            # By a thread that no task has lowered.
            self._leaving = True
            self._rouse_watcher()
            watcher.join()
        signals.worker_process_shutdown.send(self._consumer, pid=os.getpid(), exitcode=0)

    def _write_the_rest(self) -> None:
        self._feed.flush()
        self._counting.write(time.monotonic(), at_once=True)

    def _refill(self) -> None:
        """Claim more, or sleep until there may be something."""
        self._handed_back = False
        if self._worn_out() or not self._priority.restore():
            self._stop_asked = True
            return
        if self._threads is not None and not self._threads.places.free:
            self._wait_for_a_place(self._threads)
            return
        claimed = self._feed.turn(self._depth())
        now = time.monotonic()
        self._section.mark_polled(now)
        self._counting.write(now)
        if claimed:
            self._feed.local.extend(claimed)
            self._rouse_watcher()
            return
        if self._options.burst and not self._lanes_busy:
            self._section.mark_drained()
            self._stop_asked = True
            return
        if not self._stopping:
            self._waiting = True
            try:
                self._broker.wait(self._options.queues, POLL)
            finally:
                self._waiting = False

    def _depth(self) -> int:
        depth = self._pace.depth
        if self._threads is not None:
            depth = min(depth, max(1, self._threads.places.free))
        left = self._options.max_tasks_per_child
        if left is not None:
            depth = max(1, min(depth, left - self._feed.settled))
        return depth

    @property
    def _lanes_busy(self) -> bool:
        return any(lane.places.busy for lane in self._lanes)

    def _start(self, held: Delivery) -> None:
        began = time.monotonic()
        if self._feed.stale():
            self._feed.done(Settlement.unstarted(held, at=self._now()))
            self._feed.give_back()
            return
        self._busy_since = began
        self._alone = bool(self._lanes) and must_run_alone(held)
        if self._alone:
            self._wait_for_lanes()
            if self._stopping:
                self._feed.done(Settlement.unstarted(held, at=self._now()))
                self._busy_since = 0.0
                return
        # In its slot already: decoding arguments is the task's code, too.
        self._section.begin(0, held.token, self._now())
        ready = self._prepare(held)
        if isinstance(ready, Settlement):
            self._feed.done(ready)
        elif ready.task.is_async and self._coroutines is not None:
            self._submit(self._coroutines, ready)
        elif self._threads is not None:
            self._submit(self._threads, ready)
        elif self._may_start(ready):
            self._run_here(ready)
        # Before the slot is cleared: a process between two tasks has not lost the broker.
        self._section.mark_polled(time.monotonic())
        self._section.end(0)
        if self._alone:
            self._wait_for_lanes()
            self._alone = False
        if not self._lanes_busy:
            self._section.forget_log()
        self._busy_since = 0.0
        now = time.monotonic()
        self._pace.note(now - began)
        if self._feed.overdue(now) and self._feed.local and not self._stopping:
            self._feed.flush()

    def _run_here(self, attempt: Attempt) -> None:
        enter(self._section, 0, attempt)
        attempt.begin()
        soft = attempt.policy.soft_time_limit
        try:
            if soft:
                self._alarm.start(soft)
            try:
                value = attempt.call()
            finally:
                if soft:
                    self._alarm.stop()
        except BaseException as error:
            attempt.failed(error)
            if isinstance(error, MemoryError):
                self._stop_asked = True
        else:
            attempt.returned(value)
        self._finished(attempt)

    def _submit(self, lane: Lane, attempt: Attempt) -> None:
        slot = lane.places.take(STUCK_AFTER)
        if slot is None:
            # Another process may have a place free: nothing waits here for one.
            self._feed.done(Settlement.unstarted(attempt.held, at=self._now()))
            self._feed.give_back()
            self._wait_for_a_place(lane)
            return
        if not self._may_start(attempt):
            lane.places.give(slot)
            return
        self._rouse_watcher()
        lane.submit(attempt, slot)

    def _wait_for_a_place(self, lane: Lane) -> None:
        """Sleep until *lane* has a free place; nothing is claimed meanwhile."""
        self._feed.flush()
        self._sleep_until(lambda: self._stopping or lane.places.wait_any_free(POLL))

    def _wait_for_lanes(self) -> None:
        """Sleep until no lane runs anything, or this process is to end."""
        self._sleep_until(lambda: self._stopping or self._lanes_are_free())

    def _lanes_are_free(self) -> bool:
        return all(lane.places.wait_all_free(POLL) for lane in self._lanes)

    def _sleep_until(self, free: Callable[[], bool]) -> None:
        """Ask *free*, which takes up to `POLL` seconds, until it says so. Meanwhile the watcher
        writes what ends, and the supervisor sees that this process does not need the broker."""
        self._away = True
        try:
            while not free():
                self._section.mark_polled(time.monotonic())
        finally:
            self._away = False

    def _now(self) -> float:
        return self._broker.clock.now()

    def _prepare(self, held: Delivery) -> Attempt | Settlement:
        return prepare(held, self._app.tasks, self._app.records, self._consumer, now=self._now())

    def _may_start(self, attempt: Attempt) -> bool:
        """Whether its rate limit allows it now; settled where it does not. Asked last."""
        rate = attempt.task.rate
        if rate is None:
            return True
        refused = self._permits.take(attempt.held, attempt.task.name, rate)
        if refused is not None:
            self._feed.done(refused)
        return refused is None

    def _worn_out(self) -> bool:
        """Whether this process has run enough and is to be replaced."""
        limit, settled = self._options.max_tasks_per_child, self._feed.settled
        # While a lane is busy the place goes on working, or one long coroutine would keep it from
        # everything else; not for ever, or it would never be replaced.
        if limit is not None and settled >= (limit * 2 if self._lanes_busy else limit):
            return True
        most = self._options.max_memory_per_child
        now = time.monotonic()
        # A process that has run nothing is as small as its successor would be.
        if most is None or not self._feed.settled or now - self._memory_checked < MEMORY_EVERY:
            return False
        self._memory_checked = now
        return resident_kib(os.getpid()) > most

    def _on_stop(self, number: int, frame: types.FrameType | None) -> None:
        self._stop_asked = True
        self._broker.interrupt()

    # -- lanes and the watcher --------------------------------------------------------------------

    def _finished(self, attempt: Attempt) -> None:
        # First of all: what follows may write to the broker.
        restored = self._priority.restore()
        if not restored:
            self._stop_asked = True
        settlement = attempt.finish()
        self._feed.done(settlement, may_write=restored)
        message = attempt.request.message
        assert message is not None
        self._counting.ended(attempt.held, message, settlement)

    def _ended(self, attempt: Attempt) -> None:
        self._finished(attempt)
        self._rouse_watcher()
        if self._waiting:
            # A place is free; what the main thread could not take before may be there.
            self._broker.interrupt()

    def _rouse_watcher(self) -> None:
        if not self._watch.is_set():
            self._watch.set()

    def _watch_loop(self) -> None:
        lanes_ticked = 0.0
        while not self._leaving:
            if not self._needs_watching():
                self._watch.clear()
                if not self._needs_watching():
                    self._watch.wait(POLL)
            time.sleep(TICK)
            now = time.monotonic()
            try:
                if self._feed.overdue(now) and self._main_is_away(now):
                    self._feed.flush()
                if self._main_is_stuck(now) and self._feed.give_back():
                    self._feed.flush()
                self._feed.reconcile(now)
                if now - lanes_ticked >= LANE_TICK:
                    lanes_ticked = now
                    self._tick_lanes(now)
            except BrokerError as error:
                logger.error("cannot reach the broker: %s", error)
                time.sleep(BROKER_PAUSE)
            except BaseException:
                logger.exception("the watcher goes on")
                time.sleep(BROKER_PAUSE)
        self._write_the_rest()

    def _needs_watching(self) -> bool:
        return self._feed.holds or self._lanes_busy or self._leaving

    def _main_is_away(self, now: float) -> bool:
        return (
            self._waiting
            or self._away
            or (self._busy_since != 0.0 and now - self._busy_since >= TICK)
        )

    def _main_is_stuck(self, now: float) -> bool:
        if self._stopping:
            return True
        return self._busy_since != 0.0 and now - self._busy_since >= STUCK_AFTER

    def _tick_lanes(self, now: float) -> None:
        for lane in self._lanes:
            lane.tick(now)
        coroutines = self._coroutines
        if coroutines is None or self._alone or self._handed_back or self._stopping:
            return
        if self._main_is_stuck(now) and self._threads is None and coroutines.places.free:
            self._feed_coroutines(coroutines)

    def _feed_coroutines(self, lane: CoroutineLane) -> None:
        """Claim for the coroutine lane while a synchronous task keeps the main thread."""
        for held in self._feed.turn(min(self._pace.depth + 8, lane.places.free)):
            ready = None if must_run_alone(held) else self._prepare(held)
            slot = None
            if isinstance(ready, Settlement):
                self._feed.done(ready)
                continue
            if ready is not None and ready.task.is_async:
                slot = lane.places.take(0)
            if ready is None or slot is None:
                # It needs the main thread: another process may have one free. Nothing more is
                # claimed here until this one's is, or the same delivery would go to and fro.
                self._handed_back = True
                self._feed.done(Settlement.unstarted(held, at=self._now()))
            elif self._may_start(ready):
                lane.submit(ready, slot)
            else:
                lane.places.give(slot)


def main(app: Acked, section: Section, consumer: str, options: WorkerOptions) -> None:
    """The life of a task process, after its fork."""
    gc.enable()
    TaskProcess(app, section, consumer, options).run()
