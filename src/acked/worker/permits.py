"""Asking whether a task with a rate limit may start now."""

from __future__ import annotations

import secrets
import time

import msgspec

from acked.broker import Broker
from acked.chance import roll
from acked.delivery import Delivery, Settlement
from acked.errors import BrokerError
from acked.rate import Line, Rate, ask

UNANSWERED = 1.0
"""Seconds after which it is asked again where the broker does not answer."""

FRESH = 1.0
"""Seconds for which who is sent far away is not worth a question to the broker: in a long line that
is nearly everybody."""


class _Known(msgspec.Struct):
    """What the workers had agreed on, as `_written`, and when it was read (monotonic)."""

    raw: bytes | None = None
    read: float = float("-inf")


class Permits:
    """The permits of one process. Safe from any thread.

    Args:
        broker: Where all workers keep what they agree on.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lines: dict[str, _Known] = {}

    def take(self, held: Delivery, task: str, rate: Rate) -> Settlement | None:
        """Take the permit to start *held* now; or its settlement, since it has to wait its turn.

        A permit that is not used is lost: ask when all else is ready.

        Args:
            held: The delivery.
            task, rate: The name of its task, and how often that may start.
        """
        # Not the task alone: while a new rate is deployed, workers of both would share a line.
        name = f"rate:{rate.interval!r}:{task}"
        try:
            not_before = self._ask(name, rate.interval)
        except BrokerError as error:
            now = self._broker.clock.now()
            return Settlement.postponed(
                held, at=now, not_before=now + UNANSWERED,
                reason=f"cannot ask for its turn under the rate limit {rate.text}: {error}",
            )  # fmt: skip
        if not_before is None:
            return None
        return Settlement.postponed(
            held, at=self._broker.clock.now(), not_before=not_before,
            reason=f"waits its turn: rate limit {rate.text}",
        )  # fmt: skip

    def _ask(self, name: str, interval: float) -> float | None:
        known = self._lines.setdefault(name, _Known())
        while True:
            old = known.raw
            line = _line(old)
            new, not_before = ask(line, interval, now=self._broker.clock.now(), roll=roll())
            no_place = not_before is not None and line is not None and new.place == line.place
            if no_place and time.monotonic() < known.read + FRESH:
                return not_before
            raw = _written(new)
            found = self._broker.exchange(name, old, raw)
            done = found in (old, raw)
            known.raw, known.read = raw if done else found, time.monotonic()
            if done:
                return not_before


def _written(line: Line) -> bytes:
    # With what tells it from the same line that another writes, who knows as much and asks at the
    # same time. From the system, not `random`: a task that seeds `random` would make it repeat.
    return msgspec.json.encode((line.free, line.place, secrets.token_hex(8)))


def _line(raw: bytes | None) -> Line | None:
    """What *raw* says; None where it is nothing of ours, which begins the line anew."""
    try:
        return None if raw is None else msgspec.json.decode(raw, type=Line)
    except msgspec.DecodeError:
        return None
