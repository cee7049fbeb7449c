"""The brokers, and `open_broker`, which tells them apart by their URL."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from acked.broker import Engine
from acked.brokers.memory import MemoryBroker
from acked.brokers.sqlite import DEFAULT_TIMEOUT, SQLiteBroker
from acked.clock import Clock
from acked.errors import ConfigurationError

FORMS = "sqlite:////absolute/path.db, sqlite:///relative/path.db, memory://"

NOT_YET = {
    "redis": "Redis",
    "rediss": "Redis",
    "sentinel": "Redis",
    "postgres": "PostgreSQL",
    "postgresql": "PostgreSQL",
    "amqp": "RabbitMQ",
    "amqps": "RabbitMQ",
    "pyamqp": "RabbitMQ",
}
"""What URLs of Celery's brokers begin with, and the broker."""


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
    # The scheme alone: the URL of a server carries a password.
    if (server := NOT_YET.get(parts.scheme.partition("+")[0])) is not None:
        raise ConfigurationError(
            f"broker URL {parts.scheme}://...: {server} is not available in this version. "
            f"Leave broker= out for a SQLite file in the project, or name one of {FORMS}."
        )
    named = f"{parts.scheme}://..." if parts.netloc else repr(url)
    raise ConfigurationError(f"broker URL {named} has an unknown form. Known are {FORMS}.")
