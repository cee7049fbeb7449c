"""Settings of an application. Where Celery has the setting, its name and meaning are Celery's.

Order of the broker's address: ``Acked(broker=...)``, then the environment's ``ACKED_BROKER_URL``,
then a SQLite file in the project's directory.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Never

import msgspec

from acked.broker import DEFAULT_HEARTBEAT, DEFAULT_LEASE
from acked.errors import ConfigurationError, NotSendable
from acked.instead import MEANINGLESS_SETTINGS, why_no_setting
from acked.message import DEFAULT_QUEUE, MAX_QUEUE_LENGTH
from acked.retry import check_seconds

BROKER_URL_VARIABLE = "ACKED_BROKER_URL"
MEBIBYTE = 1024 * 1024

SET_ONCE = frozenset({"broker_url", "results"})
"""Settings that are given when the application is made, and not later."""


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
            raise AttributeError(_no_setting(name), name=name, obj=self)

        def __getitem__(self, name: str) -> Any:
            # Celery's way to read one.
            if name not in self.__struct_fields__:
                raise KeyError(_no_setting(name))
            return getattr(self, name)

        def __contains__(self, name: object) -> bool:
            return name in self.__struct_fields__

        def __iter__(self) -> Iterator[str]:
            return iter(self.__struct_fields__)

        def __setitem__(self, name: str, value: object) -> Never:
            _refuse_change(self, name, value)


def _no_setting(name: str) -> str:
    why = why_no_setting(name)
    if why is not None:
        return f"settings have no {name!r}: {why}."
    return (
        f"settings have no {name!r}. Give settings to Acked(...), or later to app.configure(...)."
    )


def _refuse_change(settings: Settings, name: str, value: object) -> Never:
    """Say how a setting is changed; msgspec's own refusal does not."""
    del value  # it may be an address with a password
    if name not in settings.__struct_fields__:
        raise AttributeError(_no_setting(name), name=name, obj=settings)
    later = "" if name in SET_ONCE else f", or app.configure({name}=...) before the tasks are made"
    raise AttributeError(
        f"the setting {name!r} is not changed in place. Write Acked(..., {name}=...){later}.",
        name=name, obj=settings,
    )  # fmt: skip


# In the class msgspec puts its own in its place.
Settings.__setattr__ = _refuse_change  # type: ignore[assignment,method-assign]  # as it says


def make_settings(given: dict[str, Any], *, base: Settings | None = None) -> Settings:
    """*base* (or the defaults) with the settings *given*.

    Raises:
        ConfigurationError: A name is not known, a value has the wrong type, or two contradict.
    """
    known = Settings.__struct_fields__
    for name in given:
        if name not in known:
            raise ConfigurationError(_unknown(name))
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


def _unknown(name: str) -> str:
    known = Settings.__struct_fields__
    new = _in_lower_case(name)
    if (why := why_no_setting(new)) is not None:
        return f"the setting {name!r} has no meaning here ({why}). Leave it out."
    if new in known:
        return f"the setting {name!r} is written {new!r}."
    if new != name:
        return f"unknown setting {name!r}. Names are in lower case: {', '.join(sorted(known))}."
    return f"unknown setting {name!r}. {did_you_mean(name, known)}"


def _in_lower_case(name: str) -> str:
    """*name*, where it is one of Celery's old ones in capitals, as it is written now."""
    if not name.isupper():
        return name
    bare = re.sub("^CELERY(D|BEAT)?_", "", name).lower()
    likely = (bare, f"task_{bare}", f"worker_{bare}", f"beat_{bare}", bare.removeprefix("task_"))
    known = MEANINGLESS_SETTINGS.keys() | Settings.__struct_fields__
    return next((each for each in likely if each in known), bare)


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
