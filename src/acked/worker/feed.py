"""The feed of one process: claims ahead, settles in batches, loses nothing in between.

Claiming and settling share one broker write (`turn`). How far ahead it claims is the pace's
business: as many tasks as the process will start in a few tens of milliseconds, so hundreds of
no-ops and a single long task. A settlement that is not yet written is in the journal, where it
survives the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from acked.broker import Broker
from acked.clock import Clock, SystemClock
from acked.delivery import COMES_BACK, Delivery, Settlement
from acked.errors import BrokerError
from acked.supervision import RECONCILE_EVERY
from acked.worker.section import Section, journal_entry

logger = logging.getLogger("acked.worker")

AHEAD = 0.025
"""Seconds of work a process claims ahead."""

MAX_AHEAD = 256
FLUSH_AFTER = 0.005
"""Seconds a settlement may wait for company."""

STALE_AFTER = 0.5
"""Share of the lease after which what was claimed ahead is claimed anew before it is started: a
process that was stopped and woken, with its host or alone, may have lost it. A running one gives it
back long before."""

RETRY_WRITE = (0.05, 1.0)
"""Shortest and longest pause in seconds between tries while the broker refuses writes."""


class Pace:
    """How long a delivery keeps the process, lately, and so how many to claim at once."""

    def __init__(self) -> None:
        self._average = AHEAD / 8

    def note(self, seconds: float) -> None:
        """One delivery took *seconds* of the process."""
        # Slower at once, faster step by step: claiming too far ahead makes tasks wait.
        share = 0.5 if seconds > self._average else 0.05
        self._average += (seconds - self._average) * share

    @property
    def depth(self) -> int:
        return max(1, min(MAX_AHEAD, int(AHEAD / max(self._average, 1e-9))))


class Feed:
    """What one process holds: deliveries not yet started, settlements not yet written.

    `turn` and `flush` are called by the main thread and by the watcher, `reconcile` by the watcher,
    `done` by any thread.
    """

    def __init__(
        self, broker: Broker, consumer: str, queues: Sequence[str], section: Section, *,
        lease: float, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.broker = broker
        self.consumer = consumer
        self.queues = tuple(queues)
        self.local: deque[Delivery] = deque()
        self.settled = 0
        self._held: set[int] = set()
        # Counts on while the host sleeps, as a lease does.
        self._steady = (clock or SystemClock()).steady
        self._stale_after = lease * STALE_AFTER
        self._claimed_at = 0.0
        # The process before it may have died with a claim on its way, which arrived after what it
        # held had been given back.
        self._reconcile_at = 0.0
        self._answered = True
        self._section = section
        self._pending: list[Settlement] = []
        self._entries: list[bytes] = []
        self._oldest = 0.0
        self._changing = threading.Lock()
        self._writing = threading.Lock()

    def next(self) -> Delivery | None:
        """A delivery to start, if one is at hand."""
        try:
            return self.local.popleft()
        except IndexError:
            return None

    def stale(self) -> bool:
        """Whether what is at hand was claimed too long ago to be started."""
        return self._steady() - self._claimed_at > self._stale_after

    def reconcile(self, now: float) -> None:
        """Give back what this consumer holds and does not know of, if it is time to ask.

        The reply to a claim may have been lost; or a settlement that the broker had acknowledged,
        when its replica took over. Without an error, too, if the connection failed in between. So
        the question is asked after each error, once the broker answers again, and every
        `RECONCILE_EVERY` seconds.

        Raises:
            BrokerError: The broker refuses. Calling again is harmless.
        """
        if now < self._reconcile_at or not self._answered:
            return
        with self._writing:
            unknown = self.broker.seize(self.consumer, by=self.consumer, keep=self._held)
            if unknown:
                logger.warning("%d deliveries held and not known of; given back", len(unknown))
                at = self.broker.clock.now()
                self.broker.settle([Settlement.unstarted(held, at=at) for held in unknown])
            self._reconcile_at = now + RECONCILE_EVERY

    def done(self, settlement: Settlement, *, may_write: bool = True) -> None:
        """An attempt ended; written soon, and safe in the journal until then.

        Args:
            settlement: How.
            may_write: What the journal has no room for may be written at once, by this thread.
        """
        entry = journal_entry(settlement)
        with self._changing:
            if not self._pending:
                self._oldest = time.monotonic()
            self._pending.append(settlement)
            self._entries.append(entry)
            fits = self._section.append(entry)
            # What never started, and comes back, has not worn the process out.
            if settlement.started is not None or settlement.event not in COMES_BACK:
                self.settled += 1
        if not fits and may_write:
            self.flush()

    def overdue(self, now: float) -> bool:
        """Whether a settlement has waited long enough."""
        return bool(self._pending) and now - self._oldest >= FLUSH_AFTER

    @property
    def holds(self) -> bool:
        """Whether anything is unstarted or unwritten."""
        return bool(self._pending or self.local)

    def turn(self, limit: int) -> list[Delivery]:
        """Write what is settled and claim up to *limit*, in one step.

        Raises:
            BrokerError: Nothing was written; everything is still held.
        """
        with self._writing:
            batch = self._take()
            asked_at = self._steady()
            try:
                claim = self.broker.claim(self.consumer, self.queues, limit, settlements=batch)
            except BrokerError:
                self._unanswered()
                raise
            self._answered = True
            self._claimed_at = asked_at
            self._written(batch)
            self._held.update(held.token for held in claim.deliveries)
        self._report(claim.refused)
        return claim.deliveries

    def flush(self) -> None:
        """Write what is settled; keeps trying while the broker refuses."""
        pause = RETRY_WRITE[0]
        while True:
            try:
                with self._writing:
                    batch = self._take()
                    if not batch:
                        return
                    refused = self.broker.settle(batch)
                    self._answered = True
                    self._written(batch)
                self._report(refused)
                return
            except BrokerError as error:
                self._unanswered()
                logger.error("cannot settle, trying again in %.2f s: %s", pause, error)
                time.sleep(pause)
                pause = min(pause * 2, RETRY_WRITE[1])

    def give_back(self) -> int:
        """Release every delivery that is not started; how many."""
        count, now = 0, self.broker.clock.now()
        while (held := self.next()) is not None:
            self.done(Settlement.unstarted(held, at=now))
            count += 1
        return count

    def _unanswered(self) -> None:
        self._answered, self._reconcile_at = False, 0.0

    def _take(self) -> list[Settlement]:
        with self._changing:
            return list(self._pending)

    def _written(self, batch: Sequence[Settlement]) -> None:
        if not batch:
            return
        self._held.difference_update([settlement.token for settlement in batch])
        with self._changing:
            del self._pending[: len(batch)]
            del self._entries[: len(batch)]
            self._oldest = time.monotonic()
            self._section.rewrite(self._entries)

    def _report(self, refused: Sequence[Settlement]) -> None:
        for settlement in refused:
            logger.warning(
                "lease lost: %s of task %s was refused, another worker has it",
                settlement.event.value, settlement.id,
            )  # fmt: skip
