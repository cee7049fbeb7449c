"""What goes to the scripts and comes back: messages, settlements, deliveries and records as flat
rows of plain values. Lua ends a table at nil, so what is absent is False on the way there."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from acked.delivery import Delivery, Event, Failure, Settlement, State
from acked.message import Message, encode
from acked.record import Attempt, Record, read_failure, read_progress, with_message

logger = logging.getLogger("acked.broker")

pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder().decode

SEIZED_ROW = 13
TAG_AT = 9
ENTRY_FIELDS = 11
SHORT = 256
"""Bytes of a result that is kept in the record itself."""

FIRST_STORED = 2
"""Place in ARGV of the first thing that is stored as it is."""


def storable(text: str) -> str:
    """*text* as it is stored: half a character cannot be, and becomes a question mark."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def storable_ids(task_ids: Iterable[str]) -> list[str]:
    """*task_ids*, each once."""
    return list(dict.fromkeys(storable(each) for each in task_ids))


def message_rows(messages: Sequence[Message]) -> tuple[list[Any], list[bytes]]:
    """Rows for ``send.lua``, and the bodies."""
    rows: list[Any] = []
    bodies: list[bytes] = []
    for each in messages:
        bodies.append(encode(each))
        eta = each.eta
        rows += (
            each.id, each.task, each.queue, each.priority, False if eta is None else eta, each.sent,
        )  # fmt: skip
    return rows, bodies


def settlement_rows(settlements: Sequence[Settlement]) -> tuple[list[Any], list[bytes]]:
    """Rows for ``settle.lua``, and what is stored as it is: results, failures, bodies."""
    rows: list[Any] = []
    stored: list[bytes] = []

    def place(content: bytes) -> int:
        stored.append(content)
        return len(stored) - 1 + FIRST_STORED

    for each, message in map(with_message, settlements):
        result: int | str | bool = False
        failure: int | bool = False
        body: int | bool = False
        queue, priority = "", 0
        if each.result is not None:
            result = _short(each.result) or place(each.result)
        if each.failure is not None:
            failure = place(_failure(each.failure))
        if each.body is not None and message is not None:
            body, queue, priority = place(each.body), message.queue, message.priority
        started, later = each.started, each.not_before
        rows += (
            each.tag, each.id, each.token, each.event.value, each.at,
            False if started is None else started, False if later is None else later,
            storable(each.reason), each.counts, each.loss, each.suspect, each.consumer or False,
            result, failure, body, queue, priority,
            place(each.log.encode(errors="replace")) if each.log else False,
        )  # fmt: skip
    return rows, stored


def _failure(failure: Failure) -> bytes:
    try:
        return msgspec.json.encode(failure)
    except UnicodeEncodeError:
        # An exception's text may hold half a character. The task must settle all the same.
        parts = (failure.type, failure.message, failure.traceback)
        return msgspec.json.encode(Failure(*map(storable, parts)))


def claimed(
    count: int, held: bytes, bodies: Sequence[bytes], tags: Sequence[bytes]
) -> list[Delivery]:
    """The deliveries of a claim."""
    if not count:
        return []
    return [
        Delivery(
            id=task_id, body=body, token=token, attempt=attempt, retries=retries, losses=losses,
            suspected=suspected, runs=runs, queue=queue, sent=float(sent), tag=int(tag),
            consumer=consumer, claimed=float(since),
        )
        for (
            _form, task_id, _task, queue, _priority, sent, _state, _due, attempt, retries, losses,
            suspected, runs, token, consumer, since, _finished, _reason, _revoke, _entries,
            _started, _result, _failed,
        ), body, tag in zip(_series(held, count), bodies, tags, strict=True)
    ]  # fmt: skip


def seized_tags(rows: Sequence[Any]) -> list[int]:
    """The tags of a seizure."""
    return [int(tag) for tag in rows[TAG_AT::SEIZED_ROW]]


def seized(rows: Sequence[Any], bodies: Sequence[bytes]) -> list[Delivery]:
    """The deliveries of a seizure."""
    columns = [iter(rows)] * SEIZED_ROW
    return [
        Delivery(
            id=task_id, body=body, token=token, attempt=attempt, retries=retries, losses=losses,
            suspected=suspected, runs=runs, queue=queue, sent=float(sent), tag=tag,
            consumer=consumer, seized_token=before, claimed=float(since or 0.0),
        )
        for (
            task_id, token, attempt, retries, losses, suspected, runs, queue, sent, tag, consumer,
            before, since,
        ), body in zip(zip(*columns, strict=True), bodies, strict=True)
    ]  # fmt: skip


def records(
    tags: Sequence[bytes], states: Sequence[bytes | None], bodies: Sequence[bytes | None],
    results: Sequence[bytes | None], failures: Sequence[bytes | None],
    progresses: Sequence[bytes | None],
) -> list[Record]:  # fmt: skip
    """Whole records, as ``read.lua`` gives them; without those that are unreadable, so that one of
    them does not hide the others."""
    found: list[Record] = []
    for tag, state, body, result, failure, progress in zip(
        tags, states, bodies, results, failures, progresses, strict=True
    ):
        if state is None:
            continue
        try:
            found.append(_record(int(tag), unpack(state), body or b"", result, failure, progress))
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            logger.warning("the record of the task with tag %d is unreadable: %s", int(tag), error)
    return found


def _record(
    tag: int, fields: list[Any], body: bytes, result: bytes | None, failure: bytes | None,
    progress: bytes | None,
) -> Record:  # fmt: skip
    (
        _form, task_id, task, queue, priority, sent, state, due, attempt, retries, losses,
        suspected, runs, token, consumer, since, finished, reason, revoke, _entries, _started,
        short, _failed,
    ) = fields  # fmt: skip
    if isinstance(short, str):
        result = short.encode()
    return Record(
        id=task_id, body=body, task=task, queue=queue, priority=priority, sent=float(sent),
        state=State(state), due=float(due), attempt=attempt, retries=retries, losses=losses,
        suspected=suspected, runs=runs, token=token, consumer=consumer,
        claimed=_time(since), finished=_time(finished), result=result,
        failure=read_failure(failure), reason=reason, revoke=revoke,
        progress=read_progress(progress), tag=tag,
    )  # fmt: skip


def history(blob: bytes, entries: Sequence[bytes | None]) -> list[Attempt]:
    """The attempts, as ``history.lua`` gives them."""
    attempts = [_attempt(_series(each, ENTRY_FIELDS)) for each in entries if each is not None]
    fields = unpack(blob)
    attempt, consumer, finished, reason, started = (fields[i] for i in (8, 14, 16, 17, 20))
    if started is not False:
        attempts.append(
            Attempt(
                number=attempt, event=Event.SUCCEED, started=float(started),
                ended=float(finished), consumer=consumer, reason=reason,
            )
        )  # fmt: skip
    return attempts


def _attempt(fields: list[Any]) -> Attempt:
    number, event, started, ended, consumer, reason, failure, next_at, counted, loss, log = fields
    return Attempt(
        number=number, event=Event(event), started=float(started), ended=float(ended),
        consumer=consumer, reason=reason,
        failure=read_failure(failure.encode() if failure else None), next_at=_time(next_at),
        counted=counted, loss=loss, log=log,
    )  # fmt: skip


def _series(packed: bytes, count: int) -> list[Any]:
    """*count* values that were packed one after the other."""
    # Before them comes the header of an array of 32 bits' length.
    fields: list[Any] = unpack(b"\xdd" + count.to_bytes(4, "big") + packed)
    return fields


def _short(result: bytes) -> str | None:
    """*result* as text, if it is short and text at all."""
    if len(result) > SHORT:
        return None
    try:
        return result.decode()
    except UnicodeDecodeError:
        return None


def _time(value: float | bool | None) -> float | None:
    return None if value is None or value is False else float(value)
