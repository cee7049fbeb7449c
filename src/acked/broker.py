"""The interface every broker has, in two protocols: `Broker` moves tasks, `Records` reads and
operates them. The conformance suite in `acked.testing` says what each method must do.

Every method blocks, is safe to call from any thread, and either happened as a whole or raised.
A broker raises `BrokerError` (`BrokerUnavailable` where it could not be reached) within its time
limit; it never waits for ever. Wall-clock times are seconds since the epoch.

A *worker* is a supervisor and its processes; its name has no slash. A *consumer* is one process
of it, ``worker/index``. Leases belong to workers: `renew` keeps everything a worker's consumers
hold, in one write.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from acked.clock import Clock
from acked.delivery import Delivery, Settlement, State
from acked.message import Message
from acked.record import Attempt, Progress, Record
from acked.tally import Count

DEFAULT_LEASE = 10.0
DEFAULT_HEARTBEAT = 2.0


def worker_of(consumer: str) -> str:
    """The worker whose process *consumer* is."""
    return consumer.partition("/")[0]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What only some engines can do.

    Args:
        shared: Other processes see the same tasks, so that workers can run.
        durable: `send` returns after the flush to disk.
        host_local: Every user of it is on this host.
        ordered: Claims come in exact order, by priority and then age, whoever else claims and
            whatever was put back. Without it they do as a rule.
        transactional: It is `Transactional`.
    """

    shared: bool
    durable: bool
    host_local: bool
    ordered: bool = True
    transactional: bool = False


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """Something about how an engine is set up that decides what becomes of the tasks in it.

    Args:
        subject: What it is about, in a word or two.
        level: ``ok``, ``info``, or ``warn`` where it will hurt some day. What would lose tasks at
            once is refused by `Broker.setup`.
        text: What it is, and what it means for the tasks.
        remedy: What to do, for ``warn``.
        is_promise: It says what becomes of the tasks at a power loss or where room runs out. A
            worker says it at each start, whatever its log level.
    """

    subject: str
    level: Literal["ok", "info", "warn"]
    text: str
    remedy: str = ""
    is_promise: bool = False


class Claim(msgspec.Struct, frozen=True):
    """What `Broker.claim` gives: the deliveries, and those settlements whose lease was lost."""

    deliveries: list[Delivery]
    refused: list[Settlement]


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself with each heartbeat.

    Args:
        worker: Its name, unique for each start.
        host, pid, started: Where it is, and since when (wall clock).
        queues: What it consumes.
        processes: How many it runs.
        lease: Seconds after which it counts as dead, should no other beat follow.
        memory: Resident memory of its supervisor and processes together, KiB.
    """

    worker: str
    host: str
    pid: int
    started: float
    queues: tuple[str, ...]
    processes: int
    lease: float = DEFAULT_LEASE
    memory: int = 0


class Order(msgspec.Struct, frozen=True):
    """A running task of this worker that was revoked with ``terminate=True``."""

    id: str
    token: int


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as the broker knows it. `lease_left` is seconds; below 0 it has run out."""

    worker: str
    host: str
    pid: int
    started: float
    queues: tuple[str, ...]
    processes: int
    lease_left: float
    running: int
    memory: int = 0


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks of one queue are in each state.

    Args:
        oldest: Wall-clock time since which the longest-waiting QUEUED task has been due; None
            where none waits.
    """

    queue: str
    scheduled: int = 0
    queued: int = 0
    running: int = 0
    success: int = 0
    failure: int = 0
    revoked: int = 0
    oldest: float | None = None
    paused: bool = False


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records to find; None in a field does not ask.

    Args:
        states, queue, task: Those of the record.
        id_part: Any part of its id.
        worker: Who holds it or held it last: a worker, or one consumer of it.
        sent_from, sent_before: When it was sent, wall clock.
        text: A text that its message contains: a value among its arguments, for one.
        error: A text that its latest failure contains: in its type, message or traceback. An empty
            one is in every failure.

    A text is searched for as JSON has it, so that a quote or a line break in it is found.
    """

    states: tuple[State, ...] | None = None
    queue: str | None = None
    task: str | None = None
    id_part: str | None = None
    worker: str | None = None
    sent_from: float | None = None
    sent_before: float | None = None
    text: str | None = None
    error: str | None = None

    def accepts(self, record: Record) -> bool:
        """Whether *record* is wanted."""
        consumer = record.consumer
        return (
            (self.states is None or record.state in self.states)
            and (self.queue is None or record.queue == self.queue)
            and (self.task is None or record.task == self.task)
            and (self.id_part is None or self.id_part in record.id)
            and (self.worker is None or self.worker in (consumer, worker_of(consumer)))
            and (self.sent_from is None or record.sent >= self.sent_from)
            and (self.sent_before is None or record.sent < self.sent_before)
            and (self.text is None or as_json_has_it(self.text) in record.body)
            and (
                self.error is None
                or (
                    record.failure is not None
                    and as_json_has_it(self.error) in msgspec.json.encode(record.failure)
                )
            )
        )


def as_json_has_it(text: str) -> bytes:
    """*text* as it stands inside a JSON string. Half a character stands in none."""
    return msgspec.json.encode(text.encode(errors="replace").decode())[1:-1]


class Broker(Protocol):
    """What a queue needs of an engine."""

    @property
    def url(self) -> str:
        """Where it is, with any password masked: for people."""
        ...

    @property
    def address(self) -> str:
        """Where it is, as `open_broker` takes it, password and all: never logged or shown."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def clock(self) -> Clock:
        """What its due times and leases are read against: the server's where there is one."""
        ...

    @property
    def presence_dir(self) -> Path | None:
        """A directory of this host, of this broker's users alone, where each worker keeps a locked
        file that says what it is running; None where other processes cannot share the broker."""
        ...

    def setup(self) -> None:
        """Make what it needs (tables, keys). Harmless when repeated or run at once by several."""
        ...

    def conditions(self) -> list[Condition]:
        """What of the engine's own set-up its users should know. Comes after `setup`."""
        ...

    def connection_conditions(self) -> list[Condition]:
        """Those of `conditions` that are about the way to it. Known from its URL: nobody is
        asked."""
        ...

    def send(self, messages: Sequence[Message]) -> None:
        """Store *messages*: all or none, durable when it returns.

        A message whose id is already known changes nothing, so that a send whose reply was lost
        can be repeated. A message with an `eta` in the future is SCHEDULED, the others QUEUED.
        """
        ...

    def claim(
        self,
        consumer: str,
        queues: Sequence[str],
        limit: int,
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Claim:
        """Apply *settlements*, then take up to *limit* tasks from *queues*.

        Within a queue by priority, then oldest first; earlier queues of *queues* first. Tasks
        whose time has come are included; paused queues are not. Each delivery has its attempt
        counted and a fresh token. Settling and claiming are one write where the engine can.
        A worker that claims before its first beat has a lease of `DEFAULT_LEASE`.
        """
        ...

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Apply each settlement whose token is still the task's; return the refused ones.

        Each is atomic: state, result, history. Repeating one that was applied changes nothing
        and is not refused.
        """
        ...

    def renew(self, beat: Beat) -> list[Order]:
        """Prolong the lease of everything the worker's consumers hold; return what it must kill."""
        ...

    def leave(self, worker: str) -> None:
        """The worker ends in good order. It holds nothing any more; if it does, `reap` takes it."""
        ...

    def seize(self, holder: str, *, by: str, keep: Collection[int] = ()) -> list[Delivery]:
        """Take over what *holder* (a worker, or one consumer) holds, since it is dead, or since it
        is *by* itself and does not know of it.

        Each delivery gets a fresh token, so nothing the dead one may still say counts; *by* now
        holds it and must settle it. `Delivery.consumer` and `Delivery.seized_token` are those of
        the dead holder, to be matched with what it said it was running.

        Args:
            holder: Who holds it.
            by: The consumer that takes over.
            keep: Tokens of deliveries that stay as they are.
        """
        ...

    def reap(self, *, by: str) -> list[Delivery]:
        """Make due tasks ready, and `seize` what workers hold whose lease has run out."""
        ...

    def exchange(self, name: str, old: bytes | None, new: bytes) -> bytes | None:
        """Keep *new* under *name* if *old* is what is kept there (None: nothing); what was there.

        So it was done if *old* is returned, or *new*: an engine whose answer was lost is asked
        again, and then has it already. Who has to know writes what nobody else writes. One step,
        for all who share the broker: what workers agree on, such as when the next start of a task
        with a rate limit is free.
        """
        ...

    def wait(self, queues: Sequence[str], timeout: float) -> None:
        """Return when a task may be ready in *queues*, after *timeout* seconds, or for no reason.

        A hint, never the truth. It returns early for a task that becomes due in the meantime.
        """
        ...

    def interrupt(self) -> None:
        """Let every `wait` of this process return now, or the next one of a thread that is not
        waiting at the moment. Safe in a signal handler."""
        ...

    def close(self) -> None:
        """Let go of every connection of every thread."""
        ...


@runtime_checkable
class Records(Protocol):
    """Reading and operating: what the command line, the API and a dashboard use."""

    @property
    def records_url(self) -> str:
        """Where they are kept, with any password masked: `Broker.url`, unless that carries messages
        alone."""
        ...

    def get(self, task_id: str) -> Record | None: ...

    def attempts(self, task_id: str) -> list[Attempt]:
        """Every attempt, oldest first."""
        ...

    def search(
        self,
        wanted: Filter,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Record]:
        """Newest first.

        Args:
            wanted: Which.
            limit: How many at most.
            before: Only those with a smaller `tag`: that of the last record of the page before.
            after: Only those with a larger `tag`. A text can only be found by looking at every
                record between the two, so who asks for one says how far to look.
        """
        ...

    def upcoming(self, *, limit: int = 50, after: tuple[float, int] | None = None) -> list[Record]:
        """SCHEDULED tasks of every queue, what is due next first; those of one moment by `tag`.

        Paused queues are included, and so is what is due already and was not made ready yet.

        Args:
            limit: How many at most.
            after: `due` and `tag` of the last record of the page before.
        """
        ...

    def counts(self) -> list[QueueCounts]: ...

    def workers(self) -> list[WorkerRecord]: ...

    def wait_for_change(self, task_id: str, since: Record | None, timeout: float) -> Record | None:
        """The record once it differs from *since* in state or progress, or after *timeout*."""
        ...

    def report(self, task_id: str, token: int, progress: Progress) -> bool:
        """Keep the latest progress; False when the token is stale or the attempt has ended."""
        ...

    def save(self, task_id: str, token: int, checkpoint: bytes) -> bool:
        """Keep a checkpoint (JSON) that outlives retries and losses; False when stale."""
        ...

    def saved(self, task_id: str) -> bytes | None: ...

    def revoke(self, task_ids: Sequence[str], *, terminate: bool = False) -> int:
        """Durable; how many of them were unfinished."""
        ...

    def requeue(self, task_ids: Sequence[str]) -> int:
        """Run finished-without-success tasks again; how many there were."""
        ...

    def discard(self, task_ids: Sequence[str]) -> int:
        """Delete records that are not running; how many there were."""
        ...

    def purge(self, queue: str) -> int:
        """Delete every waiting task of *queue*; how many there were."""
        ...

    def count(self, counts: Sequence[Count]) -> None:
        """Add to the counters. Those of `KEPT_MINUTES` before the newest are forgotten."""
        ...

    def counted(self, first: int, last: int) -> list[Count]:
        """The counters of the minutes *first* to *last*, in no order."""
        ...

    def pause(self, queue: str) -> None: ...

    def resume(self, queue: str) -> None: ...

    def prune(
        self, *, succeeded_before: float | None, failed_before: float | None, limit: int
    ) -> int:
        """Delete records that finished before those times (wall clock; None keeps them all), at
        most *limit*; how many it deleted. SUCCESS and REVOKED go by the first."""
        ...


class Engine(Broker, Records, Protocol):
    """A broker that keeps its own records, as every engine but a pure message broker does."""


@runtime_checkable
class Transactional(Protocol):
    """A broker whose tasks can be sent inside a transaction of the caller's own."""

    def send_within(self, connection: object, messages: Sequence[Message]) -> None:
        """Store *messages* in the transaction that is open on *connection*.

        They are sent with its commit, and never if it is rolled back. Nothing is committed here.

        Args:
            connection: Of the caller, to the broker's own database.
            messages: As for `Broker.send`.

        Raises:
            NotSendable: It is no connection to that database; nothing was done on it.
            BrokerError: The database refused; the caller's transaction has failed.
            Exception: Of the driver, where the transaction has met another and is to be tried again
                from its beginning.
        """
        ...


@runtime_checkable
class Migrates(Protocol):
    """A broker whose tables change from one version of acked to another. Neither method needs
    `Broker.setup`, which refuses tables that are not those of this version."""

    def pending(self) -> list[str]:
        """Names of the migrations that it lacks, in order.

        Raises:
            BrokerError: It cannot be asked.
            ConfigurationError: It has some that this version does not know.
        """
        ...

    def migrate(self) -> list[str]:
        """Apply them, each as a whole; the names of those that were applied.

        Raises:
            BrokerError: One failed. Those before it are applied.
            ConfigurationError: As `pending`.
        """
        ...


@runtime_checkable
class Carried(Protocol):
    """A broker whose messages another server carries than the one that keeps its records.
    `Broker.renew` asks the latter alone, so that leases last while the carrier is away."""

    def carrier_silence(self) -> tuple[float, str]:
        """Seconds since the carrier last answered, and why it does not, where that is known. It is
        asked again with each call, and not waited for: call it with each heartbeat."""
        ...


class Admission(msgspec.Struct, frozen=True):
    """What `Ledger.admit` made of the messages.

    Args:
        deliveries: Those that may run now, in the order they were given.
        early: Due time of each that waits for it, by id: to be delivered again then.
        paused: Those whose queue is paused: to be offered again.
        unknown: Those that have no record: discarded, or purged, or lost by the ledger.
        refused: Those settlements whose lease was lost.

    A message that is in none of them needs nothing: its task runs, has ended, or waits in another
    queue, where it has a message of its own.
    """

    deliveries: list[Delivery]
    early: dict[str, float]
    paused: list[str]
    unknown: list[str]
    refused: list[Settlement]


@runtime_checkable
class Ledger(Engine, Protocol):
    """An engine that can keep the records for a broker that carries messages alone (RabbitMQ).

    A task is sent to it as to any engine (`Broker.send`), then its message is sent to the other.
    So a task without a message is found by `overdue`, and a message without a task was discarded.
    """

    def send_by(self, messages: Sequence[Message], deadline: float) -> None:
        """`Broker.send`, as a part of a longer call: over by *deadline* (monotonic seconds)."""
        ...

    def admit(
        self,
        consumer: str,
        queues: Sequence[str],
        task_ids: Sequence[str],
        *,
        settlements: Sequence[Settlement] = (),
    ) -> Admission:
        """Apply *settlements*, then let *consumer* claim the tasks whose messages it was delivered.

        Each of *task_ids* is claimed as `Broker.claim` would where it is QUEUED, or SCHEDULED and
        due, in one of *queues* that is not paused. The same id twice counts once. Nothing else is
        claimed. Settling and claiming are one write where the engine can.
        """
        ...

    def overdue(self, before: float, limit: int) -> list[Record]:
        """Up to *limit* waiting tasks that have been due since before *before* (wall-clock
        seconds), the longest first; tasks of paused queues are left out.

        Where there are more, they are taken in turn: the longest of each priority of each queue,
        and of what is SCHEDULED there, then the second of each. So no backlog hides another.
        """
        ...
