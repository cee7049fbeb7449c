# ruff: noqa: INP001 - Python finds it by its name, in a directory of its own
"""Loaded by every Python process of a worker under test: what the broker gives it, and what the
broker says to its settlements, is written to the history.

That is done around the broker's own methods, in the supervisor too, which runs no code of a test.
A settlement is written down before it is sent as well: of a process that is killed in between
nobody knows whether it arrived.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import acked.app
import acked.brokers
from acked.broker import Claim, Engine
from acked.delivery import Delivery, Settlement
from tests.harness.history import note

T = TypeVar("T")
AT_ONCE = 20
"""Tasks in a line, so that lines stay short."""

_open = acked.brokers.open_broker


def _parts(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    return (whole[at : at + AT_ONCE] for at in range(0, len(whole), AT_ONCE))


def _given(asked: float, deliveries: Sequence[Delivery]) -> None:
    for some in _parts(deliveries):
        note("given", asked=asked, tasks=[(each.id, each.token) for each in some])


def _settling(settlements: Sequence[Settlement]) -> None:
    for some in _parts(settlements):
        note("settling", tasks=[(each.id, each.token) for each in some])


def _settled(
    asked: float, settlements: Sequence[Settlement], refused: Sequence[Settlement]
) -> None:
    stale = {(each.id, each.token) for each in refused}
    for some in _parts(settlements):
        told = [(each.id, each.token, each.event.value) for each in some]
        note(
            "settled", asked=asked, nice=os.getpriority(os.PRIO_PROCESS, 0),
            accepted=[each for each in told if each[:2] not in stale],
            refused=[each for each in told if each[:2] in stale],
        )  # fmt: skip


def _noted(engine: Engine) -> Engine:
    claim, settle, seize, reap = engine.claim, engine.settle, engine.seize, engine.reap

    def noted_claim(*what: Any, settlements: Sequence[Settlement] = ()) -> Claim:
        _settling(settlements)
        asked = time.monotonic()
        answer = claim(*what, settlements=settlements)
        _settled(asked, settlements, answer.refused)
        _given(asked, answer.deliveries)
        return answer

    def noted_settle(settlements: Sequence[Settlement]) -> list[Settlement]:
        _settling(settlements)
        asked = time.monotonic()
        refused = settle(settlements)
        _settled(asked, settlements, refused)
        return refused

    def noted_seize(*what: Any, **more: Any) -> list[Delivery]:
        asked = time.monotonic()
        seized = seize(*what, **more)
        _given(asked, seized)
        return seized

    def noted_reap(**more: Any) -> list[Delivery]:
        asked = time.monotonic()
        seized = reap(**more)
        _given(asked, seized)
        return seized

    for name, method in (
        ("claim", noted_claim), ("settle", noted_settle), ("seize", noted_seize),
        ("reap", noted_reap),
    ):  # fmt: skip
        setattr(engine, name, method)
    return engine


def open_broker(*what: Any, **more: Any) -> Engine:
    return _noted(_open(*what, **more))


# Whoever imports it from now on, and who has already.
acked.brokers.open_broker = acked.app.open_broker = open_broker
