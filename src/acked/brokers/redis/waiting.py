"""How a thread waits for work, and how it is told of some: `Broker.wait`, `Broker.interrupt`.

Each queue has a *wake list* in Redis. Whoever makes tasks ready pushes one token for each, in the
same script; a waiter takes one with BLPOP. So as many waiters wake as tasks came, in the order in
which they began to wait, and nobody asks again and again.

A waiter looks for work (``look.lua``), and only then waits. What is sent between the two leaves
its token in the list, and the waiter finds it. A look that finds nothing ready throws away the
tokens of work that others have taken, so that a busy queue leaves no heap of wake-ups for nothing.

A token can be lost, with a waiter that dies or a connection that breaks. So nobody waits for longer
than `NET` without another look.

The thread sleeps on two descriptors: that connection, and a socket pair that `interrupt` writes to.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import hiredis

from acked.bells import Interrupts
from acked.brokers.redis.client import Client
from acked.clock import Clock

NET = 0.6
"""Seconds after which a waiter looks again of itself. With what the server's answer is late, a
wake-up that was lost costs less than a second."""

LATE = 0.3
"""Seconds by which the server's answer to a BLPOP whose time is over may be late: it checks ten
times a second."""


class Readable(Protocol):
    """Something with a descriptor."""

    def fileno(self) -> int: ...


class Bell:
    """What wakes one waiting thread."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()
        for each in (self._here, self._there):
            each.setblocking(False)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self._here.close()
            self._there.close()

    def fileno(self) -> int:
        """Readable once it was rung."""
        return self._here.fileno()

    def ring(self) -> None:
        """Wake the thread. Safe in a signal handler."""
        with contextlib.suppress(OSError):
            self._there.send(b"!")

    def hush(self) -> None:
        """Forget what was rung."""
        with contextlib.suppress(OSError):
            while self._here.recv(64):
                pass


class Waiting:
    """Who waits for work.

    Args:
        client: Where the work is.
        clock: What due times are read against.
        look: The due time of the next work in some queues; -inf where something is ready, None
            where nothing is to come.
    """

    def __init__(
        self, client: Client, clock: Clock, look: Callable[[Sequence[str]], float | None]
    ) -> None:
        self._client = client
        self._clock = clock
        self._look = look
        self._bells: set[Bell] = set()
        self._interrupts = Interrupts()
        self._local = threading.local()

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        """As `Broker.wait`."""
        end = time.monotonic() + timeout
        bell = self._bell()
        # Hung up before the question is asked, so that no interrupt falls in between.
        self._bells.add(bell)
        try:
            while not self._interrupts.reached():
                due = self._look(queues)
                left = end - time.monotonic()
                if due is not None:
                    left = min(left, due - self._clock.now())
                if left <= 0 or self._sleep(bell, queues, min(left, NET)) or left <= NET:
                    self._interrupts.reached()
                    return
        finally:
            self._bells.discard(bell)
            bell.hush()

    def interrupt(self) -> None:
        """As `Broker.interrupt`."""
        self._interrupts.add()
        for bell in tuple(self._bells):
            bell.ring()

    def _bell(self) -> Bell:
        local = self._local
        if getattr(local, "pid", None) != os.getpid():
            local.bell, local.pid = Bell(), os.getpid()
        bell: Bell = local.bell
        return bell

    def _sleep(self, bell: Bell, queues: Sequence[str], seconds: float) -> bool:
        """Sleep for *seconds*; True when there is a reason to stop waiting before."""
        client = self._client
        end = time.monotonic() + seconds
        if not queues:
            return bool(_ready([bell], seconds))
        keys = [f"{client.base}wake:{queue}" for queue in queues]
        deadline = end + client.timeout
        connection = None
        try:
            connection = client.take(deadline)
            connection.send([("BLPOP", *keys, f"{max(seconds, 0.001):.3f}")], deadline)
            # The server ends a BLPOP late. Where that is soon enough, its answer is awaited, and
            # the connection can be kept.
            ready = _ready([connection, bell], seconds)
            if not ready and seconds >= NET / 2:
                ready = _ready([connection, bell], LATE)
            if connection not in ready:
                return bell in ready
            reply = connection.receive(deadline)
            client.give_back(connection)
            connection = None
            return reply is not None and not isinstance(reply, hiredis.ReplyError)
        except OSError:
            # Whether the server is away, the next look tells.
            return False
        finally:
            if connection is not None:
                connection.close()


def _ready(watched: Sequence[Readable], seconds: float) -> list[Readable]:
    """Which of *watched* can be read, within *seconds*."""
    poll = select.poll()
    for each in watched:
        poll.register(each, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(max(seconds, 0) * 1000)}
    return [each for each in watched if each.fileno() in ready]
