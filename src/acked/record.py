"""The record of a task, and what each operation makes of it: a broker's meaning as pure functions.

The memory broker runs these functions; SQL and scripts of other brokers say the same in their own
language, and the conformance suite drives both side by side.
"""

from __future__ import annotations

from typing import Any

import msgspec

from acked import states
from acked.delivery import (
    COMES_BACK,
    FINAL,
    WAITING,
    Delivery,
    Event,
    Failure,
    Settlement,
    State,
    step,
)
from acked.errors import MessageUnreadable
from acked.message import Message, decode

REVOKE_SOFT = 1
REVOKE_TERMINATE = 2


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The latest thing a running task said about itself.

    Args:
        done, total: How far; total 0 is unknown.
        message: What it is doing.
        meta: `update_state(meta=...)`, any JSON value.
        state: A state name of the task's own (``PROGRESS``), or None.
        at: Wall-clock time, seconds.
    """

    done: float = 0.0
    total: float = 0.0
    message: str = ""
    meta: Any = None
    state: str | None = None
    at: float = 0.0


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a task, kept for ever with it.

    Args:
        number: From 1. An interrupted attempt gave its number back, so the next has it again.
        event: How it ended.
        started, ended: Wall-clock seconds.
        consumer: Which process of which worker ran it.
        reason: Why it ended so, in a few words.
        failure: The exception, if there was one.
        next_at: When it was to run again, if it was.
        counted: False when it was interrupted.
        loss: It ended with its worker.
        log: What it logged, as far as it is kept.
    """

    number: int
    event: Event
    started: float
    ended: float
    consumer: str = ""
    reason: str = ""
    failure: Failure | None = None
    next_at: float | None = None
    counted: bool = True
    loss: bool = False
    log: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One task as the broker keeps it. Times are wall-clock seconds.

    Args:
        id, task, queue, priority, sent: From the message.
        body: The message.
        state: Where it stands.
        due: When it may start; the moment it was sent unless it was delayed.
        attempt, retries, losses, suspected, runs: Counted as `Delivery` says.
        token: Of the latest claim; 0 before the first.
        consumer: Who holds it, or held it last.
        claimed: When it was last claimed.
        finished: When it reached a final state.
        result: JSON of the return value.
        failure: The latest failure.
        reason: Why it is where it is.
        revoke: 0, or `REVOKE_SOFT`, or `REVOKE_TERMINATE`.
        progress: The latest report, kept apart from the state.
        tag: The broker's own number for it; grows with time.
    """

    id: str
    body: bytes
    task: str = ""
    queue: str = "default"
    priority: int = 0
    sent: float = 0.0
    state: State = State.QUEUED
    due: float = 0.0
    attempt: int = 0
    retries: int = 0
    losses: int = 0
    suspected: int = 0
    runs: int = 0
    token: int = 0
    consumer: str = ""
    claimed: float | None = None
    finished: float | None = None
    result: bytes | None = None
    failure: Failure | None = None
    reason: str = ""
    revoke: int = 0
    progress: Progress | None = None
    tag: int = 0

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def is_waiting(self) -> bool:
        return self.state in WAITING


def celery_state(record: Record) -> str:
    """The state by Celery's names: PENDING, STARTED (or the task's own), RETRY, SUCCESS,
    FAILURE, REVOKED."""
    if record.state in WAITING:
        again = record.retries or record.losses or record.suspected
        return states.RETRY if again else states.PENDING
    if record.state is State.RUNNING:
        own = record.progress.state if record.progress else None
        return own or states.STARTED
    return record.state.value


def send(message: Message, *, body: bytes, now: float, tag: int = 0) -> Record:
    """The record of a message just sent; *body* is its JSON form."""
    state, due = State.QUEUED, now
    if message.eta is not None and message.eta > now:
        state, due = State.SCHEDULED, message.eta
    return Record(
        id=message.id, body=body, task=message.task, queue=message.queue,
        priority=message.priority, sent=message.sent, state=state, due=due, tag=tag,
    )  # fmt: skip


def due(record: Record) -> Record:
    """Its time has come."""
    return msgspec.structs.replace(record, state=step(record.state, Event.DUE))


def claim(record: Record, *, token: int, consumer: str, now: float) -> Record:
    """A consumer takes it: the attempt is counted, the token is fresh."""
    return msgspec.structs.replace(
        record, state=step(record.state, Event.CLAIM), attempt=record.attempt + 1,
        token=token, consumer=consumer, claimed=now, reason="",
    )  # fmt: skip


def seize(record: Record, *, token: int, consumer: str) -> Record:
    """Another consumer takes the delivery over from a dead one. The attempt stays the same."""
    return msgspec.structs.replace(
        record, state=step(record.state, Event.SEIZE), token=token, consumer=consumer
    )


def owns(record: Record, settlement: Settlement) -> bool:
    """Whether the settlement's lease is the task's latest."""
    return record.token == settlement.token


def settle(record: Record, settlement: Settlement) -> Record:
    """What *settlement* makes of *record*; the caller has checked `owns`.

    Settling again with the same token changes nothing: the reply to the first may have been lost.
    """
    if record.state is not State.RUNNING:
        return record
    settlement, message = with_message(settlement)
    event, reason = settlement.event, settlement.reason
    if record.revoke and event in COMES_BACK:
        event, reason = Event.REVOKE, "revoked"
    state = step(record.state, event)
    final = state in FINAL
    return msgspec.structs.replace(
        record,
        state=state,
        due=settlement.not_before if settlement.not_before is not None else record.due,
        attempt=record.attempt if settlement.counts else record.attempt - 1,
        retries=record.retries + (event is Event.RETRY),
        # Alone this time, so it was to blame the times before as well.
        losses=record.losses + (1 + record.suspected if settlement.loss else 0),
        suspected=0 if settlement.loss else record.suspected + settlement.suspect,
        runs=record.runs + (settlement.started is not None),
        finished=settlement.at if final else None,
        result=settlement.result,
        failure=None if event is Event.SUCCEED else settlement.failure or record.failure,
        reason=reason,
        body=record.body if settlement.body is None else settlement.body,
        queue=record.queue if message is None else message.queue,
        priority=record.priority if message is None else message.priority,
    )


def with_message(settlement: Settlement) -> tuple[Settlement, Message | None]:
    """*settlement*, and the message to run again with, if it has one.

    One that no worker could read is the end of its task. An error instead would come back with
    each try to settle it, and hold up the settlements beside it.
    """
    if settlement.body is None:
        return settlement, None
    try:
        return settlement, decode(settlement.body)
    except MessageUnreadable as error:
        failure = Failure("MessageUnreadable", f"the message to run again with: {error}")
        end = msgspec.structs.replace(
            settlement, event=Event.FAIL, not_before=None, reason=str(failure), failure=failure,
            body=None,
        )  # fmt: skip
        return end, None


def history(record: Record, settlement: Settlement) -> Attempt | None:
    """The entry that *settlement* adds to the attempts of *record* (as it was before), if any."""
    settlement, _ = with_message(settlement)
    if settlement.started is None or record.state is not State.RUNNING:
        return None
    return Attempt(
        number=record.attempt,
        event=settlement.event,
        started=settlement.started,
        ended=settlement.at,
        consumer=settlement.consumer or record.consumer,
        reason=settlement.reason,
        failure=settlement.failure,
        next_at=settlement.not_before,
        counted=settlement.counts,
        loss=settlement.loss,
        log=settlement.log,
    )


def revoke(record: Record, *, terminate: bool, now: float) -> Record:
    """Revoked for good. A waiting task ends at once; a running one is marked, and ends as REVOKED
    when it is terminated or would come back. A finished one stays as it is."""
    if record.state in WAITING:
        return msgspec.structs.replace(
            record, state=step(record.state, Event.REVOKE), finished=now, reason="revoked",
            revoke=max(record.revoke, REVOKE_SOFT),
        )  # fmt: skip
    if record.state is State.RUNNING:
        wish = REVOKE_TERMINATE if terminate else REVOKE_SOFT
        return msgspec.structs.replace(record, revoke=max(record.revoke, wish))
    return record


def requeue(record: Record, *, now: float) -> Record:
    """An operator runs it again: same id, same history, fresh retries and losses."""
    return msgspec.structs.replace(
        record, state=step(record.state, Event.REQUEUE), due=now, retries=0, losses=0,
        suspected=0, finished=None, result=None, failure=None, reason="requeued", revoke=0,
        progress=None,
    )  # fmt: skip


def as_delivery(record: Record, *, seized_from: Record | None = None) -> Delivery:
    """The claim that *record* stands for; *seized_from* is the record before a `seize`."""
    return Delivery(
        id=record.id,
        body=record.body,
        token=record.token,
        attempt=record.attempt,
        retries=record.retries,
        losses=record.losses,
        suspected=record.suspected,
        runs=record.runs,
        queue=record.queue,
        sent=record.sent,
        tag=record.tag,
        consumer=(seized_from or record).consumer,
        seized_token=seized_from.token if seized_from else 0,
        claimed=record.claimed or 0.0,
    )


# -- what brokers store as JSON --------------------------------------------------------------------

_failure_decoder = msgspec.json.Decoder(Failure)
_progress_decoder = msgspec.json.Decoder(Progress)


def read_failure(text: bytes | None) -> Failure | None:
    """The failure in *text*, JSON; whatever stands there must not hide the rest of a record."""
    if text is None:
        return None
    try:
        return _failure_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Failure("(cannot be read)", text.decode(errors="replace"))


def read_progress(text: bytes | None) -> Progress | None:
    """The progress in *text*, as `read_failure`."""
    if text is None:
        return None
    try:
        return _progress_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Progress(message="(its progress cannot be read)")


def seen_of(record: Record | None) -> tuple[State, Progress | None] | None:
    """What of a record `Records.wait_for_change` looks at."""
    return None if record is None else (record.state, record.progress)
