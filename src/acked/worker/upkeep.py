"""What a supervisor does for the broker's tasks, besides its own processes: the lease, the dead
of this host, lapsed leases of others, retention."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from acked.broker import Beat, Carried, Engine, Order
from acked.clock import SystemClock
from acked.errors import BrokerError
from acked.supervision import RECONCILE_EVERY, on_silence
from acked.worker import presence, wire
from acked.worker.place import Place
from acked.worker.recovery import Recovery, log_held_yet

logger = logging.getLogger("acked.worker")

NEIGHBOURS_EVERY = 0.25
BEAT_AGAIN = 1.0
"""Longest pause in seconds before a heartbeat that failed is tried again, or the recovery of a dead
worker of this host."""

DEAF_FOR = 5.0
"""Seconds for which a process is seen to have lost the broker before it is replaced."""

PRUNE_EVERY = 60.0
PRUNE_BATCH = 500
PRUNE_PAUSE = 0.05


class GaveUp(Exception):
    """The broker has not answered for so long that the worker ends."""


class Upkeep:
    """The chores, each at its time.

    Args:
        broker: What is kept.
        beat: What this worker says of itself.
        hello: The application's settings; replaced at a reload.
        recovery: Gives back what the dead held.
        by: The consumer that holds what is taken over from the dead.
        memory: Resident memory of the whole worker at the moment, KiB.
    """

    def __init__(
        self,
        broker: Engine,
        beat: Beat,
        hello: wire.Hello,
        recovery: Recovery,
        *,
        by: str,
        memory: Callable[[], int],
    ) -> None:
        self.hello = hello
        self._broker = broker
        self._beat = beat
        self._recovery = recovery
        self._by = by
        self._memory = memory
        self._clock = SystemClock()
        self._renewed = 0.0
        self._answered = 0.0
        self._rebuilt = 0
        self._reap_from = 0.0
        self._began = broker.clock.now(), time.monotonic()
        self._next_beat = 0.0
        self._next_neighbours = 0.0
        self._next_prune = 0.0
        self._next_reconcile = 0.0

    def begin(self, now: float) -> None:
        """Take the lease, before anything is claimed under it.

        Raises:
            BrokerError: The broker refuses; the worker cannot start.
        """
        self._broker.renew(self._beat)
        self._renewed = self._clock.steady()
        self._answered = now
        self._next_beat = now + self.hello.heartbeat

    def is_deaf(self, place: Place, now: float) -> bool:
        """Whether its process has nothing to do but to ask the broker for work, and has not
        managed to for long, while the broker answers this one."""
        section = place.section
        deaf = (
            0.0 < section.polled < now - self.hello.watchdog
            and not place.leaving
            and not section.in_task
            and now - self._answered <= self.hello.heartbeat * 2
        )
        if not deaf:
            place.deaf_since = None
            return False
        if place.deaf_since is None:
            # It may have been stopped together with this process, and be about to ask.
            place.deaf_since = now
        return now - place.deaf_since > DEAF_FOR

    def turn(self, now: float, *, stopping: bool) -> list[Order] | None:
        """Do what is due; the orders that came with a heartbeat, None when there was none."""
        orders = None
        self._recovery.pay()
        self._recovery.counting.write(now)
        if now >= self._next_beat:
            orders = self._renew(now)
        if now >= self._next_neighbours:
            recovered = self._recover_neighbours()
            self._next_neighbours = now + (NEIGHBOURS_EVERY if recovered else BEAT_AGAIN)
        if now >= self._next_prune and not stopping:
            self._prune(now)
        return orders

    def _renew(self, now: float) -> list[Order] | None:
        # Planned before the write: a slow disk must not make beats drift apart.
        self._next_beat = now + self.hello.heartbeat
        try:
            beat = msgspec.structs.replace(self._beat, memory=self._memory())
            orders = self._broker.renew(beat)
            self._listen(now)
            steady = self._clock.steady()
            late = steady - self._renewed - self.hello.heartbeat
            if late > self.hello.heartbeat:
                # The disk was slow, or the machine slept. What kept it kept the others too; they
                # get a lease's time to say that they live.
                logger.warning(
                    "heartbeat %.1f s late: other workers' leases count again in %g s",
                    late, self.hello.lease,
                )  # fmt: skip
                self._reap_from = steady + self.hello.lease
            self._renewed = steady
            if steady >= self._reap_from:
                lapsed = self._broker.reap(by=self._by)
                if lapsed:
                    self._recovery.recover_lapsed(lapsed)
                # After a reap that was heard: what the one before took, and nobody heard of, it
                # has told with the names of its holders.
                if now >= self._next_reconcile or self._recovery.in_doubt:
                    self._recovery.reconcile()
                    self._next_reconcile = now + RECONCILE_EVERY
        except (BrokerError, OSError) as error:
            logger.error("heartbeat failed: %s", error)
            self._recovery.in_doubt = True
            self._next_beat = now + min(self.hello.heartbeat, BEAT_AGAIN)
            self._endure(now)
            return None
        return orders

    def _listen(self, now: float) -> None:
        """The broker answered; so must what carries its messages, if that is another server.

        Raises:
            GaveUp: That has been silent for too long.
        """
        silent, reason = 0.0, ""
        if isinstance(self._broker, Carried):
            silent, reason = self._broker.carrier_silence()
        # An answer is heard of with the beat after it.
        if silent <= self.hello.heartbeat * 3:
            self._answered, self._rebuilt = now, 0
            return
        self._answered = now - silent
        logger.error("no messages for %.0f s: %s", silent, reason or "no answer")
        self._endure(now)

    def _endure(self, now: float) -> None:
        """The broker did not answer: make everything anew when that has lasted.

        Raises:
            GaveUp: It has lasted too long.
        """
        silent = now - self._answered
        match on_silence(silent, self.hello.watchdog, rebuilt=self._rebuilt):
            case "rebuild":
                self._rebuilt += 1
                logger.error("no answer for %.0f s: every connection is made anew", silent)
                self._broker.close()
            case "give up":
                raise GaveUp(f"{self._broker.url} has not answered for {silent:.0f} s")
            case "wait":
                pass

    def _recover_neighbours(self) -> bool:
        """Give back what other workers of this host held that were killed whole; whether nothing
        of it is left."""
        directory = self._broker.presence_dir
        if directory is None:
            return True
        recovered = True
        for dead in presence.dead(directory, known=self._beat.worker):
            try:
                count = self._recovery.recover_worker(dead)
                logger.warning("worker %s is dead; %d deliveries given back", dead.worker, count)
            except Exception as error:
                # Whoever ended over it would leave it to the next worker, and that to the next.
                log_held_yet(dead.worker, error)
                recovered = False
            finally:
                dead.close()
        return recovered

    def _prune(self, now: float) -> None:
        """Delete records past their retention, in small steps."""
        # The clock's own time, or less: a clock set forward by years must not delete what was kept
        # for days.
        wall = min(self._broker.clock.now(), self._began[0] + time.monotonic() - self._began[1])
        succeeded, failed = self.hello.result_expires, self.hello.failure_expires
        try:
            count = self._broker.prune(
                succeeded_before=None if succeeded is None else wall - succeeded,
                failed_before=None if failed is None else wall - failed,
                limit=PRUNE_BATCH,
            )
        except BrokerError as error:
            logger.error("cannot prune: %s", error)
            count = 0
        self._next_prune = now + (PRUNE_PAUSE if count == PRUNE_BATCH else PRUNE_EVERY)
