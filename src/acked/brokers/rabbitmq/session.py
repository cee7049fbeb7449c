"""The thread in which a process talks to RabbitMQ, and how other threads ask it for something.

The driver's connections belong to one event loop. It runs in a thread of its own, so that
heartbeats are answered while a task keeps the main thread, and so that whoever calls a broker only
ever waits for an answer, with a time limit.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from acked.brokers.rabbitmq.address import Address
from acked.brokers.rabbitmq.consuming import Consumer
from acked.brokers.rabbitmq.heads import Heads
from acked.brokers.rabbitmq.mending import Suspects
from acked.brokers.rabbitmq.notes import Notes
from acked.brokers.rabbitmq.owing import Debts
from acked.brokers.rabbitmq.publishing import Publisher
from acked.errors import BrokerUnavailable

logger = logging.getLogger("acked.broker")

T = TypeVar("T")

LAST_PART = 0.2
"""Of a call's time, what its last question to RabbitMQ has at least."""

CLOSING = 1.0
"""Seconds that the end of a session may take."""

PAYING = 0.5
"""Seconds of those in which what is owed to RabbitMQ may still be published."""


class Session:
    """A running loop, with what lives on it: the publisher, the consumer, and who asks for heads.

    Args:
        address: Where RabbitMQ is.
        timeout: Seconds after which an answer is no longer waited for.
        notes: Which queues are new.
        on_delivery: Called in the loop's thread when a message has arrived.
    """

    def __init__(
        self, address: Address, timeout: float, notes: Notes, on_delivery: Callable[[], None]
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_on_error)
        # The driver looks names up there, just after `link` has found them, so that one thread will
        # do. asyncio would add one for each connection that is made anew while another is.
        looking_up = _LookingUp(1, thread_name_prefix="acked-lookup")
        self._loop.set_default_executor(looking_up)
        self._thread = threading.Thread(target=self._run, name="acked-rabbitmq", daemon=True)
        self._suspects = Suspects(address, timeout, notes)
        self.publisher = Publisher(address, timeout, self._suspects)
        self.debts = Debts(self.publisher)
        self.consumer = Consumer(address, timeout, self._suspects, on_delivery)
        self.heads = Heads(address, timeout)
        self._thread.start()

    @property
    def last_part(self) -> float:
        """Seconds that the last step of a call has at least."""
        return self._timeout * LAST_PART

    def deadline(self) -> float:
        """Monotonic time until which a call that begins now may take."""
        return time.monotonic() + self._timeout

    def ask(self, question: Coroutine[Any, Any, T], *, deadline: float | None = None) -> T:
        """What *question* gives.

        Args:
            deadline: Of the call that it is a part of; by default it has the time of a whole call.
                A part that comes late still has some.

        Raises:
            BrokerUnavailable: There was no answer in time.
        """
        answer = self.begin(question)
        seconds = self._timeout
        if deadline is not None:
            seconds = max(deadline - time.monotonic(), self.last_part)
        try:
            return answer.result(seconds)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            answer.cancel()
            raise BrokerUnavailable(
                f"RabbitMQ at {self._address.masked} did not answer within {round(seconds, 1):g} s"
            ) from None

    def begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Have *work* done, without waiting for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def tell(self, call: Callable[..., None], *args: Any) -> None:
        """Have *call* called in the loop's thread, without waiting for it."""
        with contextlib.suppress(RuntimeError):  # The loop has ended: nobody is there to be told.
            self._loop.call_soon_threadsafe(call, *args)

    def close(self) -> None:
        """Say what is still to be said, as far as that takes no time, and end the thread."""
        with contextlib.suppress(Exception):
            self.begin(self._goodbye()).result(CLOSING)
        self.tell(self._loop.stop)
        self._thread.join(CLOSING)

    async def _goodbye(self) -> None:
        with contextlib.suppress(TimeoutError):  # It is still owed; `recovering` finds it.
            await asyncio.wait_for(self.debts.pay(), PAYING)
        await asyncio.gather(self.publisher.close(), self.consumer.close(), self.heads.close())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self.publisher.cut()
            self.consumer.cut()
            self.heads.cut()
            # Lets what was cancelled end, and sockets be closed.
            self._loop.call_later(0.02, self._loop.stop)
            self._loop.run_forever()
            self._loop.close()
            self._suspects.close()


class _LookingUp(ThreadPoolExecutor):
    def submit(self, fn: Callable[..., T], /, *args: Any, **options: Any) -> Future[T]:
        try:
            return super().submit(fn, *args, **options)
        except RuntimeError:
            # The main thread has ended, and Python gives no more work to threads of that kind.
            # Another may still send; the name has been found, so that asking again is quick.
            answer: Future[T] = Future()
            try:
                answer.set_result(fn(*args, **options))
            except Exception as error:
                answer.set_exception(error)
            return answer


def _on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback failed. The driver fails a check of its own where a connection is cut while it is
    being made; whoever waited for it has been told, and a traceback would tell nobody more."""
    error = context.get("exception")
    if isinstance(error, AssertionError):
        logger.debug("the driver was interrupted: %s", error)
    else:
        loop.default_exception_handler(context)


class Sessions:
    """The session of this process; made when it is first needed.

    Args:
        address, timeout, notes, on_delivery: As `Session` takes them.
    """

    def __init__(
        self, address: Address, timeout: float, notes: Notes, on_delivery: Callable[[], None]
    ) -> None:
        self._make = partial(Session, address, timeout, notes, on_delivery)
        self._patience = timeout
        self._session: Session | None = None
        self._changing = threading.Condition()
        self._users = 0
        self._frozen = False
        _known.add(self)

    @contextlib.contextmanager
    def use(self) -> Generator[Session]:
        """The session, which does not end before the block does."""
        with self._changing:
            # A thread that forks has it frozen for itself alone.
            self._changing.wait_for(lambda: not self._frozen, self._patience)
            session = self._session
            if session is None:
                session = self._session = self._make()
            self._users += 1
        try:
            yield session
        finally:
            with self._changing:
                self._users -= 1
                self._changing.notify_all()

    def close(self) -> None:
        """End the session; the next use makes another."""
        with self._changing:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def freeze(self) -> None:
        """End the session, once nobody uses it, and let none be made."""
        with self._changing:
            self._frozen = True
            self._changing.wait_for(lambda: not self._users, self._patience)
        self.close()

    def thaw(self, *, child: bool) -> None:
        """Undo `freeze`."""
        if child:
            # Threads that were waiting here are the parent's.
            self._changing = threading.Condition()
            self._users = 0
            self._frozen = False
            return
        with self._changing:
            self._frozen = False
            self._changing.notify_all()


# A connection must not cross a fork: the child would hold the parent's socket open, and two
# processes would speak on it. A thread cannot cross it. So this process has no session while it
# forks.

_known: weakref.WeakSet[Sessions] = weakref.WeakSet()
_frozen: list[Sessions] = []
_forking = threading.Lock()


def _before_fork() -> None:
    _forking.acquire()
    for sessions in list(_known):
        sessions.freeze()
        _frozen.append(sessions)


def _after_fork(*, child: bool) -> None:
    while _frozen:
        _frozen.pop().thaw(child=child)
    _forking.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(child=False),
    after_in_child=lambda: _after_fork(child=True),
)
