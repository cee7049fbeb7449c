"""Finding tasks that wait in the ledger while no message says so: `Lost`.

RabbitMQ cannot be asked what is in a queue, but it can be asked for the message at its head, and
messages leave a line in the order in which they came. So a task that has been due for a while, and
for longer than the message at the head of its line has been there, has no message in it. Nor has it
one in the line of those that come again, where nothing lies there. But what was delivered and given
back may lie at the end of its line: such a task gets another message, which comes sooner. That does
no harm, as the ledger admits a task once. A line that does not answer keeps its own tasks waiting
and no others.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from concurrent.futures import CancelledError, Future

from acked.broker import Ledger
from acked.brokers.rabbitmq.outgoing import Misfits, Outgoing
from acked.brokers.rabbitmq.session import Session
from acked.brokers.rabbitmq.topology import again, line
from acked.errors import BrokerError
from acked.record import Record

logger = logging.getLogger("acked.broker")

OVERDUE = 10.0
"""Seconds that a task is due before its message is missed, and by which one at the head of its line
must be younger. More than a message spends outside its line, on its way or on a shelf."""

LOOK_EVERY = 5.0
AT_ONCE = 500
"""Tasks that are looked at in one go, of all lines in turn, so that a line with a long backlog, or
one that does not answer, leaves no lost task of another unseen."""

ASKED_AT_MOST = 20
"""Lines that are asked whether they answer, where somebody wants to know that."""

AGAIN = 60.0
"""Seconds before a task that was sent again is sent once more."""


class Lost:
    """What one process looks for.

    Looking takes several turns, so that nobody waits for RabbitMQ: one asks it for the heads, a
    later one makes something of its answer.

    Args:
        ledger: Knows what waits.
        misfits: Those of it that are left out.
    """

    def __init__(self, ledger: Ledger, misfits: Misfits) -> None:
        self._ledger = ledger
        self._misfits = misfits
        self._next_look = 0.0
        self._sent: dict[str, float] = {}
        self._late: dict[str, list[Record]] = {}
        self._heads: Future[dict[str, float | None]] | None = None

    def look(self, session: Session) -> None:
        """Do what can be done now; quick.

        Raises:
            BrokerError: The ledger cannot be asked.
        """
        if self._heads is not None:
            if self._heads.done():
                self._send(session, self._heads)
                self._heads = None
            return
        here = time.monotonic()
        if here < self._next_look:
            return
        self._next_look = here + LOOK_EVERY
        self._sent = {key: at for key, at in self._sent.items() if here - at < AGAIN}
        late: defaultdict[str, list[Record]] = defaultdict(list)
        overdue = self._ledger.overdue(self._ledger.clock.now() - OVERDUE, AT_ONCE)
        for record in self._misfits.without(overdue):
            if record.id not in self._sent:
                late[line(record.queue, record.priority)].append(record)
        if late:
            self._late = late
            names = {*late, *(again(r.queue) for records in late.values() for r in records)}
            self._heads = session.begin(session.heads.ask(names))

    def silent(self, session: Session, timeout: float) -> list[str]:
        """The lines of overdue tasks that do not answer, of a few that are asked.

        Raises:
            BrokerError: RabbitMQ or the ledger cannot be asked.
        """
        overdue = self._ledger.overdue(self._ledger.clock.now() - OVERDUE, AT_ONCE)
        records = self._misfits.without(overdue)
        names = sorted({line(record.queue, record.priority) for record in records})[:ASKED_AT_MOST]
        asked = session.begin(session.heads.ask(names))
        try:
            heads = asked.result(timeout)
        except TimeoutError:
            asked.cancel()
            return []
        return [name for name in names if name not in heads]

    def _send(self, session: Session, answer: Future[dict[str, float | None]]) -> None:
        """Send what has no message once more."""
        try:
            heads = answer.result()
        except (BrokerError, CancelledError) as error:
            logger.debug("RabbitMQ does not say what it has: %s", error)
            return
        missing = [
            record
            for name, records in self._late.items()
            for record in records
            # What does not answer may hold its message.
            if {name, again(record.queue)} <= heads.keys()
            and heads[again(record.queue)] is None
            and ((head := heads[name]) is None or record.due + OVERDUE < head)
        ]
        if not missing:
            return
        logger.warning("%d tasks were waiting without a message; sent again", len(missing))
        here, now = time.monotonic(), self._ledger.clock.now()
        self._sent.update((record.id, here) for record in missing)
        anew = [Outgoing.of_record(record, now) for record in missing]
        session.begin(session.debts.publish_or_owe(anew))
