"""The guard: kills what has passed its hard limit or was terminated.

It runs in a thread of its own, which touches neither the broker nor the fork server: a limit holds
also while the supervisor waits for a locked database.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence

from acked.broker import Order
from acked.supervision import Death
from acked.worker.lines import LAST_WORDS, LineWriter
from acked.worker.place import Place

logger = logging.getLogger("acked.worker")

TICK = 0.1
CANCEL_PATIENCE = 5.0
"""Seconds a cancelled coroutine is given before its process is killed."""


class Guard:
    """Watches the slots of every process.

    Args:
        places: The worker's.
        coroutines: How many slots behind the first belong to coroutines, which can be cancelled
            without killing their process.
        patience: Seconds for which the supervisor's own loop may stand still. What it waits for
            has a time limit each, so a loop that stands longer hangs, and the worker ends: its
            tasks are run again, by the worker that replaces it or by another.
        lines: Where what is logged goes to.
    """

    def __init__(
        self, places: Sequence[Place], coroutines: int, *, patience: float, lines: LineWriter
    ) -> None:
        self._places = places
        self._coroutines = coroutines
        self._patience = patience
        self._lines = lines
        self._pulse = time.monotonic()
        self._kill_at: dict[int, float] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="acked-guard", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def pulse(self) -> None:
        """The supervisor's loop goes on."""
        self._pulse = time.monotonic()

    def obey(self, orders: Sequence[Order]) -> None:
        """Cancel or kill what was revoked with ``terminate=True``.

        Args:
            orders: All that stand; what is not among them any more is forgotten.
        """
        now = time.monotonic()
        known, wanted = self._kill_at, {order.token for order in orders}
        kill_at = {token: at for token, at in known.items() if token in wanted}
        for place in self._places:
            for entry in place.section.running():
                if entry.token not in wanted or entry.token in kill_at:
                    continue
                if 1 <= entry.slot <= self._coroutines:
                    place.section.order(entry.slot, entry.token)
                    kill_at[entry.token] = now + CANCEL_PATIENCE
                else:
                    kill_at[entry.token] = now
        self._kill_at = kill_at

    def _run(self) -> None:
        seen, turns = self._pulse, 0
        while not self._ended.wait(TICK):
            now, kill_at = time.monotonic(), self._kill_at
            # In turns of this thread, not by the clock: where the whole process was stopped
            # (SIGSTOP, a frozen container), the loop has not hung.
            seen, turns = self._pulse, turns + 1 if seen == self._pulse else 0
            hung = turns * TICK
            if hung > self._patience:
                try:
                    logger.critical("the supervisor has hung for %.0f s; it ends", hung)
                    self._lines.drain(LAST_WORDS)
                finally:
                    os._exit(1)
            for place in self._places:
                with place.lock:
                    self._watch(place, now, kill_at)

    def _watch(self, place: Place, now: float, kill_at: dict[int, float]) -> None:
        if place.pid is None or place.death is not None:
            return
        for entry in place.section.running():
            if entry.deadline and now >= entry.deadline:
                place.kill(Death(how="time limit", overran=entry.token, limit=entry.limit))
            elif entry.token in kill_at and now >= kill_at[entry.token]:
                place.kill(Death(how="terminated", revoked=entry.token))
            else:
                continue
            return
