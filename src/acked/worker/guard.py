"""The guard: kills what has passed its hard limit or was terminated.

It runs in a thread of its own, which touches neither the broker nor the fork server: a limit holds
also while the supervisor waits for a locked database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from acked.broker import Order
from acked.supervision import Death
from acked.worker.place import Place

TICK = 0.1
CANCEL_PATIENCE = 5.0
"""Seconds a cancelled coroutine is given before its process is killed."""


class Guard:
    """Watches the slots of every process.

    Args:
        places: The worker's.
        coroutines: How many slots behind the first belong to coroutines, which can be cancelled
            without killing their process.
    """

    def __init__(self, places: Sequence[Place], coroutines: int) -> None:
        self._places = places
        self._coroutines = coroutines
        self._kill_at: dict[int, float] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="acked-guard", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

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
        while not self._ended.wait(TICK):
            now, kill_at = time.monotonic(), self._kill_at
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
