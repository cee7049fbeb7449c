"""What could not be published for now and must be: `Debts`.

It is tried again until it succeeds, for each queue apart, so that one that takes no messages holds
up no other. Nothing depends on that for ever, as the ledger knows the task and `recovering` finds
it; it only is quicker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from pika.exceptions import AMQPError

from acked.brokers.rabbitmq.outgoing import Outgoing
from acked.brokers.rabbitmq.publishing import Publisher, TooLarge
from acked.errors import BrokerError

logger = logging.getLogger("acked.broker")

PAY_AGAIN = 1.0
"""Seconds between two tries to publish what is owed."""

PAID_AT_ONCE = 100
"""Messages owed to one queue that are published together. A queue that refuses them is tried with
no more than these each time."""

OWED_AT_MOST = 20_000
"""Messages that are remembered as owed; what is beyond, `recovering` finds."""


class Debts:
    """Lives on a session's loop.

    Args:
        publisher: By whom they are paid.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._owed: dict[str, list[tuple[Outgoing, Callable[[], None]]]] = {}
        self._payers: dict[str, asyncio.Task[None]] = {}

    async def publish_or_owe(self, messages: Sequence[Outgoing]) -> None:
        """Publish *messages* now, or as soon as that is possible."""
        try:
            await self._publisher.publish(messages)
        except (BrokerError, AMQPError, TimeoutError) as error:
            # The driver's own errors, too: whoever has settled a task is not to hear of them.
            logger.warning("messages are owed to RabbitMQ: %s", str(error) or type(error).__name__)
            for each in messages:
                self.owe(each)

    def owe(self, message: Outgoing, then: Callable[[], None] | None = None) -> None:
        """Publish *message* as soon as that is possible, and then call *then*: or before, once that
        has failed, since what is in the way may last."""
        if then is None and sum(map(len, self._owed.values())) >= OWED_AT_MOST:
            return
        queue = message.goes_to
        self._owed.setdefault(queue, []).append((message, then or _nothing))
        if queue not in self._payers:
            self._payers[queue] = asyncio.get_running_loop().create_task(self._keep_paying(queue))

    async def pay(self) -> None:
        """Try once to publish what is owed."""
        await asyncio.gather(*map(self._pay, tuple(self._owed)), return_exceptions=True)

    async def _keep_paying(self, queue: str) -> None:
        try:
            while self._owed[queue]:
                try:
                    await self._pay(queue)
                except (BrokerError, AMQPError, TimeoutError) as error:
                    left = len(self._owed[queue])
                    logger.debug("%d messages are owed to %s: %s", left, queue, error)
                    # What is not acknowledged would keep RabbitMQ from sending what may run.
                    self._wait_for_none(queue)
                    await asyncio.sleep(PAY_AGAIN)
            del self._owed[queue]
        finally:
            del self._payers[queue]

    def _wait_for_none(self, queue: str) -> None:
        """Tell whoever waits for what is owed to *queue* to go on; remember no more than is owed at
        most."""
        debts = self._owed[queue]
        waiting = [then for _, then in debts]
        room = OWED_AT_MOST - sum(len(owed) for name, owed in self._owed.items() if name != queue)
        debts[:] = [(message, _nothing) for message, _ in debts[: max(room, 0)]]
        for then in waiting:
            then()

    def _give_up(self, queue: str) -> None:
        """Owe *queue* nothing any more that is too large."""
        debts = self._owed[queue]
        limit = self._publisher.largest
        given_up = [debt for debt in debts if len(debt[0].body) > limit]
        debts[:] = [debt for debt in debts if debt not in given_up]
        for _, then in given_up:
            then()

    async def _pay(self, queue: str) -> None:
        """Publish what is owed to *queue*. One that does not confirm in time is a suspect, and gets
        nothing before it has answered: what is published once more would fill it with copies.

        Raises:
            BrokerError: Some of it is still owed.
        """
        debts = self._owed[queue]
        while debts:
            some = debts[:PAID_AT_ONCE]
            try:
                batch = await self._publisher.publish_once([message for message, _ in some])
            except TooLarge as error:
                logger.error("%s. Its task stays in the records, and runs after that", error)
                self._give_up(queue)
                continue
            left = batch.refused | batch.homeless
            for debt in some:
                message, then = debt
                if message.task_id not in left and debt in debts:
                    debts.remove(debt)
                    then()
            if left:
                raise BrokerError(f"RabbitMQ refused {len(left)} of {len(some)} messages")


def _nothing() -> None:
    """Nobody waits for it."""
