"""Moving tasks: the methods of `Broker`. The package's docstring tells why in this order."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Collection, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as TooLate
from functools import partial

from acked.bells import Bells
from acked.broker import Admission, Beat, Claim, Ledger, Order
from acked.brokers.rabbitmq.mending import Silent
from acked.brokers.rabbitmq.outgoing import LONGEST_ID, Misfits, Outgoing, has_room
from acked.brokers.rabbitmq.publishing import TooLarge
from acked.brokers.rabbitmq.pulse import Pulse
from acked.brokers.rabbitmq.recovering import Lost
from acked.brokers.rabbitmq.session import Session, Sessions
from acked.brokers.rabbitmq.shelf import Ticket
from acked.brokers.rabbitmq.topology import lines, queue_of
from acked.delivery import COMES_BACK, Delivery, Settlement
from acked.errors import BrokerError
from acked.message import Message, encode

logger = logging.getLogger("acked.broker")

PATIENCE = 1.0
"""Seconds a settlement waits for the messages it has sent. They are sent all the same."""


class TaskQueue:
    """The methods of `acked.broker.Broker` that move tasks.

    Args:
        ledger: Keeps the records.
        sessions: The way to RabbitMQ.
        bells: Rung when a message has arrived.
    """

    def __init__(self, ledger: Ledger, sessions: Sessions, bells: Bells) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._bells = bells
        self._misfits = Misfits()
        self._lost = Lost(ledger, self._misfits)
        self._pulse = Pulse()

    def send(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        if not all(has_room(each.id) for each in messages):
            raise BrokerError(
                f"RabbitMQ takes no id of more than {LONGEST_ID} bytes", nothing_stored=True
            )
        for each in messages:
            lines(each.queue)  # Raises where RabbitMQ has no room for them.
        with self._sessions.use() as session:
            deadline = session.deadline()
            # Each step leaves something to the next, so that all are over at the deadline.
            last = session.last_part
            bodies = [encode(each) for each in messages]
            # Before anything is stored: where RabbitMQ is away, nothing is.
            session.publisher.check_sizes((m.id, b) for m, b in zip(messages, bodies, strict=True))
            if not session.publisher.is_up:
                try:
                    session.ask(session.publisher.get_ready(), deadline=deadline - 2 * last)
                except BrokerError as error:
                    raise error.again(str(error), nothing_stored=True) from error
            self._ledger.send_by(messages, deadline - last)
            # Only now, as it may have to be asked of the records' server the first time.
            now = self._ledger.clock.now()
            outgoing = [
                Outgoing.of_message(each, body, now)
                for each, body in zip(messages, bodies, strict=True)
            ]
            try:
                publishing = session.publisher.publish(outgoing, until=deadline)
                session.ask(publishing, deadline=deadline)
            except TooLarge as error:
                raise error.again(
                    f"{error}. It is in the records, and runs once RabbitMQ takes it; see `acked "
                    "discard`.",
                    nothing_stored=False,
                ) from error
            except BrokerError as error:
                text = f"{error} (It is in the records, so it will run when RabbitMQ is back.)"
                if isinstance(error, Silent) and len({each.queue for each in messages}) > 1:
                    # RabbitMQ is not away. Where several senders share this write, the publisher
                    # then tries each alone, and only who sends to that queue fails.
                    raise BrokerError(text) from error
                raise error.again(text, nothing_stored=False) from error

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Claim:
        with self._sessions.use() as session:
            is_open = session.consumer.is_open(queues, limit)
            tickets = session.consumer.shelves.take(queues, limit) if is_open else []
            if not tickets:
                # Nothing to claim with them in one step: then they need not wait for RabbitMQ.
                refused = self._settle(session, settlements)
                try:
                    tickets = self._fetch(session, queues, limit)
                except BrokerError:
                    if not settlements:
                        raise
                if not tickets:
                    return Claim([], refused)
                claim = self._admit(session, consumer, queues, tickets, ())
                return Claim(claim.deliveries, refused)
            return self._admit(session, consumer, queues, tickets, settlements)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        if not settlements:
            return []
        with self._sessions.use() as session:
            return self._settle(session, settlements)

    def renew(self, beat: Beat) -> list[Order]:
        return self._ledger.renew(beat)

    def carrier_silence(self) -> tuple[float, str]:
        with self._sessions.use() as session:
            return self._pulse.silence(session)

    def leave(self, worker: str) -> None:
        self._ledger.leave(worker)

    def seize(self, holder: str, *, by: str, keep: Collection[int] = ()) -> list[Delivery]:
        return self._ledger.seize(holder, by=by, keep=keep)

    def reap(self, *, by: str) -> list[Delivery]:
        seized = self._ledger.reap(by=by)
        try:
            with self._sessions.use() as session:
                self._lost.look(session)
        except BrokerError as error:
            # What was seized is ours by now, and must be handed out.
            logger.warning("cannot look for tasks without a message: %s", error)
        return seized

    def exchange(self, name: str, old: bytes | None, new: bytes) -> bytes | None:
        return self._ledger.exchange(name, old, new)

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        with self._sessions.use() as session:
            consumer = session.consumer
            if not consumer.is_open(queues):
                session.ask(consumer.open(queues))
            shelves = consumer.shelves
            shelves.come(queues, waiting=1)
        try:
            again = shelves.opens_again(queues)
            if again is not None:
                timeout = min(timeout, again - time.monotonic())
            self._bells.wait(
                lambda: 0.0 if shelves.hold(queues) or consumer.is_lost else math.inf, timeout
            )
        finally:
            shelves.come(queues, waiting=-1)

    def interrupt(self) -> None:
        self._bells.interrupt()

    def _fetch(self, session: Session, queues: Sequence[str], limit: int) -> list[Ticket]:
        """Up to *limit* messages that RabbitMQ has."""
        if limit <= 0:
            return []
        consumer, shelves = session.consumer, session.consumer.shelves
        if not consumer.is_open(queues, limit):
            session.ask(consumer.open(queues, limit))
        if not shelves.hold(queues):
            session.ask(consumer.look(queues))
        return shelves.take(queues, limit)

    def _admit(
        self,
        session: Session,
        consumer: str,
        queues: Sequence[str],
        tickets: Sequence[Ticket],
        settlements: Sequence[Settlement],
    ) -> Claim:
        """Claim the tasks that *tickets* name, as far as the ledger lets us."""
        ids = [each.message.task_id for each in tickets]
        try:
            admission = self._ledger.admit(consumer, queues, ids, settlements=settlements)
        except BaseException:
            session.consumer.shelves.put_back(tickets)
            raise
        self._part(session, tickets, admission)
        self._publish_again(session, settlements, admission.refused)
        return Claim(admission.deliveries, admission.refused)

    def _part(self, session: Session, tickets: Sequence[Ticket], admission: Admission) -> None:
        """Let each message go where the ledger's answer says: acknowledged, most of them."""
        consumer, early = session.consumer, admission.early
        blocked = session.publisher.blocked
        if not (early or admission.paused or admission.unknown):
            session.tell(consumer.settle, tickets)
            return
        now = self._ledger.clock.now()
        waits, nobody = set(admission.paused), set(admission.unknown)
        done: list[Ticket] = []
        dead: list[Ticket] = []
        resting: dict[str, list[Ticket]] = {}
        for ticket in tickets:
            task_id = ticket.message.task_id
            if task_id in nobody:
                dead.append(ticket)
            elif task_id in waits:
                resting.setdefault(queue_of(ticket.message.line), []).append(ticket)
            elif task_id in early:
                again = ticket.message.put_off(early[task_id], now)
                if blocked:
                    # It would take up the room of messages that may run. Should we die before the
                    # alarm is over, `recovering` finds its task.
                    done.append(ticket)
                    session.tell(session.debts.owe, again)
                else:
                    # Acknowledged once it is in its delay, so that it is never nowhere, or once
                    # that has failed.
                    session.tell(session.debts.owe, again, partial(consumer.settle, [ticket]))
            else:
                done.append(ticket)
        session.tell(consumer.settle, done, dead)
        for queue, given_back in resting.items():
            session.tell(consumer.pause, queue, given_back)

    def _settle(self, session: Session, settlements: Sequence[Settlement]) -> list[Settlement]:
        if not settlements:
            return []
        refused = self._ledger.settle(settlements)
        self._publish_again(session, settlements, refused)
        return refused

    def _publish_again(
        self, session: Session, settlements: Sequence[Settlement], refused: Sequence[Settlement]
    ) -> None:
        """Send a message for each task that waits again after *settlements*."""
        lost = {(each.id, each.token) for each in refused}
        back = [
            each.id
            for each in settlements
            if each.event in COMES_BACK and (each.id, each.token) not in lost
        ]
        if not back:
            return
        try:
            self.publish_records(session, back)
        except BrokerError as error:
            # They are settled; `reap` finds what has no message.
            logger.warning("%d tasks have no message yet: %s", len(back), error)

    def publish_records(self, session: Session, task_ids: Sequence[str]) -> None:
        """Send a message for each of *task_ids* that waits; go on later where that is not possible
        now.

        Raises:
            BrokerError: The ledger does not say which do.
        """
        now = self._ledger.clock.now()
        records = [self._ledger.get(each) for each in dict.fromkeys(task_ids)]
        waiting = [record for record in records if record is not None and record.is_waiting]
        again = [Outgoing.of_record(record, now) for record in self._misfits.without(waiting)]
        if again:
            publishing = session.begin(session.debts.publish_or_owe(again))
            if not session.publisher.blocked:
                with contextlib.suppress(TooLate, CancelledError):
                    publishing.result(PATIENCE)
