"""One task process: what its main thread does all day.

It claims, runs one synchronous task after the other and settles in batches, with no hand-over
between threads: a no-op costs a few microseconds. What has a lane of its own is handed over there.
While a task keeps the main thread, the watcher does what cannot wait.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
import types
from collections.abc import Callable

from acked import signals
from acked.app import Acked
from acked.chance import roll
from acked.delivery import Delivery
from acked.errors import BrokerError
from acked.execute import Attempt
from acked.supervision import must_run_alone, pause_after
from acked.worker import forked, limits
from acked.worker.admission import Admission
from acked.worker.counting import Counting
from acked.worker.feed import Feed, Pace
from acked.worker.lanes import CoroutineLane, Lane, ThreadLane, enter
from acked.worker.memory import resident_kib
from acked.worker.options import WorkerOptions
from acked.worker.priority import Priority
from acked.worker.section import Section
from acked.worker.watcher import STUCK_AFTER, MainThread, Watcher

logger = logging.getLogger("acked.worker")

POLL = 1.0
"""Longest sleep in seconds of an idle process: the net under the wake-ups."""

MEMORY_EVERY = 0.5


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
        self._main = MainThread(section)
        self._feed = Feed(self._broker, consumer, options.queues, section, lease=app.settings.lease)
        self._pace = Pace()
        self._admission = Admission(app, self._feed)
        self._counting = Counting(app.records)
        self._alarm = limits.Alarm()
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
        self._watcher = Watcher(
            self._main, self._feed, self._pace, self._admission, lanes=self._lanes,
            beside=self._coroutines if self._threads is None else None,
            write_the_rest=self._write_the_rest,
        )  # fmt: skip

    def run(self) -> None:
        """Run until the end; everything is settled or given back when it returns."""
        signal.signal(signal.SIGTERM, self._on_stop)
        forked.end_by(signal.SIGTERM, self._on_stop)
        signals.worker_process_init.send(self._consumer)
        # Not before: a handler may have chosen a priority, which threads take from their maker.
        self._priority = Priority()
        self._watcher.start()
        for lane in self._lanes:
            lane.start()
        failures = 0
        while not self._main.stopping:
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
            self._watcher.finish()
        signals.worker_process_shutdown.send(self._consumer, pid=os.getpid(), exitcode=0)

    def _write_the_rest(self) -> None:
        self._feed.flush()
        self._counting.write(time.monotonic(), at_once=True)

    def _refill(self) -> None:
        """Claim more, or sleep until there may be something."""
        self._main.handed_back = False
        if self._worn_out() or not self._priority.restore():
            self._main.stop_asked = True
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
            self._watcher.rouse()
            return
        if self._options.burst and not self._lanes_busy:
            self._section.mark_drained()
            self._main.stop_asked = True
            return
        if not self._main.stopping:
            self._main.waiting = True
            try:
                self._broker.wait(self._options.queues, POLL)
            finally:
                self._main.waiting = False

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
            self._admission.put_back(held)
            self._feed.give_back()
            return
        self._main.busy_since = began
        self._main.alone = bool(self._lanes) and must_run_alone(held)
        if self._main.alone:
            self._wait_for_lanes()
            if self._main.stopping:
                self._admission.put_back(held)
                self._main.busy_since = 0.0
                return
        # In its slot already: decoding arguments is the task's code, too.
        self._section.begin(0, held.token, self._broker.clock.now())
        ready = self._admission.prepare(held)
        if ready is None:
            pass
        elif ready.task.is_async and self._coroutines is not None:
            self._submit(self._coroutines, ready)
        elif self._threads is not None:
            self._submit(self._threads, ready)
        elif self._admission.may_start(ready):
            self._run_here(ready)
        # Before the slot is cleared: a process between two tasks has not lost the broker.
        self._section.mark_polled(time.monotonic())
        self._section.end(0)
        if self._main.alone:
            self._wait_for_lanes()
            self._main.alone = False
        if not self._lanes_busy:
            self._section.forget_log()
        self._main.busy_since = 0.0
        now = time.monotonic()
        self._pace.note(now - began)
        if self._feed.overdue(now) and self._feed.local and not self._main.stopping:
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
                self._main.stop_asked = True
        else:
            attempt.returned(value)
        self._finished(attempt)

    def _submit(self, lane: Lane, attempt: Attempt) -> None:
        slot = lane.places.take(STUCK_AFTER)
        if slot is None:
            # Another process may have a place free: nothing waits here for one.
            self._admission.put_back(attempt.held)
            self._feed.give_back()
            self._wait_for_a_place(lane)
            return
        if not self._admission.may_start(attempt):
            lane.places.give(slot)
            return
        self._watcher.rouse()
        lane.submit(attempt, slot)

    def _wait_for_a_place(self, lane: Lane) -> None:
        """Sleep until *lane* has a free place; nothing is claimed meanwhile."""
        self._feed.flush()
        self._sleep_until(lambda: self._main.stopping or lane.places.wait_any_free(POLL))

    def _wait_for_lanes(self) -> None:
        """Sleep until no lane runs anything, or this process is to end."""
        self._sleep_until(lambda: self._main.stopping or self._lanes_are_free())

    def _lanes_are_free(self) -> bool:
        return all(lane.places.wait_all_free(POLL) for lane in self._lanes)

    def _sleep_until(self, free: Callable[[], bool]) -> None:
        """Ask *free*, which takes up to `POLL` seconds, until it says so. Meanwhile the watcher
        writes what ends, and the supervisor sees that this process does not need the broker."""
        self._main.away = True
        try:
            while not free():
                self._section.mark_polled(time.monotonic())
        finally:
            self._main.away = False

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
        self._main.stop_asked = True
        self._broker.interrupt()

    def _finished(self, attempt: Attempt) -> None:
        # First of all: what follows may write to the broker.
        restored = self._priority.restore()
        if not restored:
            self._main.stop_asked = True
        settlement = attempt.finish()
        self._feed.done(settlement, may_write=restored)
        message = attempt.request.message
        assert message is not None
        self._counting.ended(attempt.held, message, settlement)

    def _ended(self, attempt: Attempt) -> None:
        self._finished(attempt)
        self._watcher.rouse()
        if self._main.waiting:
            # A place is free; what the main thread could not take before may be there.
            self._broker.interrupt()


def main(app: Acked, section: Section, consumer: str, options: WorkerOptions) -> None:
    """The life of a task process, after its fork."""
    gc.enable()
    TaskProcess(app, section, consumer, options).run()
