"""Queues that RabbitMQ forgot half of, and how they are mended.

RabbitMQ notes which log belongs to a new quorum queue up to a second after it has said that the
queue is there, and confirms messages to it in the meantime. Killed in that second, it comes back
with a queue that has no leader, now or ever, and so answers nothing that is asked of it, or ends
the connection that asks (seen with 3.10.8). Whoever publishes to it has a channel that does nothing
else for a minute.

So whoever makes a queue notes that in the ledger, before (`notes`), since RabbitMQ and he may die
together. The note goes when the queue is old. Whoever connects meanwhile *suspects* the queue, as
he does one that gives no answer. A suspect is asked, on a connection that nobody else needs, before
it is used: all of them on one, and again each on its own, as one that ends the connection takes the
others' answers along. If it answers, it is none any more. If it does not, and is noted, it is
deleted and made anew, by one of all who find that. What was in it is in the ledger, and is sent
again.

One that is not noted is never deleted. It is silent because most of its nodes are away, say, and
has all its messages when they are back. It is asked again from time to time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from acked.brokers.rabbitmq.address import Address
from acked.brokers.rabbitmq.lasting import Lasting
from acked.brokers.rabbitmq.link import Link
from acked.brokers.rabbitmq.meaning import LinkLost
from acked.brokers.rabbitmq.notes import Note, Notes
from acked.brokers.rabbitmq.topology import place_of
from acked.errors import BrokerError, BrokerUnavailable

logger = logging.getLogger("acked.broker")

T = TypeVar("T")

NEW = 3.0
"""Seconds for which a queue is new; RabbitMQ needs one of them, on an idle machine."""

OLD = 12.0
"""Seconds after which a queue's maker, still connected, knows that RabbitMQ has outlived `NEW`: the
end of one that says nothing is noticed by its heartbeats."""

NOTED = 1.0
"""Seconds for which a new connection waits for the ledger to say which queues are new."""

ANSWER = 1.5
"""Seconds in which a queue that has a leader has answered."""

LEFT = 60.0
"""Seconds after which a connected process looks for notes that their makers have left: they ended
before the queue was old, or could not reach the ledger then."""

LAST_ANSWER = 5.0
"""As many, when it is asked for the last time: on a busy machine much takes longer."""

ASK_AGAIN = 1.0
"""Seconds between two such questions."""

SILENT = 5.0
"""Seconds for which a silent queue is not asked again."""

AT_ONCE = 4
"""Queues that are asked at the same time."""

INTERNAL_ERROR = "INTERNAL_ERROR"
"""What RabbitMQ says when it meets what it did not expect, AMQP's code 541."""

DELETING = 20.0
"""Seconds in which RabbitMQ has given up looking for the leader, and deletes the queue by force."""

MENDED = 2 * DELETING
"""Seconds after which who began to mend a queue is taken for dead."""


class Silent(BrokerUnavailable):
    """A queue does not answer."""


class Suspects:
    """The queues of which one process does not know whether they answer. Lives on a session's loop.

    Args:
        address: Where RabbitMQ is.
        timeout: Seconds for making a connection.
        notes: Which queues are new.
    """

    def __init__(self, address: Address, timeout: float, notes: Notes) -> None:
        self._address = address
        self._timeout = timeout
        self._notes = notes
        # The ledger's answers are waited for in a thread, which is there once it is needed.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="acked-notes")
        self._places = asyncio.Semaphore(AT_ONCE)
        self._noted: dict[str, Note] = {}
        self._suspects: dict[str, Lasting[None]] = {}
        self._silent_until: dict[str, float] = {}
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._made: dict[str, tuple[Note, float]] = {}
        self._forgetting: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def make(self, link: Link, name: str) -> None:
        """Make the queue *name* on *link*, unless it is there."""
        await link.make(place_of(name, link.version), partial(self._note, name))

    async def look(self) -> None:
        """A connection is made anew: whatever is noted may not have outlived the last one."""
        loop = asyncio.get_running_loop()
        doubting = loop.create_task(self._doubt_noted())
        if self._looking is not None:
            self._looking.cancel()
        # Not only once somebody needs them: a note that has outlived its maker is to go soon. Were
        # its queue silent one day, as most of its nodes are away, it would be taken for dead.
        self._looking = loop.create_task(self._keep_looking(doubting))
        # A ledger that hangs is told by who needs it, and not as RabbitMQ's silence.
        await asyncio.wait([doubting], timeout=NOTED)

    def doubt(self, names: Iterable[str]) -> None:
        """Suspect *names*."""
        for name in names:
            if name not in self._suspects:
                self._suspects[name] = Lasting(partial(self._examine, name))

    def has(self, names: Iterable[str]) -> bool:
        """Whether one of *names* is a suspect."""
        return any(name in self._suspects for name in names)

    def connection_lost(self) -> None:
        """What is new may not outlive it."""
        self._made.clear()

    async def clear(self, names: Iterable[str]) -> None:
        """See to it that *names* answer.

        Raises:
            Silent: One does not.
            BrokerError: RabbitMQ cannot be reached.
        """
        suspects = [name for name in names if name in self._suspects]
        if suspects:
            await asyncio.gather(*(self._suspects[name].done() for name in suspects))

    def close(self) -> None:
        """End the thread, once it has its answer: it must not have a connection in use while this
        process forks."""
        self._thread.shutdown(cancel_futures=True)

    async def _keep_looking(self, doubting: asyncio.Task[None]) -> None:
        await asyncio.shield(doubting)
        while True:
            suspects = [self._suspects[name] for name in self._noted if name in self._suspects]
            await asyncio.gather(*(each.done() for each in suspects), return_exceptions=True)
            with contextlib.suppress(BrokerError):
                await self._forget_survivors()
            await asyncio.sleep(LEFT)
            # Those that are younger have a maker who sees to them.
            await self._doubt_noted(min_age=2 * OLD)

    async def _doubt_noted(self, min_age: float = -math.inf) -> None:
        try:
            noted = await self._in_thread(self._notes.read)
            before = await self._in_thread(self._notes.now) - min_age
        except BrokerError as error:
            logger.debug("the ledger does not say which queues are new: %s", error)
            return
        self._noted = {name: note for name, note in noted.items() if note.at <= before}
        self.doubt(self._noted)

    async def _note(self, name: str) -> None:
        """The queue *name* is about to be made."""
        try:
            note = await self._in_thread(partial(self._notes.put, name))
        except BrokerError as error:
            logger.debug("not noted that the queue %s is new: %s", name, error)
            return
        self._forget_when_old(name, note)

    def _forget_when_old(self, name: str, note: Note) -> None:
        """The note goes `OLD` seconds from now, unless a connection is lost before."""
        self._made[name] = note, time.monotonic()
        if self._forgetting is None or self._forgetting.done():
            self._forgetting = asyncio.get_running_loop().create_task(self._forget_the_old())

    async def _forget_the_old(self) -> None:
        while self._made:
            await asyncio.sleep(OLD)
            before = time.monotonic() - OLD
            old = {name: note for name, (note, at) in self._made.items() if at <= before}
            for name in old:
                del self._made[name]
            await self._forget(old)

    async def _examine(self, name: str) -> None:
        """Ask the suspect *name* until it is none.

        Raises:
            Silent: It does not answer, and is not to be made anew.
            BrokerError: RabbitMQ, or the ledger, cannot be asked.
        """
        if name not in self._suspects:
            return  # It has answered since whoever wants to know began to ask.
        if time.monotonic() < self._silent_until.get(name, 0.0):
            raise self._silent(name)
        if await self._answers_with_others(name):
            self._suspects.pop(name, None)
            return
        patience, seen = ANSWER, None
        while not await self._answers(name, patience):
            note = (await self._in_thread(self._notes.read)).get(name)
            if note is None:
                self._silent_until[name] = time.monotonic() + SILENT
                raise self._silent(name)
            ripe = note.at + (MENDED if note.mending else NEW)
            if (
                note == seen
                and await self._in_thread(self._notes.now) > ripe
                and await self._in_thread(partial(self._notes.take, name, note))
            ):
                logger.warning("the queue %s has lost its leader for good; making it anew", name)
                await self._replace(name)
                break
            # Another note is another queue, or somebody is mending it: it has its time from now.
            patience, seen = LAST_ANSWER, note
            await asyncio.sleep(ASK_AGAIN)
        self._suspects.pop(name, None)
        self._silent_until.pop(name, None)

    async def _forget_survivors(self) -> None:
        """What was noted and is no suspect has answered. If it is not quite new any more, it always
        will."""
        survivors = {name: note for name, note in self._noted.items() if name not in self._suspects}
        if not survivors:
            return
        before = await self._in_thread(self._notes.now) - NEW
        for name, note in survivors.items():
            self._noted.pop(name, None)
            if note.at >= before and name not in self._made:
                self._forget_when_old(name, note)
        await self._forget(
            {n: note for n, note in survivors.items() if note.at < before and n not in self._made}
        )

    async def _forget(self, notes: dict[str, Note]) -> None:
        try:
            await self._in_thread(partial(self._notes.forget, notes))
        except BrokerError as error:
            logger.debug("still noted that some queues are new: %s", error)

    async def _answers_with_others(self, name: str) -> bool:
        """Whether *name* answers at once, as nearly all do. All suspects are asked."""
        if name not in self._asked:
            loop = asyncio.get_running_loop()
            asked = {each: loop.create_future() for each in self._suspects.keys() - self._asked}
            self._asked |= asked
            asking = loop.create_task(self._ask(asked))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        return await asyncio.shield(self._asked[name])

    async def _ask(self, asked: dict[str, asyncio.Future[bool]]) -> None:
        async def ask(name: str) -> None:
            await asyncio.wait_for(link.head(name), ANSWER)
            asked[name].set_result(True)

        try:
            link = await Link.open(self._address, "acked: asking", self._timeout)
            try:
                await asyncio.gather(*map(ask, asked), return_exceptions=True)
            finally:
                link.abort()
        except BrokerError as error:
            logger.debug("suspects cannot be asked together: %s", error)
        finally:
            for name, answer in asked.items():
                del self._asked[name]
                if not answer.done():
                    answer.set_result(False)

    async def _answers(self, name: str, patience: float) -> bool:
        async with self._places:
            link = await Link.open(self._address, "acked: asking", self._timeout)
            try:
                await asyncio.wait_for(link.head(name), patience)
            except TimeoutError:
                return False
            except LinkLost as error:
                # Or it ends the connection: it looks for a process of the queue that there is not.
                if INTERNAL_ERROR not in str(error):
                    raise
                return False
            else:
                await link.close()
            finally:
                link.abort()
            return True

    async def _replace(self, name: str) -> None:
        link = await Link.open(self._address, "acked: mending", self._timeout)
        try:
            await asyncio.wait_for(link.delete(name), DELETING)
            await self.make(link, name)
        except TimeoutError:
            raise self._silent(name) from None
        finally:
            link.abort()

    def _silent(self, name: str) -> Silent:
        return Silent(
            f"the queue {name!r} of RabbitMQ at {self._address.masked} does not answer: most of "
            "its nodes are away, or it is broken. If it stays so, delete it (`rabbitmqctl "
            "delete_queue`); its tasks are in the records, and are sent again."
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError as error:
            # The main thread has ended, and Python gives no more work to threads of that kind. Who
            # still sends goes on without notes.
            raise BrokerUnavailable(f"the records are not asked: {error}") from None
        return await answer
