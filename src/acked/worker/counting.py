"""Counting what a worker settles, and adding it to the broker's counters now and then."""

from __future__ import annotations

import logging

from acked.broker import Records
from acked.delivery import Delivery, Settlement
from acked.errors import BrokerError
from acked.message import Message
from acked.tally import Tally

logger = logging.getLogger("acked.worker")

WRITE_EVERY = 5.0
"""Seconds between two writes."""


class Counting:
    """The counts of one process.

    Args:
        records: Where they are added.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._tally = Tally()
        self._write_at = 0.0

    def ended(self, held: Delivery, message: Message, settlement: Settlement) -> None:
        """An attempt ended in this process."""
        waited: float | None = None
        if held.runs == 0 and settlement.started is not None:
            due = message.sent if message.eta is None else max(message.sent, message.eta)
            waited = max(0.0, settlement.started - due)
        self._tally.note(settlement, queue=held.queue, task=message.task, waited=waited)

    def lost(self, held: Delivery, task: str, settlement: Settlement) -> None:
        """An attempt ended with the process that ran it, and was settled here."""
        self._tally.note(settlement, queue=held.queue, task=task)

    def write(self, now: float, *, at_once: bool = False) -> None:
        """Write what there is, when it is time. A broker that refuses costs the counts alone.

        Args:
            now: Monotonic time.
            at_once: Whether or not it is time.
        """
        if now < self._write_at and not at_once:
            return
        self._write_at = now + WRITE_EVERY
        counts = self._tally.take()
        if counts:
            try:
                self._records.count(counts)
            except BrokerError as error:
                logger.warning("%d counts could not be written: %s", len(counts), error)
