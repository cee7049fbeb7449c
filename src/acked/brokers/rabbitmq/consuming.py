"""Taking messages: a connection that consumes, and a *shelf* for each queue on which what has
arrived waits to be claimed. It never publishes, so that no alarm stops it; whatever else is asked
of RabbitMQ is asked here, too, but for what `heads` asks.

A shelf is filled only while somebody claims or waits there. When it holds something and nobody has
come for `HOLD` seconds, as when the process runs a long task, the shelf is *shut*: RabbitMQ sends
no more, and what is on it goes back, for another process to take: to the end of its line (seen with
3.10.8, where a queue has no limit of deliveries). The next claim opens it again.

The shelves are for any thread. Everything else is used in the loop's thread alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from pika.exceptions import AMQPError, ChannelClosedByBroker

from acked.brokers.rabbitmq.address import Address
from acked.brokers.rabbitmq.lasting import Lasting
from acked.brokers.rabbitmq.link import Link
from acked.brokers.rabbitmq.meaning import ChannelRefused, LinkLost
from acked.brokers.rabbitmq.mending import ANSWER, INTERNAL_ERROR, Silent, Suspects
from acked.brokers.rabbitmq.outgoing import Outgoing, priority_of, task_of
from acked.brokers.rabbitmq.shelf import Shelf, Shelves, Ticket, prefetch_for
from acked.brokers.rabbitmq.topology import DEAD, has_lines, lines
from acked.errors import BrokerError, BrokerRefused

logger = logging.getLogger("acked.broker")

HOLD = 0.05
"""Seconds that a message may lie on a shelf while nobody claims."""

LOOK = 0.02
"""Seconds between two looks at shelves that hold something."""

ARRIVAL = 0.5
"""Seconds for which a claim waits for a message that RabbitMQ says is there."""

ON_THE_WAY = 0.002
"""Seconds in which a message arrives that was sent to us before RabbitMQ said it has none."""

PAUSED = 0.5
"""Seconds after which a paused queue is looked at again."""

LONGEST_PAUSE = 5.0
"""Seconds after which a queue that cannot be consumed is tried again, at most."""

SHARE = 0.6
"""Of a call's time, what it takes at most to consume one queue, so that others have the rest."""

ON_TIME = 0.5
"""Seconds that a suspect's answer takes longer, with the connection that it is asked on."""


class Consumer:
    """Lives on a session's loop.

    Args:
        address: Where RabbitMQ is.
        timeout: Seconds for making a connection.
        suspects: The queues that may not answer.
        on_delivery: Called in the loop's thread when a message has arrived.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        suspects: Suspects,
        on_delivery: Callable[[], None],
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._on_delivery = on_delivery
        self._link: Link | None = None
        self._opening = Lasting(self._open)
        self._consumers = 0
        self._suspects = suspects
        self._working = asyncio.Lock()
        self.shelves = Shelves()
        self._unacknowledged: dict[int, None] = {}
        # Queues are durable, and a lost connection is no sign that they are gone: while connections
        # break often, asking for each once more would keep a process from consuming at all.
        self._made: set[str] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._arrived: asyncio.Event | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended. From any thread."""
        link = self._link
        return link is None or link.lost is not None

    def is_open(self, queues: Sequence[str], limit: int | None = None) -> bool:
        """Whether each of *queues* is consumed, about as far ahead as *limit* needs, or left alone
        for now. From any thread."""
        return self.shelves.are_filled(queues, limit, lost=self.is_lost)

    async def open(self, queues: Sequence[str], limit: int | None = None) -> None:
        """Consume *queues*, far enough ahead for claims of *limit*. One that cannot be consumed is
        left alone for a while.

        Raises:
            BrokerError: RabbitMQ cannot be reached, or none of *queues* can be consumed.
        """
        async with self._working:
            link = await self._get_link()
            unwell: dict[str, BrokerError] = {}
            # Another may begin until then, and have its share of the call's time.
            last_begin = time.monotonic() + self._timeout * (1 - SHARE)
            # Those last whose lines may not answer.
            while wrong := sorted(self.shelves.wrong(queues, limit), key=self._is_doubtful):
                shelf = wrong[0]
                if unwell and self._is_doubtful(shelf) and time.monotonic() > last_begin:
                    # What the others have would wait for all of these.
                    for each in wrong:
                        each.shut_until = time.monotonic() + PAUSED
                        unwell[each.queue] = next(iter(unwell.values()))
                    break
                try:
                    await self._fill(link, shelf, prefetch_for(limit))
                except (Silent, BrokerRefused, ChannelRefused) as error:
                    unwell[shelf.queue] = error
                    self._rest(shelf, error)
                    # The others may have lost theirs with the connection.
                    link = await self._get_link()
            if unwell and len(unwell) == len(set(queues)):
                raise next(iter(unwell.values()))

    async def look(self, queues: Sequence[str]) -> None:
        """Nothing of *queues* is here: wait for what RabbitMQ says it has, if it says so."""
        async with self._working:
            link = await self._get_link()
            awake = [queue for queue in queues if not self.shelves.is_shut(queue)]
            found = any([await link.ready(name) > 0 for queue in awake for name in lines(queue)])
        if self.shelves.hold(queues):
            return
        self._arrived = arrived = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(arrived.wait(), ARRIVAL if found else ON_THE_WAY)

    async def describe(self) -> tuple[dict[str, Any], int]:
        """What the server says of itself, and how many dead letters there are."""
        async with self._working:
            link = await self._get_link()
            return link.server, await link.ready(DEAD)

    async def answered(self) -> float:
        """Monotonic time at which RabbitMQ has answered a question."""
        async with self._working:
            link = await self._get_link()
            await link.ready(DEAD)
        return time.monotonic()

    async def purge(self, queue: str) -> None:
        """Throw away every message that lies in a line of *queue*."""
        async with self._working:
            link = await self._get_link()
            for name in lines(queue):
                await link.purge(name)

    def settle(self, done: Sequence[Ticket], dead: Sequence[Ticket] = ()) -> None:
        """Acknowledge *done*; let RabbitMQ put *dead* with the dead letters."""
        link = self._link
        if link is None or link.lost is not None:
            return  # RabbitMQ delivers them again; the ledger knows what became of them.
        try:
            for ticket in dead:
                if ticket.link == self.shelves.link:
                    self._unacknowledged.pop(ticket.tag, None)
                    link.channel.basic_reject(ticket.tag, requeue=False)
            self._acknowledge(link, {t.tag for t in done if t.link == self.shelves.link})
        except AMQPError as error:
            logger.debug("not acknowledged: %s", error)

    def pause(self, queue: str, tickets: Sequence[Ticket]) -> None:
        """*queue* is paused: give *tickets* and all the rest back, and come again later."""
        shelf = self.shelves.get(queue)
        if shelf is not None:
            shelf.shut_until = time.monotonic() + PAUSED
            asyncio.get_running_loop().create_task(self._shut(shelf, tickets))

    async def close(self) -> None:
        """End the connection; what was not acknowledged goes back."""
        if self._link is not None:
            await self._link.close()

    def cut(self) -> None:
        """End the connection at once."""
        if self._link is not None:
            self._link.abort()

    async def _get_link(self) -> Link:
        link = self._link
        if link is None or link.lost is not None:
            link = await self._opening.done()
        await self._make(link, DEAD)
        return link

    async def _open(self) -> Link:
        link = await Link.open(self._address, "acked: consuming", self._timeout)
        await self._suspects.look()
        link.on_lost = self._on_lost
        link.channel.add_on_cancel_callback(self._on_cancelled)
        link.channel.add_on_close_callback(self._on_channel_closed)
        self._forget()
        self._link = link
        return link

    async def _make(self, link: Link, name: str) -> None:
        if name not in self._made:
            await self._suspects.make(link, name)
            self._made.add(name)

    def _is_doubtful(self, shelf: Shelf) -> bool:
        return not has_lines(shelf.queue) or self._suspects.has(lines(shelf.queue))

    def _rest(self, shelf: Shelf, error: BrokerError) -> None:
        """Leave *shelf* alone, for longer each time."""
        if not shelf.failures:
            logger.warning("the queue %r is not consumed: %s", shelf.queue, error)
        pause = min(PAUSED * 2**shelf.failures, LONGEST_PAUSE)
        shelf.failures += 1
        shelf.shut_until = time.monotonic() + pause

    async def _fill(self, link: Link, shelf: Shelf, prefetch: int) -> None:
        """Consume *prefetch* ahead for *shelf*.

        Raises:
            Silent: One of its lines does not answer; *link* is cut, if it was asked there.
            BrokerError: RabbitMQ cannot be reached, or refuses.
        """
        names = lines(shelf.queue)
        patience = ON_TIME if shelf.failures else ANSWER + ON_TIME
        try:
            # Not for as long as it takes to mend them, which goes on.
            await asyncio.wait_for(self._suspects.clear(names), patience)
        except TimeoutError:
            raise Silent(f"the lines of the queue {shelf.queue!r} do not answer yet") from None
        try:
            for name in names:
                await self._make(link, name)
            async with asyncio.timeout(self._timeout * SHARE):
                await self._cancel(link, shelf)
                await self._consume(link, shelf, prefetch)
        except (TimeoutError, asyncio.CancelledError) as error:
            # The answer may still come, to what nobody waits for any more.
            link.abort()
            self._suspects.doubt(names)
            if isinstance(error, TimeoutError):
                raise Silent(
                    f"RabbitMQ at {self._address.masked} does not say that it delivers from the "
                    f"lines of the queue {shelf.queue!r}"
                ) from None
            raise
        except LinkLost as error:
            if INTERNAL_ERROR not in str(error):
                raise
            self._suspects.doubt(names)
            raise Silent(str(error)) from error
        shelf.failures = 0

    async def _consume(self, link: Link, shelf: Shelf, prefetch: int) -> None:
        await link.ask(link.channel.basic_qos, prefetch_count=prefetch)
        number, shelf.consumers = self.shelves.link, []

        def arrived(_: Any, method: Any, properties: Any, body: bytes) -> None:
            self._on_message(shelf, number, method, properties, body)

        for name in reversed(lines(shelf.queue)):
            self._consumers += 1
            tag = f"acked-{self._consumers}"
            shelf.consumers.append(tag)
            await link.ask(link.channel.basic_consume, name, arrived, consumer_tag=tag)
        shelf.prefetch = prefetch

    async def _cancel(self, link: Link, shelf: Shelf) -> None:
        shelf.prefetch = 0
        while shelf.consumers:
            tag = shelf.consumers[-1]
            # The driver never answers for one that it does not know any more.
            if tag in link.channel.consumer_tags:
                await link.ask(link.channel.basic_cancel, tag)
            # Not before: one that is forgotten goes on, as long as the connection lasts.
            if tag in shelf.consumers:
                shelf.consumers.remove(tag)

    async def _shut(self, shelf: Shelf, tickets: Sequence[Ticket] = ()) -> None:
        async with self._working:
            link = self._link
            if link is None or link.lost is not None:
                return
            try:
                await self._cancel(link, shelf)
                back = [*tickets, *self.shelves.clear(shelf)]
                for ticket in sorted(back, key=lambda each: each.tag):
                    if ticket.link == self.shelves.link and ticket.tag in self._unacknowledged:
                        del self._unacknowledged[ticket.tag]
                        link.channel.basic_nack(ticket.tag, requeue=True)
            except (BrokerError, AMQPError) as error:
                logger.debug("not given back: %s", error)
                link.abort()

    def _on_message(
        self, shelf: Shelf, number: int, method: Any, properties: Any, body: bytes
    ) -> None:
        if number != self.shelves.link:
            return
        tag = method.delivery_tag
        priority = priority_of(properties)
        ready = float(properties.timestamp or 0)
        message = Outgoing(task_of(properties), body, method.routing_key, ready, priority)
        ticket = Ticket(-priority, ready, tag, message, number)
        self._unacknowledged[tag] = None
        self.shelves.put(shelf, ticket)
        if self._arrived is not None:
            self._arrived.set()
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.get_running_loop().create_task(self._keep())
        self._on_delivery()

    async def _keep(self) -> None:
        """Shut the shelves to which nobody comes, as long as any shelf holds something."""
        while True:
            await asyncio.sleep(LOOK)
            for shelf in self.shelves.left_alone(HOLD):
                await self._shut(shelf)
            if not self.shelves.hold():
                return

    def _acknowledge(self, link: Link, tags: set[int]) -> None:
        """Acknowledge *tags*: in one go as far as everything before them is done as well."""
        first = 0
        while self._unacknowledged and (tag := next(iter(self._unacknowledged))) in tags:
            del self._unacknowledged[tag]
            tags.discard(tag)
            first = tag
        if first:
            link.channel.basic_ack(first, multiple=True)
        for tag in sorted(tags):
            if tag in self._unacknowledged:
                del self._unacknowledged[tag]
                link.channel.basic_ack(tag)

    def _on_cancelled(self, frame: Any) -> None:
        """RabbitMQ ended a consumer: its queue was deleted, or moved to another node."""
        self.shelves.end(frame.method.consumer_tag)
        self._made.clear()
        self._on_delivery()

    def _on_channel_closed(self, _: Any, error: Exception) -> None:
        if isinstance(error, ChannelClosedByBroker):
            # What it refused may have been a queue that is not there any more.
            self._made.clear()

    def _on_lost(self, error: BrokerError) -> None:
        logger.info("consuming stopped: %s", error)
        self._suspects.connection_lost()
        self._forget()
        self._on_delivery()

    def _forget(self) -> None:
        """What was on the shelves is RabbitMQ's again."""
        self._unacknowledged.clear()
        self.shelves.forget()
