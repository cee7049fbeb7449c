"""The brokers, and `open_broker`, which tells them apart by their URL."""

from __future__ import annotations

import os
from urllib.parse import SplitResult, unquote, urlsplit

from acked.broker import Engine, Ledger
from acked.brokers.memory import MemoryBroker
from acked.brokers.sqlite import SQLiteBroker
from acked.clock import Clock
from acked.errors import ConfigurationError

DEFAULT_TIMEOUT = 5.0
RESULTS_URL_VARIABLE = "ACKED_RESULTS_URL"

FORMS = (
    "sqlite:////absolute/path.db, sqlite:///relative/path.db, redis://host:6379/0, "
    "postgresql://user@host/database, amqp://user:password@host/vhost with results=, memory://"
)

REDIS = frozenset({
    "sentinel",
    *(f"{name}{way}" for name in ("redis", "rediss", "valkey", "valkeys")
      for way in ("", "+cluster", "+sentinel")),
})  # fmt: skip
POSTGRES = frozenset({"postgresql", "postgres"})
RABBITMQ = frozenset({"amqp", "amqps", "pyamqp"})


def open_broker(
    url: str,
    *,
    results: str | None = None,
    clock: Clock | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> Engine:
    """The broker that *url* names. It connects when it is first used.

    Args:
        url: One of the forms in `FORMS`; a relative path is taken from the current directory.
        results: Where the records are kept of a broker that carries messages alone (RabbitMQ);
            left out, the environment's ``ACKED_RESULTS_URL`` says.
        clock: Where it reads the time; by default the server's, or the host's where there is none.
        timeout: Seconds to wait for an engine before `BrokerUnavailable`.

    Raises:
        ConfigurationError: No broker has such a URL, its driver is not installed, or it cannot
            work here.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        # Its text may hold the password.
        raise ConfigurationError(
            "the broker URL cannot be read. In a user name or password write letters and digits as "
            "they are, and all else as %5B for [, %5D for ] and so on."
        ) from None
    scheme = parts.scheme
    if results is not None and scheme not in RABBITMQ:
        raise ConfigurationError(
            f"results= names a place for the records of RabbitMQ; {scheme}: keeps its own. "
            "Leave it out."
        )
    if scheme == "memory":
        return MemoryBroker(clock)
    if scheme == "sqlite":
        return _open_sqlite(url, parts, clock, timeout)
    if scheme in REDIS:
        return _open_redis(url, clock, timeout)
    if scheme in POSTGRES:
        return _open_postgres(url, clock, timeout)
    if scheme in RABBITMQ:
        return _open_rabbitmq(url, results, clock, timeout)
    # The scheme alone: the URL of a server carries a password.
    named = f"{scheme}://..." if parts.netloc else repr(url)
    raise ConfigurationError(f"broker URL {named} has an unknown form. Known are {FORMS}.")


def _open_sqlite(url: str, parts: SplitResult, clock: Clock | None, timeout: float) -> SQLiteBroker:
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or not path or parts.query or parts.fragment:
        raise ConfigurationError(
            f"broker URL {url!r} names no file. After sqlite: come three slashes and a path, "
            f"four for an absolute one ({FORMS})."
        )
    if path == ":memory:":
        raise ConfigurationError(f"broker URL {url!r}: for tasks in memory say memory://")
    return SQLiteBroker(path, clock=clock, timeout=timeout)


# The drivers of servers are extras, so they are imported where they are needed.


def _open_redis(url: str, clock: Clock | None, timeout: float) -> Engine:
    try:
        from acked.brokers.redis import RedisBroker  # noqa: PLC0415 - an optional driver
    except ModuleNotFoundError as error:
        raise _driver_missing(error, "Redis", "redis") from None
    return RedisBroker(url, clock=clock, timeout=timeout)


def _open_postgres(url: str, clock: Clock | None, timeout: float) -> Engine:
    try:
        from acked.brokers.postgres import PostgresBroker  # noqa: PLC0415 - an optional driver
    except ModuleNotFoundError as error:
        raise _driver_missing(error, "PostgreSQL", "postgres") from None
    return PostgresBroker(url, clock=clock, timeout=timeout)


def _open_rabbitmq(url: str, results: str | None, clock: Clock | None, timeout: float) -> Engine:
    try:
        from acked.brokers.rabbitmq import RabbitMQBroker  # noqa: PLC0415 - an optional driver
    except ModuleNotFoundError as error:
        raise _driver_missing(error, "RabbitMQ", "rabbitmq") from None
    said = "results" if results else RESULTS_URL_VARIABLE
    results = results or os.environ.get(RESULTS_URL_VARIABLE)
    if not results:
        raise ConfigurationError(
            "RabbitMQ carries messages and keeps no results, progress, history or revocations. Say "
            'where those are kept: Acked(..., broker="amqp://...", results="redis://..."), or '
            f"postgresql:// or sqlite:////; or in the environment's {RESULTS_URL_VARIABLE}."
        )
    scheme = results.partition(":")[0].lower()
    if scheme in RABBITMQ:
        # It would look for the place of its own records, and find itself.
        raise ConfigurationError(
            f"{said}={scheme}://...: RabbitMQ cannot keep the records. Name redis://, "
            "postgresql:// or sqlite:////."
        )
    store = open_broker(results, clock=clock, timeout=timeout)
    if not isinstance(store, Ledger):
        raise ConfigurationError(f"results={store.url} cannot keep the records of RabbitMQ.")
    return RabbitMQBroker(url, store, timeout=timeout)


def _driver_missing(error: ModuleNotFoundError, server: str, extra: str) -> ConfigurationError:
    return ConfigurationError(
        f"{server} needs a driver that is not installed ({error.name}): "
        f"pip install 'acked[{extra}]'"
    )
