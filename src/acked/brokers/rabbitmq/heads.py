"""Since when the first message of a queue has been there: `Heads`.

The question is asked on a connection of its own, with a time limit for each queue. One whose
process hangs does not answer, and one whose process is gone ends the connection (seen with 3.10.8).
Neither may hold up what is asked of other queues, nor whoever consumes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from pika.exceptions import AMQPError

from acked.brokers.rabbitmq.address import Address
from acked.brokers.rabbitmq.link import Link
from acked.brokers.rabbitmq.mending import ANSWER
from acked.errors import BrokerError

logger = logging.getLogger("acked.broker")

ROUND = 10.0
"""Seconds after which no further queue is asked, as when most of a cluster's nodes are away."""


class Heads:
    """Lives on a session's loop; asked by one at a time.

    Args:
        address: Where RabbitMQ is.
        timeout: Seconds for making a connection.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._link: Link | None = None
        self._silent: set[str] = set()

    async def ask(self, names: Iterable[str]) -> dict[str, float | None]:
        """Since when the first message of each of the queues *names* has been there, wall-clock
        seconds; None where nothing lies. A queue that does not answer is left out.

        Raises:
            BrokerError: RabbitMQ cannot be reached.
        """
        heads: dict[str, float | None] = {}
        end = time.monotonic() + ROUND
        # Those that did not answer last time come last, so that the others have the time.
        for name in sorted(names, key=lambda each: each in self._silent):
            if time.monotonic() > end:
                break
            link = await self._get_link()
            try:
                heads[name] = await asyncio.wait_for(link.head(name), ANSWER)
            except (TimeoutError, BrokerError, AMQPError) as error:
                logger.debug("the queue %s does not say what it has: %r", name, error)
                self._silent.add(name)
                link.abort()  # What is asked next on it would wait for this answer.
            else:
                self._silent.discard(name)
        return heads

    async def close(self) -> None:
        """End the connection."""
        if self._link is not None:
            await self._link.close()

    def cut(self) -> None:
        """End the connection at once."""
        if self._link is not None:
            self._link.abort()

    async def _get_link(self) -> Link:
        if self._link is None or self._link.lost is not None:
            self._link = await Link.open(self._address, "acked: asking", self._timeout)
        return self._link
