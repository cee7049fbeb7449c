"""How many streams are open, and for whom."""

from __future__ import annotations

import contextlib
import ipaddress
from collections import Counter
from collections.abc import Generator, Iterable

from acked.pages.stream import Limits

_Key = tuple[str, object]


class OpenStreams:
    """Counts them.

    Args:
        limits: How many there may be.
    """

    def __init__(self, limits: Limits) -> None:
        self._total = 0
        self._limit = limits.streams
        self._limits = {
            "tasks": limits.streams_per_page,
            "address": limits.streams_per_address,
            "name": limits.streams_per_name,
        }
        self._open: Counter[_Key] = Counter()

    def admits(self, keys: Iterable[_Key]) -> bool:
        """Whether there may be one more, of what `keys_of` says of it."""
        return self._total < self._limit and all(
            self._open[key] < self._limits[key[0]] for key in keys
        )

    @contextlib.contextmanager
    def one_more(self, keys: Iterable[_Key]) -> Generator[None, None, None]:
        """It is open for as long as the context lasts."""
        keys = list(keys)
        self._total += 1
        self._open.update(keys)
        try:
            yield
        finally:
            self._total -= 1
            self._open.subtract(keys)
            for key in keys:
                if not self._open[key]:
                    del self._open[key]


def keys_of(*, task_ids: frozenset[str], names: Iterable[str], address: str | None) -> list[_Key]:
    """What a stream is counted by: its tasks, its visitor's names and its client's address."""
    keys: list[_Key] = [("tasks", task_ids), *(("name", name) for name in names)]
    if address is not None:
        keys.append(("address", network_of(address)))
    return keys


def network_of(address: str) -> str:
    """Where *address* is from. Whoever has an IPv6 address has all of its /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found.packed, 64), strict=False))
