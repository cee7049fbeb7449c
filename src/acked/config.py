"""Settings of an application. Where Celery has the setting, its name and meaning are Celery's.

Order of the broker's address: ``Acked(broker=...)``, then the environment's ``ACKED_BROKER_URL``,
then a SQLite file in the project's directory.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Never

import msgspec

from acked.broker import DEFAULT_HEARTBEAT, DEFAULT_LEASE
from acked.errors import ConfigurationError, NotSendable
from acked.message import DEFAULT_QUEUE
from acked.retry import check_seconds

BROKER_URL_VARIABLE = "ACKED_BROKER_URL"
MEBIBYTE = 1024 * 1024


MAX_QUEUE_LENGTH = 100

_IN_THE_RECORD = "arguments and results are kept with the task"
_JSON = "messages are JSON"
_IMPORTS = "start the worker with the module that imports all your tasks: acked worker scans:app"
_UTC = "times are UTC, and an eta carries its own time zone"
_KEEPS_TRYING = "the worker keeps trying, for as long as the setting watchdog says"
_BY_OPTION = "an option of the command `acked worker` says it"

MEANINGLESS_SETTINGS = {
    "accept_content": _JSON,
    "backend": _IN_THE_RECORD,
    "beat_schedule": "periodic tasks are not available yet",
    "broker_connection_max_retries": _KEEPS_TRYING,
    "broker_connection_retry": _KEEPS_TRYING,
    "broker_connection_retry_on_startup": _KEEPS_TRYING,
    "broker_connection_timeout": "send_timeout says how long a call waits for the broker",
    "broker_transport_options": "workers have a lease: see the settings lease and heartbeat",
    "enable_utc": _UTC,
    "imports": _IMPORTS,
    "include": _IMPORTS,
    "result_backend": f"{_IN_THE_RECORD}; for RabbitMQ, results= says where",
    "result_extended": _IN_THE_RECORD,
    "result_serializer": _JSON,
    "task_acks_on_failure_or_timeout": "the retry policy decides what follows a failure",
    "task_default_rate_limit": "give each task its own: @app.task(rate_limit=...)",
    "task_routes": "give each task its queue: @app.task(queue=...)",
    "task_serializer": _JSON,
    "task_track_started": "a start is always recorded",
    "timezone": _UTC,
    "worker_concurrency": f"{_BY_OPTION}, --concurrency",
    "worker_disable_rate_limits": "leave rate_limit out of the tasks, or set it to 0",
    "worker_max_memory_per_child": f"{_BY_OPTION}, --max-memory-per-child",
    "worker_max_tasks_per_child": f"{_BY_OPTION}, --max-tasks-per-child",
    "worker_prefetch_multiplier": "a worker claims as many tasks as will start at once",
    "worker_soft_shutdown_timeout": f"{_BY_OPTION}, --grace",
}
"""Celery's settings that mean nothing here, and why."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a whole application. Times are seconds, or timedeltas, sizes bytes.

    Args:
        broker_url: Where tasks are kept.
        results: Where the records of a broker are kept that carries messages alone (RabbitMQ).
        task_default_queue: The queue of tasks that name none.
        task_always_eager: `delay` runs the task at once, in the calling process. For tests.
        task_eager_propagates: An eager task's exception is raised to the caller.
        task_acks_late, task_reject_on_worker_lost, task_ignore_result, task_soft_time_limit,
            task_time_limit: For tasks that do not say otherwise; read when a task is defined.
        lease: Time after which a worker that sends no heartbeat counts as dead.
        heartbeat: Time between two heartbeats.
        watchdog: Time without an answer of the broker after which a worker lets go of every
            connection and makes them anew; after five times that it stops with exit code 1. A
            process that alone has gone so long without one is replaced.
        result_expires: How long finished tasks are kept; None and 0 for ever.
        failure_expires: How long failed tasks are kept; None and 0 for ever.
        send_timeout: Longest time a send may wait for the broker before it raises.
        max_message_size: Largest arguments of one call, as JSON.
        max_result_size: Largest return value, as JSON.
    """

    broker_url: str = ""
    results: str | None = None
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
    watchdog: float = 60.0
    result_expires: float | None = 86_400.0
    failure_expires: float | None = None
    send_timeout: float = 5.0
    max_message_size: int = MEBIBYTE
    max_result_size: int = MEBIBYTE

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name: str) -> Never:
            remedy = "Give settings to Acked(...), or later to app.configure(...)."
            raise AttributeError(f"settings have no {name!r}. {remedy}", name=name, obj=self)


def make_settings(given: dict[str, Any], *, base: Settings | None = None) -> Settings:
    """*base* (or the defaults) with the settings *given*.

    Raises:
        ConfigurationError: A name is not known, a value has the wrong type, or two contradict.
    """
    known = Settings.__struct_fields__
    for name in given:
        if name in MEANINGLESS_SETTINGS:
            why = MEANINGLESS_SETTINGS[name]
            raise ConfigurationError(
                f"the setting {name!r} has no meaning here ({why}). Leave it out."
            )
        if name not in known:
            raise ConfigurationError(f"unknown setting {name!r}. {did_you_mean(name, known)}")
    plain = msgspec.structs.asdict(base or Settings())
    for name, value in given.items():
        plain[name] = value.total_seconds() if isinstance(value, timedelta) else value
    for name in ("result_expires", "failure_expires"):
        # Zero, as Celery's users write it, keeps them for ever.
        plain[name] = plain[name] or None
    try:
        settings = msgspec.convert(plain, Settings)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"a setting has the wrong type: {error}") from None
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    for name in ("lease", "heartbeat", "watchdog", "send_timeout"):
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
    for name in ("task_soft_time_limit", "task_time_limit"):
        if (seconds := getattr(settings, name)) is not None:
            check_seconds(name, seconds)
    check_limits(settings.task_soft_time_limit, settings.task_time_limit, ConfigurationError)
    check_queue(settings.task_default_queue, ConfigurationError, name="task_default_queue")
    for name in ("max_message_size", "max_result_size"):
        if getattr(settings, name) < 1:
            raise ConfigurationError(f"{name} must be at least 1 byte.")


def check_limits(
    soft: float | None, hard: float | None, refuse: type[ConfigurationError | NotSendable]
) -> None:
    """Refuse a soft limit that is not the shorter one; None and 0 are no limit."""
    if soft and hard and soft >= hard:
        raise refuse(
            f"soft_time_limit={soft:g} must be shorter than time_limit={hard:g}: the soft limit "
            "is the warning before the hard one."
        )


def check_queue(
    value: object, refuse: type[ConfigurationError | NotSendable], *, name: str = "queue"
) -> str:
    """*value* as the name of a queue; *name* is what the error calls it."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= MAX_QUEUE_LENGTH
        or not value.isprintable()
        or " " in value
        or "," in value
    ):
        raise refuse(
            f"{name} must be a name of 1 to {MAX_QUEUE_LENGTH} printable characters without "
            f"commas and blanks, got {value!r}. `acked worker -Q` separates queues by commas."
        )
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known name, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
