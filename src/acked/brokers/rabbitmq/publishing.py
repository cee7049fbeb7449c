"""Publishing with confirms, on a connection of its own: an alarm stops publishers, and must not
stop consumers.

A *batch* is written as a whole, then all its confirms are waited for together. A connection on
which one does not come in time is cut: whatever else is published there might wait for the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pika.spec import Basic, BasicProperties

from acked.brokers.rabbitmq.address import Address
from acked.brokers.rabbitmq.lasting import Lasting
from acked.brokers.rabbitmq.link import Link
from acked.brokers.rabbitmq.meaning import PRECONDITION_FAILED, LinkLost
from acked.brokers.rabbitmq.mending import Suspects
from acked.brokers.rabbitmq.outgoing import Outgoing, task_of
from acked.errors import BrokerError, BrokerUnavailable

logger = logging.getLogger("acked.broker")

REFUSED_FOR = 1.5
"""Seconds for which a send tries again what RabbitMQ refuses. A queue refuses messages while it has
no leader, and one just made may on a busy machine. One that is full stays so: whoever sends there
after these seconds is told at once."""

REFUSED_PAUSE = 0.1
"""Seconds between two such tries."""

FORGOTTEN_AFTER = 5.0
"""Seconds without a refusal after which the next one is the first again."""

CONFIRMED = 10.0
"""Seconds in which a queue confirms what it has taken, for who waits without a limit. It takes some
where a cluster has to choose another leader first."""

SHOWN = 3
"""Queues that an error names."""

NOBODY = "acked.nobody"
"""A routing key that no queue has."""

LARGEST = re.compile(r"message size \d+ is larger than configured max size (\d+)")
"""What RabbitMQ says when it closes the channel of who sent more."""

LIMIT_KNOWN = 300.0
"""Seconds for which that is taken for granted. Then it is tried again, which costs a connection."""

CONTENT_TYPE = "application/json"
PERSISTENT = 2


class Unconfirmed(BrokerUnavailable):
    """The connection was cut, as no confirm came in time."""


class TooLarge(BrokerError):
    """RabbitMQ takes no message of that size."""


class Blocked(BrokerUnavailable):
    """RabbitMQ takes no messages because of an alarm."""


class Batch:
    """Messages whose confirms are waited for together."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left = 0
        self.refused: set[str] = set()
        self.homeless: set[str] = set()

    def confirm(self, task_id: str, *, refused: bool) -> None:
        self.left -= 1
        if refused:
            self.refused.add(task_id)
        if not self.left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BrokerError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Publisher:
    """Lives on a session's loop. `blocked` and `is_up` may be read from any thread.

    Args:
        address: Where RabbitMQ is.
        timeout: Seconds for making a connection.
        suspects: The queues that may not answer.
    """

    def __init__(self, address: Address, timeout: float, suspects: Suspects) -> None:
        self._address = address
        self._timeout = timeout
        self._link: Link | None = None
        self._opening = Lasting(self._open)
        self._suspects = suspects
        self._limit = max(CONFIRMED, 2 * timeout)
        self._making = asyncio.Lock()
        self._made: set[str] = set()
        self._waiting: dict[int, tuple[Batch, str, str]] = {}
        self._sent = 0
        self._largest = math.inf, 0.0
        self._refusing: dict[tuple[str, ...], tuple[float, float]] = {}

    @property
    def is_up(self) -> bool:
        """Whether it is connected, and RabbitMQ takes messages."""
        link = self._link
        return link is not None and link.lost is None and not link.blocked

    @property
    def blocked(self) -> str:
        """Why RabbitMQ takes no messages; empty when it does, as far as is known."""
        link = self._link
        return link.blocked if link is not None and link.lost is None else ""

    @property
    def largest(self) -> float:
        """Bytes that a message may have, as far as is known."""
        limit, until = self._largest
        return limit if time.monotonic() < until else math.inf

    def check_sizes(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """See that RabbitMQ takes *messages*, ids and bodies, as far as is known: it tells its
        limit only to who has exceeded it. From any thread.

        Raises:
            TooLarge: It does not.
        """
        limit = self.largest
        if limit == math.inf:
            return
        for task_id, body in messages:
            if len(body) > limit:
                raise TooLarge(
                    f"the message of the task {task_id!r} has {len(body):,} bytes, and RabbitMQ at "
                    f"{self._address.masked} takes none of more than {limit:,}: send less, or set "
                    "max_message_size in its rabbitmq.conf",
                    nothing_stored=True,
                )

    async def get_ready(self) -> Link:
        """Connect, if that is not done, and see that RabbitMQ takes messages.

        Raises:
            Blocked: It does not.
            BrokerError: It cannot be reached, or refuses us.
        """
        link = self._link
        if link is None or link.lost is not None or self._opening.goes_on:
            link = await self._opening.done()
        if link.blocked:
            raise self._alarm(link.blocked)
        return link

    async def publish(self, messages: Sequence[Outgoing], *, until: float = -math.inf) -> None:
        """Publish *messages*; returns when RabbitMQ has all of them on disk.

        Args:
            until: Monotonic time until which what RabbitMQ refuses may be tried again.

        Raises:
            BrokerError: It may have none, some, or all of them.
        """
        left, made_anew = messages, False
        while True:
            try:
                batch = await self.publish_once(left)
            except (Unconfirmed, LinkLost) as error:
                # Another's message has cost the connection: one to a queue that does not answer, or
                # one that is too large. Were it ours, the next try would say so.
                was_cut = isinstance(error, Unconfirmed) or error.code == PRECONDITION_FAILED
                if not was_cut or time.monotonic() + REFUSED_PAUSE > until:
                    raise
                continue
            again = batch.refused | batch.homeless
            if not again:
                return
            if batch.homeless:
                # Somebody deleted the queue since we made it.
                if made_anew:
                    raise BrokerError(
                        f"RabbitMQ has no queue for {len(batch.homeless)} messages, though made"
                    )
                made_anew = True
            left = [each for each in left if each.task_id in again]
            if batch.refused:
                lines = {each.places for each in left if each.task_id in batch.refused}
                if time.monotonic() + REFUSED_PAUSE > min(until, self._patience_with(lines)):
                    raise BrokerError(
                        f"RabbitMQ at {self._address.masked} refused {len(batch.refused)} of "
                        f"{len(messages)} messages: a queue is full, or most of its nodes are away"
                    )
                await asyncio.sleep(REFUSED_PAUSE)

    async def publish_once(self, messages: Sequence[Outgoing]) -> Batch:
        """Publish *messages* once; all that RabbitMQ said of it.

        Raises:
            TooLarge: RabbitMQ takes none of that size; it has taken some of the others.
            Silent: A queue that they need does not answer.
            Unconfirmed: There was no answer in time.
        """
        link = await self.get_ready()
        self.check_sizes((each.task_id, each.body) for each in messages)
        needed = {name for each in messages for name in each.places}
        await self._suspects.clear(needed)
        try:
            async with asyncio.timeout(self._limit):
                return await self._publish_on(link, messages, needed)
        except LinkLost:
            self.check_sizes((each.task_id, each.body) for each in messages)
            raise
        except (TimeoutError, asyncio.CancelledError) as error:
            # Whatever comes next on this connection might wait for the same answer.
            unconfirmed = self._drop(link, needed)
            if isinstance(error, TimeoutError):
                raise unconfirmed from None
            raise

    async def close(self) -> None:
        """End the connection."""
        if self._link is not None:
            await self._link.close()

    def cut(self) -> None:
        """End the connection at once."""
        if self._link is not None:
            self._link.abort()

    async def _open(self) -> Link:
        link = await Link.open(self._address, "acked: publishing", self._timeout)
        await self._suspects.look()
        link.on_blocked = lambda reason: self._fail(self._alarm(reason))
        link.on_lost = self._on_lost
        link.channel.add_on_return_callback(self._on_return)
        await link.ask(link.channel.confirm_delivery, self._on_confirm)
        self._sent, self._made = 0, set()
        self._link = link
        with contextlib.suppress(Blocked):
            await self._try_out(link)
        return link

    async def _try_out(self, link: Link) -> None:
        """Publish to nobody: RabbitMQ tells of an alarm only to those that publish, and nothing
        may be stored while there is one. From then on it reads nothing from them."""
        link.check()
        batch = Batch()
        self._expect(batch, "", "")
        link.channel.basic_publish("", NOBODY, b"")
        await batch.done

    async def _make(self, link: Link, names: set[str]) -> None:
        async with self._making:
            for name in sorted(names - self._made):
                await self._suspects.make(link, name)
                self._made.add(name)

    def _patience_with(self, lines: Collection[tuple[str, ...]]) -> float:
        """Until when a refusal by one of *lines* may be a passing one."""
        return min(self._refusing[each][0] for each in lines) + REFUSED_FOR

    def _note_refusals(self, messages: Sequence[Outgoing], refused: set[str]) -> None:
        """Remember since when each line refuses, and when it did last."""
        if not refused and not self._refusing:
            return
        now = time.monotonic()
        for each in messages:
            if each.task_id not in refused:
                self._refusing.pop(each.places, None)
        for each in messages:
            if each.task_id in refused:
                first, last = self._refusing.get(each.places, (now, now))
                first = now if now - last > FORGOTTEN_AFTER else first
                self._refusing[each.places] = first, now

    async def _publish_on(
        self, link: Link, messages: Sequence[Outgoing], needed: set[str]
    ) -> Batch:
        if not needed <= self._made:
            await self._make(link, needed)
        link.check()
        batch = Batch()
        publish = link.channel.basic_publish
        for each in messages:
            self._expect(batch, each.task_id, each.goes_to)
            publish(
                each.delay,
                each.line,
                each.body,
                BasicProperties(  # type: ignore[no-untyped-call] # of the driver
                    content_type=CONTENT_TYPE,
                    headers=each.headers,
                    delivery_mode=PERSISTENT,
                    message_id=each.name,
                    timestamp=int(each.ready),
                ),
                mandatory=True,
            )
        if batch.left:
            await batch.done
        if batch.homeless:
            self._made.clear()
        self._note_refusals(messages, batch.refused)
        return batch

    def _drop(self, link: Link, needed: set[str]) -> Unconfirmed:
        """Cut *link*, on which no answer came in time, and suspect each queue that may be why: one
        that was being made, or has not confirmed everything yet."""
        silent = (needed - self._made) | {queue for _, _, queue in self._waiting.values() if queue}
        unconfirmed = Unconfirmed(
            f"RabbitMQ at {self._address.masked} did not confirm in time what was sent to "
            f"{', '.join(sorted(silent)[:SHOWN])}"
        )
        if link.lost is None:
            self._suspects.doubt(silent)
            link.abort(unconfirmed)
        return unconfirmed

    def _expect(self, batch: Batch, task_id: str, queue: str) -> None:
        """The next message that is written belongs to *batch*, and goes to *queue*."""
        self._sent += 1
        batch.left += 1
        self._waiting[self._sent] = batch, task_id, queue

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        refused = isinstance(frame.method, Basic.Nack)
        tags = [tag]
        if multiple:
            tags = [each for each in self._waiting if each <= tag]
        for each in tags:
            found = self._waiting.pop(each, None)
            if found is not None:
                batch, task_id, _ = found
                batch.confirm(task_id, refused=refused)

    def _on_return(self, _: Any, __: Any, properties: Any, ___: bytes) -> None:
        # It comes before the confirm.
        for batch, task_id, _ in self._waiting.values():
            if task_id == task_of(properties):
                batch.homeless.add(task_id)

    def _on_lost(self, error: BrokerError) -> None:
        said = LARGEST.search(str(error))
        if said is not None:
            self._largest = int(said[1]), time.monotonic() + LIMIT_KNOWN
        self._suspects.connection_lost()
        self._fail(error)

    def _fail(self, error: BrokerError) -> None:
        waiting, self._waiting = self._waiting, {}
        for batch, _, _ in waiting.values():
            batch.fail(error)

    def _alarm(self, reason: str) -> Blocked:
        return Blocked(
            f"RabbitMQ at {self._address.masked} takes no messages at the moment: {reason}. "
            "Free memory or disk space there; see `rabbitmqctl status`, under Alarms."
        )
