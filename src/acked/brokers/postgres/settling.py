"""Settlements as the database's functions take them.

By far the most are plain successes, for which a function of its own needs five columns. Every
other goes to `settle`, with all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from acked.brokers.postgres.connection import Call, Rows, Statement
from acked.brokers.postgres.values import (
    blobs,
    bools,
    float8s,
    int2s,
    int8s,
    text,
    words,
)
from acked.delivery import COMES_BACK, SETTLES, TRANSITIONS, Event, Failure, Settlement, State
from acked.record import with_message

SUCCEED = Statement("SELECT {schema}.succeed($1, $2, $3, $4, $5)", "q")

SETTLE = Statement(
    "SELECT refused, woken FROM {schema}.settle("
    "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    "QT",
)

_AFTER = {event: TRANSITIONS[State.RUNNING][event].value for event in SETTLES}

_encoder = msgspec.json.Encoder()


class Settling(NamedTuple):
    """The calls that settle a batch."""

    calls: list[Call]

    def refused(self, answers: Sequence[Rows]) -> list[int]:
        """The tokens that were refused, of what the calls gave."""
        tokens: list[int] = []
        for call, rows in zip(self.calls, answers, strict=False):
            if call.statement is SUCCEED:
                tokens += [token for (token,) in rows]
            else:
                tokens += rows[0][0] or []
        return tokens

    def woken(self, answers: Sequence[Rows]) -> list[str]:
        """The queues in which tasks wait again."""
        for call, rows in zip(self.calls, answers, strict=False):
            if call.statement is SETTLE:
                return rows[0][1] or []
        return []


def settling(settlements: Sequence[Settlement]) -> Settling:
    """The calls for *settlements*. Of several with one token, the first counts; the others would
    find it applied."""
    # In the order of the rows, so that two that settle the same ones do not wait for each other.
    batch = sorted(
        {each.token: each for each in reversed(settlements)}.values(), key=lambda each: each.tag
    )
    plain = [each for each in batch if _is_plain(each)]
    others = batch if not plain else [each for each in batch if not _is_plain(each)]
    calls = []
    if plain:
        calls.append(Call(SUCCEED, _successes(plain)))
    if others:
        calls.append(Call(SETTLE, _settlements(others)))
    return Settling(calls)


def _is_plain(settlement: Settlement) -> bool:
    return (
        settlement.event is Event.SUCCEED
        and settlement.started is not None
        and not settlement.reason
        and not settlement.consumer
        and not settlement.log
        and settlement.failure is None
        and settlement.body is None
        and settlement.not_before is None
        and settlement.counts
        and not settlement.loss
        and not settlement.suspect
    )


def _successes(batch: Sequence[Settlement]) -> list[bytes]:
    return [
        int8s([each.tag for each in batch]),
        int8s([each.token for each in batch]),
        float8s([each.at for each in batch]),
        float8s([each.started for each in batch]),
        blobs([each.result for each in batch]),
    ]


def _settlements(batch: Sequence[Settlement]) -> list[bytes]:
    pairs = [with_message(each) for each in batch]
    batch, messages = [each for each, _ in pairs], [message for _, message in pairs]
    return [
        int8s([each.tag for each in batch]),
        int8s([each.token for each in batch]),
        words([_AFTER[each.event] for each in batch]),
        words([each.event.value for each in batch]),
        bools([each.event in COMES_BACK for each in batch]),
        float8s([each.at for each in batch]),
        float8s([each.started for each in batch]),
        blobs([each.result for each in batch]),
        float8s([each.not_before for each in batch]),
        blobs([text(each.reason) for each in batch]),
        bools([each.counts for each in batch]),
        bools([each.loss for each in batch]),
        bools([each.suspect for each in batch]),
        blobs([None if each.failure is None else _failure(each.failure) for each in batch]),
        blobs([each.body for each in batch]),
        blobs([None if each is None else text(each.queue) for each in messages]),
        int2s([None if each is None else each.priority for each in messages]),
        blobs([text(each.consumer) if each.consumer else None for each in batch]),
        blobs([text(each.log) for each in batch]),
    ]


def _failure(failure: Failure) -> bytes:
    try:
        return _encoder.encode(failure)
    except UnicodeEncodeError:
        # An exception's text may hold half a character. The task must settle all the same.
        parts = (failure.type, failure.message, failure.traceback)
        return _encoder.encode(Failure(*(text(part).decode() for part in parts)))
