"""What both halves of the broker stand on: the server, the time, and who waits for work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from acked.brokers.redis.address import Address
from acked.brokers.redis.client import Client
from acked.brokers.redis.rows import pack, unpack
from acked.brokers.redis.scripts import Script
from acked.clock import Clock, ServerClock


class Store:
    """Scripts, run with the time they are to count with.

    Args:
        address: Where the server is.
        clock: The time that scripts are told; None lets them read the server's.
        timeout: Seconds for one operation.
    """

    def __init__(self, address: Address, clock: Clock | None, timeout: float) -> None:
        self._address = address
        self._client = Client(address, timeout)
        self._given = clock
        self._server_clock = ServerClock()
        self._clock: Clock = clock if clock is not None else self._server_clock

    def _run(
        self,
        script: Script,
        *args: Any,
        stored: Sequence[bytes] = (),
        confirmed: bool = False,
        until: float = math.inf,
    ) -> tuple[list[Any], list[Any]]:
        """What *script* packed for its answer, and what follows that.

        Raises:
            BrokerError: As `Client.run`.
        """
        given = self._given
        now, steady = (None, None) if given is None else (given.now(), given.steady())
        asked = self._server_clock.here()
        reply = self._client.run(
            script, pack((now, steady, *args)), stored, confirmed=confirmed, until=until
        )
        first, *rest = reply if isinstance(reply, list) else (reply,)
        about: list[Any] = unpack(first)
        if given is None:
            self._server_clock.sync(about[0], asked)
        return about, rest
