"""A worker's way to its broker at the start: it may come up later than the worker.

After a power cut, and wherever services start together, the worker is often there first. So it
waits for a broker that is away as long as it would while it runs (`supervision.on_silence`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from acked.broker import Condition, Engine
from acked.brokers import open_broker
from acked.errors import BrokerUnavailable, ConfigurationError
from acked.supervision import on_silence
from acked.worker import logs, wire

logger = logging.getLogger("acked.worker")

PAUSE = 1.0
"""Seconds between two tries."""


class Opening:
    """The tries to open one broker.

    Args:
        hello: What the application says of it.
    """

    def __init__(self, hello: wire.Hello) -> None:
        self._hello = hello
        self._began = time.monotonic()
        self._next = 0.0

    def attempt(self) -> Engine | None:
        """The broker, ready to be used, once it has said what it promises; None while it is away,
        and between two tries.

        Raises:
            BrokerError: It refuses us, or has been away for too long.
            ConfigurationError: A worker cannot use it.
        """
        if time.monotonic() < self._next:
            return None
        hello = self._hello
        broker = open_broker(hello.broker_url, results=hello.results, timeout=hello.send_timeout)
        try:
            broker.setup()
            if not broker.capabilities.shared or broker.presence_dir is None:
                where = broker.records_url
                named = where if where == broker.url else f"results={where}"
                raise ConfigurationError(
                    f"a worker cannot use {named}: no other process sees its tasks. "
                    "Use a sqlite:// URL, or run tasks in place with task.apply()."
                )
            _tell(broker.conditions(), broker.url)
        except BaseException as error:
            broker.close()
            away = time.monotonic() - self._began
            if (
                not isinstance(error, BrokerUnavailable)
                or on_silence(away, hello.watchdog, rebuilt=0) == "give up"
            ):
                raise
            self._next = time.monotonic() + PAUSE
            logger.warning("not ready yet, trying again: %s", error)
            return None
        return broker


def _tell(conditions: Sequence[Condition], url: str) -> None:
    """Log *conditions*; in one line what the broker promises, at whatever level."""
    promises = [each.text for each in conditions if each.is_promise and each.level != "warn"]
    if promises:
        logs.say_always(f"broker {url}: {' '.join(promises)}")
    for each in conditions:
        level = logging.WARNING if each.level == "warn" else logging.INFO
        if each.text not in promises:
            logger.log(level, "%s: %s", each.subject, f"{each.text} {each.remedy}".strip())
