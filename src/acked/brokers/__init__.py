"""The brokers, and `open_broker`, which tells them apart by their URL."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from acked.broker import Engine
from acked.brokers.memory import MemoryBroker
from acked.brokers.sqlite import DEFAULT_TIMEOUT, SQLiteBroker
from acked.clock import Clock
from acked.errors import ConfigurationError

FORMS = "sqlite:////absolute/path.db, sqlite:///relative/path.db, memory://"


def open_broker(
    url: str, *, clock: Clock | None = None, timeout: float = DEFAULT_TIMEOUT
) -> Engine:
    """The broker that *url* names. It connects when it is first used.

    Args:
        url: One of the forms in `FORMS`; a relative path is taken from the current directory.
        clock: Where it reads the time; the host's clocks by default.
        timeout: Seconds to wait for an engine before `BrokerUnavailable`.

    Raises:
        ConfigurationError: No broker has such a URL, or it cannot work here.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryBroker(clock)
    if parts.scheme == "sqlite":
        path = unquote(parts.path.removeprefix("/"))
        if parts.netloc or not path or parts.query or parts.fragment:
            raise ConfigurationError(
                f"broker URL {url!r} names no file. After sqlite: come three slashes and a path, "
                f"four for an absolute one ({FORMS})."
            )
        if path == ":memory:":
            raise ConfigurationError(f"broker URL {url!r}: for tasks in memory say memory://")
        return SQLiteBroker(path, clock=clock, timeout=timeout)
    raise ConfigurationError(f"broker URL {url!r} has an unknown form. Known are {FORMS}.")
