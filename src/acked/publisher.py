"""Sending from many threads and coroutines at once, in as few durable writes as possible.

A flush to disk takes as long for a hundred messages as for one, so those who send at the same
moment share one. A thread that is alone calls the broker itself, with nothing to wait for. Whoever
comes while another writes leaves its messages to the *writer*, one thread of this publisher, which
sends whatever has gathered since its last write. It neither makes messages nor goes back to a
caller in between, so the next write begins as soon as the last one has ended: with eight threads
that was measured a third quicker than letting each write's senders take the next one over.

One send has one fate: all or none of its messages. When a write for several senders fails for a
reason that may be one sender's fault, each is tried alone, so that none fails for another's. A
broker that refuses everybody shows that soon, and nobody waits for the refusals of all the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from acked.broker import Broker
from acked.errors import BrokerError, BrokerRefused, BrokerUnavailable
from acked.message import Message
from acked.shield import shielded

MAX_BATCH = 1_000
"""Messages for which several senders share one write. One large send stays whole."""

APART = 1.0
"""Seconds that the senders of a write which was refused may take to be turned away one by one.
After that it is the broker that turns all away, and the others are not tried any more."""


class _Send:
    """One call of `send` or `asend` that is left to the writer.

    Args:
        messages: What it sends.
        future: Of the coroutine that waits; None for a thread.

    Attributes:
        over: Released when it was sent, or failed; for a thread.
        error: What it failed with.
    """

    __slots__ = ("error", "future", "messages", "over")

    def __init__(
        self, messages: Sequence[Message], future: asyncio.Future[None] | None = None
    ) -> None:
        self.messages = messages
        self.future = future
        self.over = threading.Lock()  # a semaphore of 0, in C
        self.over.acquire()
        self.error: Exception | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for it: a coroutine that was cancelled does not."""
        return self.future is None or not self.future.cancelled()


class Publisher:
    """The way of one process to one broker.

    After a fork the child starts with an empty one: what was pending is the parent's to send.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.start_afresh()
        _publishers.add(self)

    def start_afresh(self) -> None:
        """Forget what is pending and the writer; for a forked child."""
        self._turn = threading.RLock()  # held during each write
        self._pending: deque[_Send] = deque()
        self._lock = threading.Lock()  # of what is pending; taken in C, unlike the condition
        self._gathering = threading.Condition(self._lock)
        self._writer: threading.Thread | None = None
        self._closed = False
        self._inside: set[int] = set()  # threads that hold a lock of ours, by ident

    def send(self, messages: Sequence[Message]) -> None:
        """Store *messages*: all or none, durable when it returns.

        Raises:
            BrokerError: They are not stored, where its `nothing_stored` says so; else they may be.
        """
        # A soft time limit strikes after the write, so that its outcome is known.
        with shielded():
            if self._sent_alone(messages):
                return
            own = _Send(messages)
            try:
                self._leave_to_writer(own)
                own.over.acquire()
            except BaseException:  # Ctrl-C; what the writer has not taken yet is not sent
                self._withdraw(own)
                raise
            if own.error is not None:
                raise own.error

    async def asend(self, messages: Sequence[Message]) -> None:
        """`send` for coroutines. One that is cancelled before its turn sends nothing."""
        own = _Send(messages, asyncio.get_running_loop().create_future())
        self._leave_to_writer(own)
        assert own.future is not None
        await own.future

    def close(self) -> None:
        """Send what was left to the writer, and end it."""
        with self._lock:
            self._closed = True
            self._gathering.notify()
            writer = self._writer
        if writer is not None and writer is not threading.current_thread():
            writer.join()

    # A signal handler may raise after any call that is made here, Ctrl-C's for one. What was taken
    # before is let go of all the same, or nobody could send any more: by `finally`, whether or not
    # the taking was seen to succeed, and without any other call before it.

    def _sent_alone(self, messages: Sequence[Message]) -> bool:
        """Whether nobody else was sending, and so *messages* are sent."""
        thread = self._outside()
        try:
            self._inside.add(thread)
            try:
                if self._pending or not self._turn.acquire(blocking=False):
                    return False
                self._broker.send(messages)
                return True
            finally:
                try:  # noqa: SIM105 - `suppress` is one more call
                    self._turn.release()
                except RuntimeError:  # not taken by this thread
                    pass
        finally:
            self._inside.discard(thread)

    def _leave_to_writer(self, own: _Send) -> None:
        thread = self._outside()
        try:
            self._inside.add(thread)
            with self._lock:
                if self._closed:
                    raise BrokerError(
                        "the application is closed; its broker is let go of", nothing_stored=True
                    )
                if self._writer is None:
                    self._writer = self._start_writer()
                self._pending.append(own)
                self._gathering.notify()
        finally:
            self._inside.discard(thread)

    def _outside(self) -> int:
        """The calling thread, which is about to take locks: a signal handler or a `__del__` that
        came in between would wait for them for ever."""
        thread = threading.get_ident()
        if thread in self._inside:
            raise BrokerError(
                "this thread is about to send already: it was interrupted by a signal handler or a "
                "__del__ that sends as well. Let that set a flag, and send afterwards.",
                nothing_stored=True,
            )
        return thread

    def _start_writer(self) -> threading.Thread:
        writer = threading.Thread(target=self._write_on, name="acked-publisher", daemon=True)
        try:
            writer.start()
        except RuntimeError as error:
            # Nothing is left to a writer that is not there: the next to come tries again.
            raise BrokerError(
                f"{error}, which sending from several threads needs", nothing_stored=True
            ) from None
        return writer

    def _withdraw(self, own: _Send) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._pending.remove(own)

    # -- the writer --------------------------------------------------------------------------------

    def _write_on(self) -> None:
        while True:
            with self._gathering:
                while not self._pending and not self._closed:
                    self._gathering.wait()
                if not self._pending:
                    return
            with self._turn:
                # Taken only now: whoever came during the write before belongs to this one.
                with self._gathering:
                    batch = [each for each in _take(self._pending) if each.wanted]
                if batch:
                    self._write(batch)
            _tell(batch)

    def _write(self, batch: Sequence[_Send]) -> None:
        """Send what *batch* holds in one write; each gets its own error, if there is one."""
        try:
            self._broker.send([message for each in batch for message in each.messages])
        except BrokerUnavailable as error:
            # Nobody's fault: to try each alone would only wait for the same broker again.
            for each in batch:
                # Each its own: a traceback is one thread's.
                each.error = error.again(str(error), nothing_stored=error.nothing_stored)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
            else:
                self._write_each(batch, error)

    def _write_each(self, batch: Sequence[_Send], error: Exception) -> None:
        """Send what *batch* holds one by one: together it failed with *error*, it may be for one
        of them. Not for ever: to be turned away may take a new connection, or a time limit."""
        sure = isinstance(error, BrokerError) and error.nothing_stored
        spent = 0.0
        for number, each in enumerate(batch, 1):
            began = time.monotonic()
            self._write([each])
            why = each.error
            if not isinstance(why, BrokerRefused | BrokerUnavailable):
                continue
            spent += time.monotonic() - began
            if spent >= APART:
                for rest in batch[number:]:
                    rest.error = why.again(str(why), nothing_stored=sure)
                return


def _take(line: deque[_Send]) -> list[_Send]:
    """The first of *line*, as many as one write holds, and at least one."""
    batch: list[_Send] = []
    size = 0
    while line and (not batch or size + len(line[0].messages) <= MAX_BATCH):
        batch.append(line.popleft())
        size += len(batch[-1].messages)
    return batch


def _tell(batch: Iterable[_Send]) -> None:
    """Wake the threads, and the coroutines with one call for each event loop."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Send]] = defaultdict(list)
    for each in batch:
        if each.future is None:
            each.over.release()
        else:
            by_loop[each.future.get_loop()].append(each)
    for loop, sends in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set_results, sends)
        except RuntimeError:
            continue  # the loop was closed: nobody waits any more


def _set_results(sends: Iterable[_Send]) -> None:
    for each in sends:
        if each.future is None or each.future.done():
            continue
        if each.error is not None:
            each.future.set_exception(each.error)
        else:
            each.future.set_result(None)


_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


def _start_all_afresh() -> None:
    for publisher in list(_publishers):
        publisher.start_afresh()


os.register_at_fork(after_in_child=_start_all_afresh)
