"""Sending from many threads and coroutines at once, in as few durable writes as possible.

A flush to disk takes as long for a hundred messages as for one, so those who send at the same
moment share one.

Threads
    The first to come leads: it sends what is pending and goes on while there is more. Those that
    come while it sends add theirs and wait. A thread that is alone calls the broker directly, with
    nothing to wait for.
Coroutines
    They hand their messages to one thread of this publisher, which sends whatever has gathered and
    wakes each event loop once for all it has sent.

One send has one fate: all or none of its messages. When a write for several senders fails for a
reason that may be one sender's fault, each is tried alone, so that none fails for another's.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from acked.broker import Broker
from acked.errors import BrokerError, BrokerUnavailable
from acked.message import Message
from acked.shield import shielded

MAX_BATCH = 1_000
"""Messages for which several senders share one write. One large send stays whole."""


class _Send:
    """One call of `send` that waits for another thread, or one of `asend`.

    Args:
        messages: What it sends.
        future: Of the coroutine that waits; None for a thread.

    Attributes:
        turn: Released when it is done, or when it is to lead.
        to_lead: What it is to send, itself included; empty while another leads.
        done: It was sent, or failed.
        error: What it failed with.
    """

    __slots__ = ("done", "error", "future", "messages", "to_lead", "turn")

    def __init__(
        self, messages: Sequence[Message], future: asyncio.Future[None] | None = None
    ) -> None:
        self.messages = messages
        self.future = future
        self.turn = threading.Lock()  # a semaphore of 0, in C
        self.turn.acquire()
        self.to_lead: list[_Send] = []
        self.done = False
        self.error: Exception | None = None


class Publisher:
    """The way of one process to one broker.

    After a fork the child starts with an empty one: what was pending is the parent's to send.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.start_afresh()
        _publishers.add(self)

    def start_afresh(self) -> None:
        """Forget what is pending and every thread; for a forked child."""
        self._lock = threading.Lock()
        self._leading = False
        self._pending: deque[_Send] = deque()
        self._gathered: deque[_Send] = deque()
        self._gathering = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False

    def send(self, messages: Sequence[Message]) -> None:
        """Store *messages*: all or none, durable when it returns.

        Raises:
            BrokerError: They are not stored.
        """
        # A soft time limit strikes after the write, so that its outcome is known.
        with shielded():
            own = self._queue_behind(messages)
            if own is not None:
                self._follow(own)
                return
            try:
                self._broker.send(messages)
            finally:
                self._hand_over()

    def _queue_behind(self, messages: Sequence[Message]) -> _Send | None:
        """A place in the line, or None: nobody leads, so the caller does."""
        with self._lock:
            if not self._leading:
                self._leading = True
                return None
            own = _Send(messages)
            self._pending.append(own)
            return own

    def _follow(self, own: _Send) -> None:
        try:
            own.turn.acquire()
            if own.to_lead:
                self._write(own.to_lead)
        finally:
            self._leave(own)
        if own.error is not None:
            raise own.error

    def _leave(self, own: _Send) -> None:
        """Leave the line so that nobody waits for *own*, even when it was interrupted (Ctrl-C)."""
        if own.done and not own.to_lead:
            return
        with self._lock:
            if own in self._pending:
                self._pending.remove(own)
            for each in reversed(own.to_lead):
                if each is own:
                    continue
                if each.done:
                    each.turn.release()
                else:  # the write was interrupted; sending again what was stored is harmless
                    self._pending.appendleft(each)
        if own.to_lead:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let the first who waits lead the next write; with nobody waiting, nobody leads."""
        with self._lock:
            batch = _take(self._pending)
            if not batch:
                self._leading = False
                return
            batch[0].to_lead = batch
        batch[0].turn.release()

    def _write(self, batch: Sequence[_Send]) -> None:
        """Send what *batch* holds in one write; each gets its own error, if there is one."""
        try:
            self._broker.send([message for each in batch for message in each.messages])
        except BrokerUnavailable as error:
            # Nobody's fault: to try each alone would only wait for the same broker again.
            for each in batch:
                each.error = BrokerUnavailable(*error.args)  # a traceback is one thread's
        except Exception as error:
            if len(batch) > 1:
                for each in batch:
                    self._write([each])
                return
            batch[0].error = error
        for each in batch:
            each.done = True

    # -- coroutines --------------------------------------------------------------------------------

    async def asend(self, messages: Sequence[Message]) -> None:
        """`send` for coroutines. One that is cancelled before its turn sends nothing."""
        own = _Send(messages, asyncio.get_running_loop().create_future())
        with self._gathering:
            if self._closed:
                raise BrokerError("the application is closed; its broker is let go of")
            self._gathered.append(own)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._send_gathered, name="acked-publisher", daemon=True
                )
                self._thread.start()
            self._gathering.notify()
        assert own.future is not None
        await own.future

    def _send_gathered(self) -> None:
        while True:
            with self._gathering:
                while not self._gathered and not self._closed:
                    self._gathering.wait()
                batch = _take(self._gathered)
            if not batch:
                return
            wanted = [each for each in batch if each.future and not each.future.cancelled()]
            if wanted:
                self._write(wanted)
            _resolve(wanted)

    def close(self) -> None:
        """Send what coroutines have handed over, and end the thread."""
        with self._gathering:
            self._closed = True
            self._gathering.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()


def _take(line: deque[_Send]) -> list[_Send]:
    """The first of *line*, as many as one write holds, and at least one."""
    batch: list[_Send] = []
    size = 0
    while line and (not batch or size + len(line[0].messages) <= MAX_BATCH):
        batch.append(line.popleft())
        size += len(batch[-1].messages)
    return batch


def _resolve(batch: Iterable[_Send]) -> None:
    """Wake the coroutines, with one call for each event loop."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Send]] = defaultdict(list)
    for each in batch:
        if each.future is not None:
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
