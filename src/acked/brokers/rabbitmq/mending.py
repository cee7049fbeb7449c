"""Queues that RabbitMQ forgot half of, and how they are mended.

RabbitMQ notes which log belongs to a new quorum queue up to a second after it has said that the
queue is there, and confirms messages to it in the meantime. Killed in that second, it comes back
with a queue that has no leader, now or ever, and so answers nothing that is asked of it, or ends
the connection that asks, while all the others do (seen with 3.10.8).

So whoever makes a queue, and loses the connection soon after, *suspects* it. A suspect that does
not answer is deleted and made anew. What was in it is in the ledger, and is sent again.
"""

from __future__ import annotations

import asyncio
import logging
import time

from acked.brokers.rabbitmq.address import Address
from acked.brokers.rabbitmq.lasting import Lasting
from acked.brokers.rabbitmq.link import Link, LinkLost
from acked.brokers.rabbitmq.topology import place_of

logger = logging.getLogger("acked.broker")

NEW = 3.0
"""Seconds for which a queue is new; RabbitMQ needs one of them, on an idle machine."""

ANSWER = 1.5
"""Seconds in which a queue that has a leader has answered."""

INTERNAL_ERROR = "INTERNAL_ERROR"
"""What RabbitMQ says when it meets what it did not expect, AMQP's code 541."""

DELETING = 20.0
"""Seconds in which RabbitMQ has given up looking for the leader, and deletes the queue by force."""


class Suspects:
    """The queues that one connection after the other has made.

    Args:
        address: Where RabbitMQ is.
        timeout: Seconds for making a connection.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._made_at: dict[str, float] = {}
        self._suspects: set[str] = set()
        self._mending = Lasting(self._mend)

    def made(self, name: str) -> None:
        """The queue *name* was made just now."""
        self._made_at[name] = time.monotonic()

    def connection_lost(self) -> None:
        """Whatever is new may not have outlived it."""
        since = time.monotonic() - NEW
        self._suspects |= {name for name, at in self._made_at.items() if at > since}
        self._made_at.clear()

    async def clear(self) -> None:
        """See to it that every suspect answers.

        Raises:
            BrokerError: RabbitMQ cannot be reached.
        """
        if self._suspects:
            await self._mending.done()

    async def _mend(self) -> None:
        for name in sorted(self._suspects):
            if not await self._answers(name):
                logger.warning("the queue %s has lost its leader for good; making it anew", name)
                await self._replace(name)
            self._suspects.discard(name)

    async def _answers(self, name: str) -> bool:
        link = await Link.open(self._address, "acked: asking", self._timeout)
        try:
            await asyncio.wait_for(link.head(name), ANSWER)
        except TimeoutError:
            link.abort()
            return False
        except LinkLost as error:
            # Or it ends the connection: it looks for a process of the queue that there is not.
            if INTERNAL_ERROR not in str(error):
                raise
            return False
        await link.close()
        return True

    async def _replace(self, name: str) -> None:
        link = await Link.open(self._address, "acked: mending", self._timeout)
        try:
            await asyncio.wait_for(link.delete(name), DELETING)
            await link.make(place_of(name, link.version))
            self.made(name)
        finally:
            await link.close()
