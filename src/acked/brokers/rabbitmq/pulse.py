"""Whether RabbitMQ answers this process at all: `Pulse`.

A supervisor asks RabbitMQ for next to nothing, and its heartbeats go to the ledger. So it asks for
no other reason than to hear an answer, once with each heartbeat, and never waits for it.
"""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future

from pika.exceptions import AMQPError

from acked.brokers.rabbitmq.session import Session
from acked.errors import BrokerError


class Pulse:
    """What one process has heard."""

    def __init__(self) -> None:
        self._heard: float | None = None
        self._reason = ""
        self._asked: tuple[Session, Future[float]] | None = None

    def silence(self, session: Session) -> tuple[float, str]:
        """Seconds since the last answer, or since this was called first; and what was the matter
        with the last question."""
        if self._heard is None:
            self._heard = time.monotonic()
        if self._asked is not None:
            asked_of, answer = self._asked
            if answer.done():
                self._hear(answer)
            if answer.done() or asked_of is not session:
                self._asked = None
        if self._asked is None:
            self._asked = session, session.begin(session.consumer.answered())
        return time.monotonic() - self._heard, self._reason

    def _hear(self, answer: Future[float]) -> None:
        try:
            self._heard, self._reason = answer.result(), ""
        except (CancelledError, BrokerError, AMQPError) as error:
            self._reason = str(error) or type(error).__name__
