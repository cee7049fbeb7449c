"""What acked makes in RabbitMQ, and what it is called.

``acked.queue.NAME.BAND``
    A *line*: the messages of one queue and one band of priorities. A quorum queue. There is one for
    each of `BANDS`, made by whoever sends there first or consumes.

``acked.queue.NAME.again``
    The same, for tasks of any priority that have waited before: their worker died, or gave them
    back. They would otherwise wait behind everything that was sent in the meantime.

``acked.delay.MS``
    An exchange and a quorum queue behind it, whose messages expire after MS milliseconds, a power
    of two, and are then routed, by the routing key they were sent with, to their line.

``acked.dead``
    An exchange and a quorum queue behind it, for messages that no task belongs to (it was discarded
    or purged, or the ledger lost it), and for any that RabbitMQ itself would drop. They are kept
    for `DEAD_KEPT` seconds.

What expires in a delay, or is refused from a line, is handed on *at most once*: should RabbitMQ
lose its leader in that moment, the message is gone. RabbitMQ can do it at least once
(``x-dead-letter-strategy``, with ``overflow`` ``reject-publish``), and that is not asked for. The
task is in the ledger, so that `recovering` finds it and sends another message. At least once would
keep every message that cannot be handed on, as when somebody deleted its line, in the delay and
try it again and again. And RabbitMQ does not change arguments of queues that are there.
"""

from __future__ import annotations

import bisect
import math
from functools import lru_cache
from typing import Any

import msgspec

from acked.errors import BrokerRefused

BANDS = (-255, 0, 1, 4, 7)
"""The lowest priority of each band. RabbitMQ's own priorities need classic queues, which are not
replicated. Priorities of one band are told apart as far as a consumer's buffer reaches."""

SHORTEST, LONGEST = 6, 31
"""Exponents of the shortest and the longest delay, in milliseconds: 64 ms to 24 days."""

DEAD = "acked.dead"
DEAD_KEPT = 14 * 86_400.0
NAME_BYTES = 255
"""Bytes that AMQP has for a name."""

SHOWN = 40
"""Characters of a name that is too long that an error shows."""

UNLIMITED_FROM = 4
"""RabbitMQ's major version from which a quorum queue drops a message that was delivered 20 times,
unless it is told not to. Older ones do not know how to be told. A queue that was made on an older
one keeps no word of it: after an upgrade a policy must say it (docs/brokers.md)."""


class Place(msgspec.Struct, frozen=True):
    """A queue in RabbitMQ, and the exchange in front of it where there is one.

    Args:
        name: The queue's.
        arguments: What it is made with.
        exchange: A fanout exchange of the same name is bound to it.
    """

    name: str
    arguments: dict[str, Any]
    exchange: bool = False


@lru_cache(maxsize=1024)
def line(queue: str, priority: int) -> str:
    """The name of the line for messages of *queue* and *priority*."""
    return lines(queue)[bisect.bisect_right(BANDS, priority) - 1]


def again(queue: str) -> str:
    """The name of the line for messages of *queue* whose tasks have waited before."""
    return lines(queue)[-1]


@lru_cache(maxsize=1024)
def lines(queue: str) -> tuple[str, ...]:
    """The names of all lines of *queue*, the lowest priorities first, `again` last.

    Raises:
        BrokerRefused: The queue's name is too long for RabbitMQ, which was not asked.
    """
    names = _named(queue)
    if not _fit(names):
        raise BrokerRefused(
            f"RabbitMQ has no room for a queue's name of {len(queue.encode(errors='replace'))} "
            f"bytes ({queue[:SHOWN]!r}…): give the queue a shorter one",
            nothing_stored=True,
        )
    return names


@lru_cache(maxsize=1024)
def has_lines(queue: str) -> bool:
    """Whether RabbitMQ has room for the names of the lines of *queue*."""
    return _fit(_named(queue))


def _named(queue: str) -> tuple[str, ...]:
    # RabbitMQ makes a queue without the line breaks that are in its name.
    written = queue.replace("%", "%25").replace("\n", "%0A").replace("\r", "%0D")
    return tuple(f"acked.queue.{written}.{end}" for end in (-1, *BANDS[1:], "again"))


def _fit(names: tuple[str, ...]) -> bool:
    return all(len(name.encode(errors="replace")) <= NAME_BYTES for name in names)


def queue_of(name: str) -> str:
    """The queue whose line is called *name*."""
    written = name.removeprefix("acked.queue.").rpartition(".")[0]
    return written.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def delay(seconds: float) -> str:
    """The name of the delay after which a message that is due in *seconds* is looked at again.

    The longest that is not too long, so that it comes early and goes round once more; the
    shortest is the one by which it may be late.
    """
    exponent = math.floor(math.log2(max(seconds * 1000, 1)))
    return f"acked.delay.{2 ** min(max(exponent, SHORTEST), LONGEST)}"


def place_of(name: str, version: int) -> Place:
    """How the queue *name*, a line or a delay or `DEAD`, is made in RabbitMQ of major *version*."""
    arguments: dict[str, Any] = {"x-queue-type": "quorum"}
    if version >= UNLIMITED_FROM:
        arguments["x-delivery-limit"] = -1
    if name == DEAD:
        return Place(name, {**arguments, "x-message-ttl": int(DEAD_KEPT * 1000)}, exchange=True)
    if name.startswith("acked.delay."):
        milliseconds = int(name.rpartition(".")[2])
        expiry = {"x-message-ttl": milliseconds, "x-dead-letter-exchange": ""}
        return Place(name, {**arguments, **expiry}, exchange=True)
    return Place(name, {**arguments, "x-dead-letter-exchange": DEAD})
