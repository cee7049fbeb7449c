"""Asking whether a task with a rate limit may start now."""

from __future__ import annotations

import random

import msgspec

from acked.broker import Broker
from acked.delivery import Delivery, Settlement
from acked.errors import BrokerError
from acked.rate import Line, Rate, ask

UNANSWERED = 1.0
"""Seconds after which it is asked again where the broker does not answer."""


class Permits:
    """The permits of one process. Safe from any thread.

    Args:
        broker: Where all workers keep what they agree on.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._known: dict[str, bytes | None] = {}

    def refusal(self, held: Delivery, task: str, rate: Rate) -> Settlement | None:
        """None where *held* may start, which is counted; else its settlement: it waits its turn.

        Args:
            held: The delivery.
            task, rate: The name of its task, and how often that may start.
        """
        try:
            not_before = self._ask(f"rate:{task}", rate)
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

    def _ask(self, name: str, rate: Rate) -> float | None:
        known = self._known.get(name)
        while True:
            line, not_before = ask(
                _line(known), rate.interval, now=self._broker.clock.now(), roll=random.random()
            )
            new = msgspec.json.encode(line)
            found = self._broker.exchange(name, known, new)
            if found == known:
                self._known[name] = new
                return not_before
            known = found


def _line(raw: bytes | None) -> Line | None:
    """What *raw* says; None where it is nothing of ours, which begins the line anew."""
    try:
        return None if raw is None else msgspec.json.decode(raw, type=Line)
    except msgspec.DecodeError:
        return None
