"""How often somebody may guess a password."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from acked.pages.caps import network_of

WINDOW = 15 * 60.0
"""Seconds for which a failed login is remembered."""

PER_NAME_AND_ADDRESS = 5
PER_ADDRESS = 20
PER_NAME = 200
"""Failed logins within `WINDOW`. The one for a name alone is high, so that nobody can lock
somebody else out by a few wrong guesses."""

REMEMBERED = 10_000
"""Names and addresses; the oldest make room."""

Key = tuple[str, str]


class Throttle:
    """Counts failed logins. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[Key, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, name: str, address: str) -> float:
        """Seconds until another try is allowed; 0 where it is now."""
        now = self._clock()
        with self._lock:
            return max(self._wait(key, limit, now) for key, limit in _limits(name, address))

    def failed(self, name: str, address: str) -> None:
        """A login failed."""
        now = self._clock()
        with self._lock:
            for key, limit in _limits(name, address):
                times = self._failures.setdefault(key, deque(maxlen=limit))
                times.append(now)
                self._failures.move_to_end(key)
            while len(self._failures) > REMEMBERED:
                self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """A login did not fail."""
        with self._lock:
            self._failures.pop((name, network_of(address)), None)

    def _wait(self, key: Key, limit: int, now: float) -> float:
        times = self._failures.get(key)
        if times is None or len(times) < limit:
            return 0.0
        return max(0.0, times[0] + WINDOW - now)


def _limits(name: str, address: str) -> tuple[tuple[Key, int], ...]:
    address = network_of(address)
    return (
        ((name, address), PER_NAME_AND_ADDRESS),
        (("", address), PER_ADDRESS),
        ((name, ""), PER_NAME),
    )
