"""What has arrived and waits to be claimed. Callers' threads and the loop's thread share it."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterable, Sequence

import msgspec

from acked.brokers.rabbitmq.outgoing import Outgoing
from acked.brokers.rabbitmq.topology import queue_of

UNASKED = 8
"""Messages that are consumed ahead while nobody has claimed yet."""

AT_MOST = 512
"""Messages of one line that are on the shelf or on their way to it."""


class Ticket(msgspec.Struct, frozen=True, order=True):
    """A message that has arrived. They sort as they are to be claimed.

    Args:
        before: The priority, negated.
        ready: Since when it has been in its line.
        tag: RabbitMQ's number for it on `link`.
        message: What it says.
        link: Which link brought it: tags of another mean nothing.
    """

    before: int
    ready: float
    tag: int
    message: Outgoing
    link: int


class Shelf:
    """What has arrived of one queue.

    Attributes:
        queue: Which.
        tickets: What has arrived, as a heap.
        touched: When somebody last came for it; monotonic, as all times here.
        waiters: How many wait for it.
        consumers: RabbitMQ's names for who consumes it.
        prefetch: How far ahead that is; 0 while not every line of it is consumed.
        shut_until: When it is looked at again, as its queue is paused or cannot be consumed.
        failures: How many times in a row it could not.
    """

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.tickets: list[Ticket] = []
        self.touched = time.monotonic()
        self.waiters = 0
        self.prefetch = 0
        self.shut_until = 0.0
        self.failures = 0
        self.consumers: list[str] = []


class Shelves:
    """Those of one process. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shelves: dict[str, Shelf] = {}
        self.link = 0
        """Number of the connection that fills them."""

    def get(self, queue: str) -> Shelf | None:
        """That of *queue*, if there is one."""
        with self._lock:
            return self._shelves.get(queue)

    def are_filled(self, queues: Iterable[str], limit: int | None, *, lost: bool) -> bool:
        """Whether nothing is to be done for claims of *limit* from *queues*; *lost* says that the
        connection is."""
        now = time.monotonic()
        with self._lock:
            for queue in queues:
                shelf = self._shelves.get(queue)
                if shelf is None:
                    return False
                shelf.touched = now
                if now >= shelf.shut_until and (lost or not _fits(shelf.prefetch, limit)):
                    return False
        return True

    def wrong(self, queues: Iterable[str], limit: int | None) -> list[Shelf]:
        """Those that are to be filled otherwise for claims of *limit* from *queues*."""
        found: list[Shelf] = []
        with self._lock:
            for queue in queues:
                shelf = self._shelves.setdefault(queue, Shelf(queue))
                shelf.touched = time.monotonic()
                if shelf.shut_until <= shelf.touched and not _fits(shelf.prefetch, limit):
                    found.append(shelf)
        return found

    def hold(self, queues: Sequence[str] | None = None) -> bool:
        """Whether anything of *queues*, or of any queue, is there to be claimed."""
        with self._lock:
            wanted = self._shelves if queues is None else queues
            return any(q in self._shelves and self._shelves[q].tickets for q in wanted)

    def take(self, queues: Sequence[str], limit: int) -> list[Ticket]:
        """Up to *limit* tickets: earlier queues first, in each as they sort."""
        taken: list[Ticket] = []
        with self._lock:
            for queue in queues:
                shelf = self._shelves.get(queue)
                while shelf is not None and shelf.tickets and len(taken) < limit:
                    taken.append(heapq.heappop(shelf.tickets))
        return taken

    def put(self, shelf: Shelf, ticket: Ticket) -> None:
        """*ticket* has arrived."""
        with self._lock:
            heapq.heappush(shelf.tickets, ticket)

    def put_back(self, tickets: Iterable[Ticket]) -> None:
        """Let *tickets* be taken again."""
        with self._lock:
            for ticket in tickets:
                if ticket.link == self.link:
                    shelf = self._shelves[queue_of(ticket.message.line)]
                    heapq.heappush(shelf.tickets, ticket)

    def clear(self, shelf: Shelf) -> list[Ticket]:
        """What was on *shelf*, which has nothing any more."""
        with self._lock:
            tickets = list(shelf.tickets)
            shelf.tickets.clear()
        return tickets

    def come(self, queues: Sequence[str], *, waiting: int) -> None:
        """Somebody begins (1) or ends (-1) to wait for *queues*."""
        now = time.monotonic()
        with self._lock:
            for queue in queues:
                shelf = self._shelves.setdefault(queue, Shelf(queue))
                shelf.waiters += waiting
                shelf.touched = now

    def left_alone(self, seconds: float) -> list[Shelf]:
        """Those that hold something for which nobody has come for *seconds*."""
        since = time.monotonic() - seconds
        with self._lock:
            return [
                shelf
                for shelf in self._shelves.values()
                if shelf.tickets and not shelf.waiters and shelf.touched < since
            ]

    def is_shut(self, queue: str) -> bool:
        """Whether *queue* is not looked at for now."""
        with self._lock:
            shelf = self._shelves.get(queue)
            return shelf is not None and shelf.shut_until > time.monotonic()

    def opens_again(self, queues: Sequence[str]) -> float | None:
        """When the first of *queues* that is shut is looked at again."""
        now = time.monotonic()
        with self._lock:
            times = [self._shelves[q].shut_until for q in queues if q in self._shelves]
        return min((each for each in times if each > now), default=None)

    def resume(self, queue: str) -> None:
        """*queue* may no longer be paused."""
        with self._lock:
            if queue in self._shelves:
                self._shelves[queue].shut_until = 0.0

    def end(self, consumer: str) -> None:
        """RabbitMQ ended *consumer*."""
        with self._lock:
            for shelf in self._shelves.values():
                if consumer in shelf.consumers:
                    shelf.consumers.remove(consumer)
                    shelf.prefetch = 0

    def forget(self) -> None:
        """The connection is lost, and what it brought is RabbitMQ's again."""
        with self._lock:
            self.link += 1
            for shelf in self._shelves.values():
                shelf.tickets.clear()
                shelf.consumers, shelf.prefetch = [], 0


def prefetch_for(limit: int | None) -> int:
    """How far ahead to consume for claims of *limit*: a little further where tasks are short."""
    if limit is None:
        return UNASKED
    needed = 1 << max(limit - 1, 0).bit_length()
    return min(needed * 2 if needed >= 16 else needed, AT_MOST)


def _fits(prefetch: int, limit: int | None) -> bool:
    """Whether consuming *prefetch* ahead is about right; small changes are not worth the way, and
    what is too far is soon given back."""
    if limit is None:
        return prefetch > 0
    right = prefetch_for(limit)
    return right / 2 <= prefetch <= max(right * 4, 8)
