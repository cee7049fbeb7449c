"""What the supervisor and its fork server say to each other: JSON with a length before it."""

from __future__ import annotations

import os
import socket

import msgspec

from acked.delivery import Delivery
from acked.outcome import TaskPolicy

LENGTH = 4


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The application is imported; what the supervisor needs to know of it, as data."""

    app: str
    broker_url: str
    results: str | None
    lease: float
    heartbeat: float
    watchdog: float
    send_timeout: float
    result_expires: float | None
    failure_expires: float | None
    queues: tuple[str, ...]
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


class NotForked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A process could not be started; `text` says why."""

    index: int
    text: str


class Share(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The presence file; the descriptor that holds its lock comes with the message."""

    path: str


class Aftermath(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that the supervisor settled, since its process was dead; the hooks of its task
    run in the process that replaces it.

    Args:
        held: What that process held, without its body, which the record has.
        event: How it was settled.
        error_type, error_text: The failure, if there was one.
    """

    held: Delivery
    event: str
    error_type: str
    error_text: str


class Fork(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Start process *index*."""

    index: int
    consumer: str
    aftermath: list[Aftermath] = []


FromTemplate = Hello | Failed | Ended | Forked | NotForked
ToTemplate = Share | Fork

_encoder = msgspec.json.Encoder()
_from_template = msgspec.json.Decoder(FromTemplate)
_to_template = msgspec.json.Decoder(ToTemplate)


class Channel:
    """One end of the connection."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def say(self, message: FromTemplate | ToTemplate, *descriptors: int) -> None:
        """Send *message*, and *descriptors* with it.

        Raises:
            OSError: The other side is gone.
        """
        data = _encoder.encode(message)
        head = len(data).to_bytes(LENGTH, "big")
        if descriptors:
            socket.send_fds(self._socket, [head], list(descriptors))
            head = b""
        self._socket.sendall(head + data)

    def hear_template(self) -> FromTemplate | None:
        """The next message of the fork server; None when it is gone."""
        data, _ = self._hear()
        return None if data is None else _from_template.decode(data)

    def hear_supervisor(self) -> tuple[ToTemplate | None, list[int]]:
        """The next message of the supervisor and its descriptors; None when it is gone."""
        data, descriptors = self._hear()
        return (None if data is None else _to_template.decode(data)), descriptors

    def _hear(self) -> tuple[bytes | None, list[int]]:
        try:
            head, descriptors, _, _ = socket.recv_fds(self._socket, LENGTH, 4)
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            if head:
                head += self._exactly(LENGTH - len(head))
                return self._exactly(int.from_bytes(head, "big")), descriptors
        except (OSError, EOFError):
            pass
        return None, []

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = self._socket.recv(min(size, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
