"""What the supervisor and its fork server say to each other: JSON over a seqpacket socket."""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from acked.outcome import TaskPolicy

LARGEST = 1 << 20


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The application is imported; what the supervisor needs to know of it, as data."""

    app: str
    broker_url: str
    lease: float
    heartbeat: float
    result_expires: float | None
    failure_expires: float | None
    queues: tuple[str, ...]
    coroutines: bool
    policies: dict[str, TaskPolicy]


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The application cannot be imported."""

    text: str


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A process is gone. `status` is its exit code, negative for a signal."""

    index: int
    pid: int
    status: int


class Forked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A process was started."""

    index: int
    pid: int


class Share(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The presence file; its descriptor comes with the message."""

    path: str


class Aftermath(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that the supervisor settled, since its process was dead; the hooks of its task
    run in the process that replaces it."""

    body: bytes
    id: str
    attempt: int
    retries: int
    losses: int
    event: str
    error_type: str
    error_text: str


class Fork(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Start process *index*."""

    index: int
    consumer: str
    aftermath: list[Aftermath] = []


FromTemplate = Hello | Failed | Ended | Forked
ToTemplate = Share | Fork

_encoder = msgspec.json.Encoder()
_from_template = msgspec.json.Decoder(FromTemplate)
_to_template = msgspec.json.Decoder(ToTemplate)


def say(channel: socket.socket, message: Any, *descriptors: int) -> None:
    """Send *message*, and *descriptors* with it."""
    data = _encoder.encode(message)
    if descriptors:
        socket.send_fds(channel, [data], list(descriptors))
    else:
        channel.send(data)


def hear_template(channel: socket.socket) -> FromTemplate | None:
    """The next message of the fork server; None when it is gone."""
    data = channel.recv(LARGEST)
    return _from_template.decode(data) if data else None


def hear_supervisor(channel: socket.socket) -> tuple[ToTemplate | None, list[int]]:
    """The next message of the supervisor with its descriptors; None when it is gone."""
    data, descriptors, _, _ = socket.recv_fds(channel, LARGEST, 4)
    return (_to_template.decode(data) if data else None), descriptors
