"""Finding tasks that wait in the ledger while no message says so: `Lost`.

RabbitMQ cannot be asked what is in a queue, but it can be asked for the message at its head, and
messages leave a line in the order in which they came. So a task that has been due for a while, and
for longer than the message at the head of its line has been there, has no message in it. Another
one does no harm: the ledger admits a task once.
"""

from __future__ import annotations

import time
from collections import defaultdict

from acked.broker import Ledger
from acked.brokers.rabbitmq.outgoing import Outgoing
from acked.brokers.rabbitmq.session import Session
from acked.brokers.rabbitmq.topology import line
from acked.record import Record

OVERDUE = 10.0
"""Seconds that a task is due before its message is missed, and by which one at the head of its line
must be younger. More than a message spends outside its line, on its way or on a shelf."""

LOOK_EVERY = 5.0
AT_ONCE = 500
"""Tasks that are looked at in one go."""

AGAIN = 60.0
"""Seconds before a task that was sent again is sent once more."""


class Lost:
    """What one process looks for.

    Args:
        ledger: Knows what waits.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next_look = 0.0
        self._sent: dict[str, float] = {}

    def find(self, session: Session) -> None:
        """Send what has no message once more, if it is time to look.

        Raises:
            BrokerError: The ledger or RabbitMQ cannot be asked.
        """
        here = time.monotonic()
        if here < self._next_look:
            return
        self._next_look = here + LOOK_EVERY
        now = self._ledger.clock.now()
        self._sent = {key: at for key, at in self._sent.items() if here - at < AGAIN}
        late: defaultdict[str, list[Record]] = defaultdict(list)
        for record in self._ledger.overdue(now - OVERDUE, AT_ONCE):
            if record.id not in self._sent:
                late[line(record.queue, record.priority)].append(record)
        if not late or session.publisher.blocked:
            return
        heads = session.ask(session.publisher.heads(late))
        missing = [
            record
            for name, records in late.items()
            for record in records
            if (head := heads[name]) is None or record.due + OVERDUE < head
        ]
        if missing:
            session.ask(session.publisher.publish([Outgoing.of_record(r, now) for r in missing]))
            self._sent.update((record.id, here) for record in missing)
