"""One connection to one server: a socket that speaks RESP, with a deadline for each exchange.

The driver is hiredis alone, not redis-py: what may be sent a second time is this broker's decision,
a deadline covers an exchange as a whole and not each part of an answer, and a thread that waits can
be woken by other things than the server.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import hiredis

from acked.brokers.redis.address import Address, Node
from acked.hosts import resolve

Command = tuple[str | bytes, ...]

# Its annotation says a tuple of one; it takes any. Not numbers: it turns them into text with a call
# in which a signal's handler may run, and when that one raises, it crashes.
_packed = cast("Callable[[Command], bytes]", hiredis.pack_command)

MISSING = object()
READ_SIZE = 1 << 16


class Connection:
    """A connection, ready for commands.

    Args:
        node: Whom to call.
        address: How: user, password, database, TLS.
        deadline: Monotonic time by which it must stand.

    Raises:
        OSError: It does not.
        hiredis.ReplyError: The server refused the user or the database.
    """

    def __init__(self, node: Node, address: Address, deadline: float) -> None:
        self.node = node
        self._reader = hiredis.Reader(notEnoughData=MISSING)
        self._socket = _dial(node, deadline)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        try:
            if address.tls:
                self._socket.settimeout(_left(deadline))
                self._socket = _tls().wrap_socket(self._socket, server_hostname=node.host)
        except BaseException:
            self.close()
            raise

    def log_in(self, address: Address, deadline: float) -> None:
        """Say who this is and which database it uses."""
        commands: list[Command] = []
        if address.password or address.user:
            user = (address.user,) if address.user else ()
            commands.append(("AUTH", *user, address.password))
        if address.database:
            commands.append(("SELECT", str(address.database)))
        commands.append(("CLIENT", "SETNAME", "acked"))
        for command, reply in zip(commands, self.exchange(commands, deadline), strict=True):
            if isinstance(reply, hiredis.ReplyError) and command[0] != "CLIENT":
                raise reply

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def call(self, *command: str | bytes, deadline: float) -> Any:
        """The answer to one command; an error is returned, not raised."""
        return self.exchange([command], deadline)[0]

    def exchange(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send *commands* in one go, and take their answers.

        Raises:
            OSError: The connection failed or the time is over; it can be used no more.
        """
        self.send(commands, deadline)
        return [self.receive(deadline) for _ in commands]

    def send(self, commands: Sequence[Command], deadline: float) -> None:
        """Send *commands*, whose answers are taken later."""
        self._socket.settimeout(_left(deadline))
        self._socket.sendall(b"".join([_packed(each) for each in commands]))

    def receive(self, deadline: float) -> Any:
        """The next answer."""
        reader = self._reader
        while (reply := self._next()) is MISSING:
            self._socket.settimeout(_left(deadline))
            data = self._socket.recv(READ_SIZE)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(data)
        return reply

    def quiet(self) -> bool:
        """Whether nothing has come that nobody asked for, such as its end."""
        return not self._poll.poll(0)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def __del__(self) -> None:
        # A broker may be dropped without `close`.
        with contextlib.suppress(AttributeError):
            self.close()

    def _next(self) -> Any:
        try:
            return self._reader.gets()
        except hiredis.ProtocolError as error:
            raise ConnectionError(
                f"what answers does not speak Redis's protocol ({error})"
            ) from None


def _dial(node: Node, deadline: float) -> socket.socket:
    failure: OSError = OSError(f"{node} has no address")
    found = resolve(node.host, node.port, deadline)
    for position, (family, kind, protocol, _, where) in enumerate(found):
        dialled = socket.socket(family, kind, protocol)
        try:
            dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            dialled.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # One that is silent must leave time to try the others.
            dialled.settimeout(_left(deadline) / (len(found) - position))
            dialled.connect(where)
        except OSError as error:
            dialled.close()
            failure = error
        else:
            return dialled
    raise failure


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left
