"""Names of hosts: which mean this one, and which addresses they have."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

Resolved = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""What `socket.getaddrinfo` says of one address."""

_asked: dict[tuple[str, int], Future[list[Resolved]]] = {}


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address, is this host to itself: what is said to it never leaves
    it."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def resolve(host: str, port: int, deadline: float) -> list[Resolved]:
    """The addresses of *host*.

    The system's own resolver may take half a minute where no name server answers, and cannot be
    told of a limit. So it is asked in a thread, one for all who ask for the same at a time.

    Args:
        host: A name or an address.
        port: Becomes a part of each address.
        deadline: Monotonic time by which they must be known.

    Raises:
        TimeoutError: They are not.
        OSError: There is no such host.
    """
    if _is_address(host):
        return _ask(host, port)
    answer = resolving(host, port)
    try:
        return answer.result(max(deadline - time.monotonic(), 0))
    except TimeoutError:
        if answer.done():
            raise  # the resolver's own
        raise TimeoutError(f"no name server said in time where {host} is") from None


def resolving(host: str, port: int) -> Future[list[Resolved]]:
    """What `resolve` waits for. It belongs to everybody who asks: not to be cancelled."""
    answer = _asked.get((host, port))
    if answer is None:
        answer = _asked[host, port] = Future()
        asking = threading.Thread(
            target=_answer, args=(answer, host, port), name="acked-resolving", daemon=True
        )
        asking.start()
    return answer


def _answer(answer: Future[list[Resolved]], host: str, port: int) -> None:
    try:
        found = _ask(host, port)
    except Exception as error:
        _asked.pop((host, port), None)
        answer.set_exception(error)
    else:
        _asked.pop((host, port), None)
        answer.set_result(found)


def _ask(host: str, port: int) -> list[Resolved]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# A forked child has none of the threads that would answer.
os.register_at_fork(after_in_child=_asked.clear)
