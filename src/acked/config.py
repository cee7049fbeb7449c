"""Settings of an application. Where Celery has the setting, its name and meaning are Celery's.

Order of the broker's address: ``Acked(broker=...)``, then the environment's ``ACKED_BROKER_URL``,
then a SQLite file in the project's directory.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import msgspec

from acked.broker import DEFAULT_HEARTBEAT, DEFAULT_LEASE
from acked.errors import ConfigurationError
from acked.message import DEFAULT_QUEUE
from acked.retry import check_seconds

BROKER_URL_VARIABLE = "ACKED_BROKER_URL"
MEBIBYTE = 1024 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a whole application. Times are seconds, sizes bytes.

    Args:
        broker_url: Where tasks are kept.
        task_default_queue: The queue of tasks that name none.
        task_always_eager: `delay` runs the task at once, in the calling process. For tests.
        task_eager_propagates: An eager task's exception is raised to the caller.
        task_acks_late, task_reject_on_worker_lost, task_ignore_result, task_soft_time_limit,
            task_time_limit: For tasks that do not say otherwise; read when a task is defined.
        lease: Time after which a worker that sends no heartbeat counts as dead.
        heartbeat: Time between two heartbeats.
        result_expires: How long finished tasks are kept; None for ever.
        failure_expires: How long failed tasks are kept; None for ever.
        send_timeout: Longest time a send may wait for the broker before it raises.
        max_message_size: Largest arguments of one call, as JSON.
        max_result_size: Largest return value, as JSON.
    """

    broker_url: str = ""
    task_default_queue: str = DEFAULT_QUEUE
    task_always_eager: bool = False
    task_eager_propagates: bool = False
    task_acks_late: bool = True
    task_reject_on_worker_lost: bool = True
    task_ignore_result: bool = False
    task_soft_time_limit: float | None = None
    task_time_limit: float | None = None
    lease: float = DEFAULT_LEASE
    heartbeat: float = DEFAULT_HEARTBEAT
    result_expires: float | None = 86_400.0
    failure_expires: float | None = None
    send_timeout: float = 5.0
    max_message_size: int = MEBIBYTE
    max_result_size: int = MEBIBYTE


def make_settings(given: dict[str, Any], *, base: Settings | None = None) -> Settings:
    """*base* (or the defaults) with the settings *given*.

    Raises:
        ConfigurationError: A name is not known, a value has the wrong type, or two contradict.
    """
    known = Settings.__struct_fields__
    for name in given:
        if name not in known:
            raise ConfigurationError(f"unknown setting {name!r}. {did_you_mean(name, known)}")
    plain = msgspec.structs.asdict(base or Settings())
    try:
        settings = msgspec.convert({**plain, **given}, Settings)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"a setting has the wrong type: {error}") from None
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    for name in ("lease", "heartbeat", "send_timeout"):
        if check_seconds(name, getattr(settings, name)) == 0:
            raise ConfigurationError(f"{name} must be more than 0 seconds.")
    if settings.heartbeat * 2 > settings.lease:
        raise ConfigurationError(
            f"heartbeat={settings.heartbeat:g} must be at most half of lease={settings.lease:g}: "
            "one late heartbeat must not cost a worker its tasks."
        )
    for name in ("result_expires", "failure_expires"):
        if (seconds := getattr(settings, name)) is not None:
            check_seconds(name, seconds, limit=float("inf"))
    for name in ("max_message_size", "max_result_size"):
        if getattr(settings, name) < 1:
            raise ConfigurationError(f"{name} must be at least 1 byte.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known name, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
