"""The second thread of a task process: what cannot wait while a task keeps the main thread.

It writes settlements that are due, gives back deliveries that would wait behind a long task, feeds
the coroutine lane, and strikes soft limits in threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from acked.errors import BrokerError
from acked.supervision import must_run_alone
from acked.worker.admission import Admission
from acked.worker.feed import Feed, Pace
from acked.worker.lanes import CoroutineLane, Lane
from acked.worker.section import Section

logger = logging.getLogger("acked.worker")

TICK = 0.005
LANE_TICK = 0.05
LONGEST_SLEEP = 1.0
STUCK_AFTER = 0.025
"""Seconds a task may keep the main thread before what is claimed behind it goes back."""

BROKER_PAUSE = 0.5
"""Seconds before the watcher asks a broker anew that has failed it."""


class MainThread:
    """What the main thread is at, for the watcher to read. Plain attributes: neither locks.

    Attributes:
        stop_asked: A signal, or what this process has run, said that it is to end.
        busy_since: When it took up its delivery (monotonic); 0 between two.
        alone: That delivery runs alone: the lanes are to stay empty.
        waiting: It sleeps until the broker has something.
        away: It sleeps until a lane has a place.
        handed_back: Since it last claimed, the watcher claimed what only a main thread can run.
    """

    def __init__(self, section: Section) -> None:
        self._section = section
        self.stop_asked = False
        self.busy_since = 0.0
        self.alone = False
        self.waiting = False
        self.away = False
        self.handed_back = False

    @property
    def stopping(self) -> bool:
        """It is to end: a signal said so, or the section, where a task has taken the signal."""
        return self.stop_asked or self._section.asked_to_leave

    def is_away(self, now: float) -> bool:
        """Whether it cannot write what is due."""
        return self.waiting or self.away or self._kept_for(TICK, now)

    def is_stuck(self, now: float) -> bool:
        """Whether it will not start what is claimed, or not soon."""
        return self.stopping or self._kept_for(STUCK_AFTER, now)

    def _kept_for(self, seconds: float, now: float) -> bool:
        return self.busy_since != 0.0 and now - self.busy_since >= seconds


class Watcher:
    """The thread.

    Args:
        main: The other thread of this process.
        feed, pace, admission: This process's.
        lanes: Those it has.
        beside: Of them, the one that can run what is claimed while a synchronous task keeps the
            main thread, if any.
        write_the_rest: Its last act.
    """

    def __init__(
        self, main: MainThread, feed: Feed, pace: Pace, admission: Admission, *,
        lanes: Sequence[Lane], beside: CoroutineLane | None, write_the_rest: Callable[[], None],
    ) -> None:  # fmt: skip
        self._main = main
        self._feed = feed
        self._pace = pace
        self._admission = admission
        self._lanes = lanes
        self._beside = beside
        self._write_the_rest = write_the_rest
        self._leaving = False
        self._roused = threading.Event()
        self._thread = threading.Thread(target=self._run, name="acked-watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def rouse(self) -> None:
        """There is something to watch."""
        if not self._roused.is_set():
            self._roused.set()

    def finish(self) -> None:
        """Have it write the rest, and wait until it has."""
        self._leaving = True
        self.rouse()
        self._thread.join()

    def _run(self) -> None:
        lanes_ticked = 0.0
        while not self._leaving:
            if not self._is_needed():
                self._roused.clear()
                if not self._is_needed():
                    self._roused.wait(LONGEST_SLEEP)
            time.sleep(TICK)
            now = time.monotonic()
            try:
                if self._feed.overdue(now) and self._main.is_away(now):
                    self._feed.flush()
                if self._main.is_stuck(now) and self._feed.give_back():
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

    def _is_needed(self) -> bool:
        return self._feed.holds or any(lane.places.busy for lane in self._lanes) or self._leaving

    def _tick_lanes(self, now: float) -> None:
        for lane in self._lanes:
            lane.tick(now)
        main, beside = self._main, self._beside
        if beside is None or main.alone or main.handed_back or main.stopping:
            return
        if main.is_stuck(now) and beside.places.free:
            self._feed_beside(beside)

    def _feed_beside(self, lane: CoroutineLane) -> None:
        """Claim for *lane* while a synchronous task keeps the main thread."""
        for held in self._feed.turn(min(self._pace.depth + 8, lane.places.free)):
            if not must_run_alone(held):
                ready = self._admission.prepare(held)
                if ready is None:
                    continue
                if ready.task.is_async and (slot := lane.places.take(0)) is not None:
                    if self._admission.may_start(ready):
                        lane.submit(ready, slot)
                    else:
                        lane.places.give(slot)
                    continue
            # It needs the main thread: another process may have one free. Nothing more is
            # claimed here until this one's is, or the same delivery would go to and fro.
            self._main.handed_back = True
            self._admission.put_back(held)
