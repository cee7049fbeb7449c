"""Receivers of every signal, which write down in the history what they are told."""

from __future__ import annotations

from typing import Any

from acked import signals
from acked.request import Request
from acked.signals import Signal
from tests.harness.history import note


def listen() -> None:
    """Hear every signal, but for the one that takes the place of the worker's own logging."""
    for each in vars(signals).values():
        if isinstance(each, Signal) and each is not signals.setup_logging:
            each.connect(hear)


def hear(sender: object, signal: Signal, **named: Any) -> None:
    note(
        "heard",
        signal=signal.name,
        sender=str(getattr(sender, "name", sender)),
        told={name: shown(value) for name, value in named.items()},
    )


def shown(value: object) -> Any:
    """*value* as JSON that says what it was."""
    if isinstance(value, Request):
        return {
            "id": value.id, "task": value.task, "args": value.args, "retries": value.retries,
            "hostname": value.hostname,
        }  # fmt: skip
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return value
    return f"{type(value).__name__}: {value}"
