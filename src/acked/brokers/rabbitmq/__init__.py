"""RabbitMQ carries the messages; a *ledger*, another engine, keeps the records.

The ledger alone decides. It knows each task's state, and only what it admits is run, with the token
it gives. A message is no more than the news that a task may run, and where. So every question about
a crash has one of two answers: a message without a task that waits is acknowledged and forgotten,
and a task that waits without a message is found and sent another. A message too many does no harm.

send
    1. The way to RabbitMQ is made, if it is not there. If it cannot be, or an alarm has stopped
       publishers, nothing is stored.
    2. The ledger stores the task.
    3. The message is published, and RabbitMQ confirms it.

    A sender that dies, or is refused, between 2 and 3 raises or never returns, and the task is
    *recovered*: see below. It cannot run twice, being one record.

claim
    Messages are delivered ahead, onto a shelf (see `consuming`). What is taken from it goes to the
    ledger in one step with the settlements that are waiting (`Ledger.admit`), and is acknowledged
    to RabbitMQ right after. Not when the task has ended: whether it runs again if this worker dies
    is the ledger's decision either way, by lease and token, and RabbitMQ closes the channel of a
    message that is not acknowledged for 30 minutes, which no task may have to fear. So a message
    that is delivered again, since the acknowledgement was lost, is one too many. One whose task is
    not due yet goes through a delay once more; one whose queue is paused goes back; one whose task
    has no record goes to the dead letters, as the ledger may have lost it.

settle
    The ledger first: state, result and history are one write there. Then, if the task waits again,
    a message is published for it. Where RabbitMQ does not take it now, it is owed and tried again,
    and settling goes on. A crash in between leaves a task to be recovered.

recovering
    `reap` looks for tasks that have been due for some seconds, and longer than the message at the
    head of their line has been there, and sends them one (see `recovering`).

delays
    A message that is due later goes into a queue whose messages expire after a fixed time, and from
    there to its line (see `topology`). It comes early and goes round again, in ever smaller steps.

What runs where: `session` has the thread in which everything to do with RabbitMQ happens, on one
connection for publishing and another for consuming (`link`), so that an alarm, which stops whoever
publishes, stops no consumer, and a third for what a queue may not answer (`heads`). Callers'
threads speak to the ledger themselves.

A queue that does not answer is asked on a connection of its own before it is used, and made anew
where it was new and is lost (`mending`).
"""

from __future__ import annotations

from pathlib import Path

from acked.bells import Bells
from acked.broker import Capabilities, Condition, Ledger
from acked.brokers.rabbitmq.address import parse
from acked.brokers.rabbitmq.heads import ROUND
from acked.brokers.rabbitmq.notes import Notes
from acked.brokers.rabbitmq.records import TaskRecords
from acked.brokers.rabbitmq.session import Sessions
from acked.brokers.rabbitmq.topology import DEAD
from acked.clock import Clock
from acked.runtime import runtime_directory

__all__ = ["RabbitMQBroker"]

DEFAULT_TIMEOUT = 5.0


class RabbitMQBroker(TaskRecords):
    """`Broker` through RabbitMQ, and `Records` in *ledger*.

    Args:
        url: ``amqp[s]://user:password@host:port/vhost``.
        ledger: Keeps the records, and the time; closed with this broker.
        timeout: Seconds to wait for RabbitMQ before `BrokerUnavailable`.

    Raises:
        ConfigurationError: *url* cannot be understood.
    """

    def __init__(
        self,
        url: str,
        ledger: Ledger,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._address = parse(url)
        bells = Bells()
        notes = Notes(ledger, self._address.identity)
        super().__init__(ledger, Sessions(self._address, timeout, notes, bells.ring), bells)

    @property
    def url(self) -> str:
        return self._address.masked

    @property
    def address(self) -> str:
        return self._address.url

    @property
    def capabilities(self) -> Capabilities:
        ledger = self._ledger.capabilities
        return Capabilities(
            shared=ledger.shared, durable=ledger.durable, host_local=False, ordered=False
        )

    @property
    def clock(self) -> Clock:
        return self._ledger.clock

    @property
    def presence_dir(self) -> Path | None:
        if not self._ledger.capabilities.shared:
            return None
        return runtime_directory(f"{self._address.identity} {self._ledger.url}")

    def setup(self) -> None:
        """Make what the ledger needs. What RabbitMQ needs is made when it is first used, by who
        sends or consumes, on the connection that he uses for it."""
        self._ledger.setup()

    def conditions(self) -> list[Condition]:
        with self._sessions.use() as session:
            about, dead = session.ask(session.consumer.describe())
            silent = self._lost.silent(session, ROUND)
        found = [
            Condition(
                subject="RabbitMQ", level="ok",
                text=f"version {about.get('version', 'unknown')}, quorum queues, confirmed "
                "publishing.",
            ),
            Condition(
                subject="durability", level="ok", is_promise=True,
                text="RabbitMQ confirms a message once it is on disk; what survives is what the "
                f"records do, in {self._ledger.url}.",
            ),
            *self._address.conditions(),
        ]  # fmt: skip
        if dead:
            found.append(
                Condition(
                    subject="dead letters", level="info",
                    text=f"{dead} messages in the queue {DEAD} belong to no task: discarded, "
                    "purged, or lost by the ledger.",
                )
            )  # fmt: skip
        if silent:
            found.append(
                Condition(
                    subject="queues", level="warn",
                    text=f"{len(silent)} queues of RabbitMQ with overdue tasks do not answer: "
                    f"{', '.join(silent)}.",
                    remedy="Start the nodes that are away. A queue that is broken is deleted with "
                    "`rabbitmqctl delete_queue`; its tasks are in the records, and are sent again.",
                )
            )  # fmt: skip
        return [*found, *self._ledger.conditions()]

    def connection_conditions(self) -> list[Condition]:
        return [*self._address.conditions(), *self._ledger.connection_conditions()]

    def close(self) -> None:
        self._sessions.close()
        self._ledger.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url} with {self._ledger!r}>"
