"""What ``@app.task(...)`` takes, checked where it is written, and the policy that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

import msgspec

from acked.config import Settings, check_limits, check_queue, did_you_mean
from acked.errors import ConfigurationError, NotSendable, TimeLimitExceeded
from acked.message import MAX_NAME_LENGTH, PRIORITIES, Message
from acked.outcome import MAX_LOSSES, TaskPolicy
from acked.rate import Rate
from acked.retry import DEFAULT_JITTER, RetryPolicy, backoff_factor, check_seconds, jitter_share

MAX_DELAY = 100 * 365 * 24 * 3600.0
"""Longest `countdown` and `expires` in seconds: a hundred years."""

ExceptionTypes = tuple[type[BaseException], ...]


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``@app.task(...)`` was given. Names, and defaults but for three, are Celery's.

    Args:
        acks_late: The task is acknowledged once its work is done (Celery: False). False runs it
            at most once; should its worker die, it ends as FAILURE.
        reject_on_worker_lost: A task whose worker died runs again (Celery: False).
        max_losses: The loss that ends it as FAILURE instead (not in Celery).
        autoretry_for: Exceptions that are retried.
        dont_autoretry_for: Exceptions that are not, whatever `autoretry_for` says.
        throws: Expected exceptions: logged at INFO without a traceback.
        max_retries: Retries after the first attempt; None for ever.
        default_retry_delay: Seconds before a retry that has no back-off and no countdown.
        retry_countdown: ``retry_kwargs["countdown"]``: like `default_retry_delay`, for retries by
            `autoretry_for` alone.
        retry_backoff: False, or True, or the first wait in seconds; it doubles each time.
        retry_backoff_max: Longest back-off in seconds.
        retry_jitter: True takes off up to all of a back-off by chance (Celery's default), False
            nothing, a number up to that share. The default is half.
        retry_for: Seconds after it was sent during which it may be retried (not in Celery).
        retry_for_result: A function of the return value; where it says True the task is retried
            (not in Celery).
        soft_time_limit, time_limit: Seconds. None takes the setting; 0 is no limit.
        ignore_result: The return value is not kept.
        queue: Where it waits; None takes ``task_default_queue``.
        priority: Larger runs sooner.
        expires: Seconds after which an unstarted call is dropped; None never.
        rate_limit: How often it may start, all workers together (Celery: each): ``"10/s"``,
            ``"100/m"``, ``"5/h"``, or a number a second; None and 0 are no limit.
        track_started: Taken and without effect: a start is always recorded.
    """

    acks_late: bool = True
    reject_on_worker_lost: bool = True
    max_losses: int = MAX_LOSSES
    autoretry_for: ExceptionTypes = ()
    dont_autoretry_for: ExceptionTypes = ()
    throws: ExceptionTypes = ()
    max_retries: int | None = 3
    default_retry_delay: float = 180.0
    retry_countdown: float | None = None
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600.0
    retry_jitter: bool | float = DEFAULT_JITTER
    retry_for: float | None = None
    retry_for_result: Callable[[Any], bool] | None = None
    soft_time_limit: float | None = None
    time_limit: float | None = None
    ignore_result: bool = False
    queue: str | None = None
    priority: int = 0
    expires: float | None = None
    rate_limit: str | float | None = None
    track_started: bool = True


class GivenOptions(TypedDict, total=False):
    """`TaskOptions` as keywords, for type checkers."""

    acks_late: bool
    reject_on_worker_lost: bool
    max_losses: int
    autoretry_for: ExceptionTypes | list[type[BaseException]] | type[BaseException]
    dont_autoretry_for: ExceptionTypes | list[type[BaseException]] | type[BaseException]
    throws: ExceptionTypes | list[type[BaseException]] | type[BaseException]
    max_retries: int | None
    default_retry_delay: float
    retry_backoff: bool | float
    retry_backoff_max: float
    retry_jitter: bool | float
    retry_kwargs: Mapping[str, Any]
    retry_for: float | timedelta | None
    retry_for_result: Callable[[Any], bool] | None
    soft_time_limit: float | None
    time_limit: float | None
    ignore_result: bool
    queue: str | None
    priority: int
    expires: float | timedelta | None
    rate_limit: str | float | None
    track_started: bool


OPTION_NAMES = frozenset(TaskOptions.__struct_fields__) - {"retry_countdown"} | {"retry_kwargs"}
"""What ``@app.task`` and the class attributes of a task's base may be called."""

MEANINGLESS_OPTIONS = {
    "acks_on_failure": "the retry policy decides what follows a failure",
    "acks_on_failure_or_timeout": "the retry policy decides what follows a failure",
    "acks_on_timeout": "the retry policy decides what follows a failure",
    "backend": "results are kept with the task",
    "compression": "messages are not compressed",
    "exchange": "brokers here have queues alone: use queue=",
    "pydantic": "annotations say what arguments become",
    "resultrepr_maxsize": "the command `acked show` cuts what it shows",
    "routing_key": "brokers here have queues alone: use queue=",
    "send_events": "the records tell, without events",
    "serializer": "messages are JSON",
    "shared": "a task belongs to one application",
    "store_errors_even_if_ignored": "a failure is always recorded",
    "store_eager_result": "an eager result is held by what `delay` returns",
    "trail": "children carry the parent_id",
    "typing": "a call is always checked against the function's parameters",
}
"""Celery's options that mean nothing here, and why."""


def task_options(
    name: str,
    given: Mapping[str, Any],
    settings: Settings,
    *,
    inherited: Sequence[Mapping[str, Any]] = (),
) -> TaskOptions:
    """The options of task *name*, checked.

    Args:
        name: For the error.
        given: What its decorator says.
        settings: What holds where neither that nor its base says anything.
        inherited: The attributes of each class that its base is made of, the most derived last.

    Raises:
        ConfigurationError: An option is not known, has a value that cannot work, or contradicts
            another.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise ConfigurationError(
            f"a task's name has at most {MAX_NAME_LENGTH} characters, got {name!r:.100}."
        )
    where = f"task {name}: "
    for option in (option for level in (*inherited, given) for option in level):
        if option in MEANINGLESS_OPTIONS:
            raise ConfigurationError(
                f"{where}the option {option!r} has no meaning here "
                f"({MEANINGLESS_OPTIONS[option]}). Leave it out."
            )
        if option not in OPTION_NAMES:
            near = did_you_mean(option, OPTION_NAMES | {"name", "bind", "base"})
            raise ConfigurationError(f"{where}unknown option {option!r}. {near}")
    options: dict[str, Any] = {
        "acks_late": settings.task_acks_late,
        "reject_on_worker_lost": settings.task_reject_on_worker_lost,
        "ignore_result": settings.task_ignore_result,
        "soft_time_limit": settings.task_soft_time_limit,
        "time_limit": settings.task_time_limit,
    }
    try:
        said = {
            option: value
            for level in (*inherited, given)
            for option, value in _unfolded(level).items()
        }
        # As in Celery, None leaves what has a setting to the setting.
        options.update(
            (option, value)
            for option, value in said.items()
            if value is not None or option not in options
        )
        for option in ("autoretry_for", "dont_autoretry_for", "throws"):
            if option in options:
                options[option] = _exception_types(option, options[option])
        for option in ("soft_time_limit", "time_limit"):
            # Zero, as Celery's users write it, switches a limit off.
            options[option] = _seconds_or_none(option, options[option]) or None
        for option in ("retry_for", "expires"):
            if option in options:
                options[option] = _seconds_or_none(option, options[option])
        for option in ("default_retry_delay", "retry_backoff_max"):
            if option in options:
                options[option] = check_seconds(option, options[option])
        made = TaskOptions(**options)
        _check(made)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}{error}") from None
    return made


def _unfolded(given: Mapping[str, Any]) -> dict[str, Any]:
    """*given* with ``retry_kwargs``, what Celery's auto-retry hands to `retry`, as options of their
    own."""
    options = dict(given)
    kwargs = dict(options.pop("retry_kwargs", None) or {})
    if "max_retries" in kwargs:
        wanted = kwargs.pop("max_retries")
        if options.get("max_retries", wanted) != wanted:
            raise ConfigurationError(
                f"max_retries={options['max_retries']!r} and retry_kwargs with "
                f"max_retries={wanted!r} contradict each other. Keep one."
            )
        options["max_retries"] = wanted
    if "countdown" in kwargs:
        options["retry_countdown"] = check_seconds(
            "retry_kwargs countdown", kwargs.pop("countdown")
        )
    if kwargs:
        raise ConfigurationError(
            f"retry_kwargs takes max_retries and countdown, got {', '.join(sorted(kwargs))}."
        )
    return options


def _exception_types(option: str, value: object) -> ExceptionTypes:
    types = (value,) if isinstance(value, type) else value
    if not isinstance(types, tuple | list) or not all(
        isinstance(kind, type) and issubclass(kind, BaseException) for kind in types
    ):
        raise ConfigurationError(f"{option} must be exception classes, got {value!r}.")
    return tuple(types)


def _seconds_or_none(option: str, value: object) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return None if value is None else check_seconds(option, value, limit=MAX_DELAY)


def _check(options: TaskOptions) -> None:
    for name in ("acks_late", "reject_on_worker_lost", "ignore_result"):
        if not isinstance(value := getattr(options, name), bool):
            raise ConfigurationError(f"{name} must be True or False, got {value!r}.")
    for name, least in (("max_retries", 0), ("max_losses", 1)):
        number = getattr(options, name)
        if number is None and name == "max_retries":
            continue
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ConfigurationError(f"{name} must be a number from {least} on, got {number!r}.")
    factor = backoff_factor(options.retry_backoff)
    jitter_share(options.retry_jitter)
    if factor is not None and factor > options.retry_backoff_max:
        raise ConfigurationError(
            f"retry_backoff={factor:g} is longer than retry_backoff_max="
            f"{options.retry_backoff_max:g}. Raise retry_backoff_max."
        )
    if options.retry_for_result is not None and not callable(options.retry_for_result):
        raise ConfigurationError("retry_for_result must be a function of the return value.")
    check_limits(options.soft_time_limit, options.time_limit, ConfigurationError)
    check_priority(options.priority, ConfigurationError)
    Rate.parse(options.rate_limit)
    if options.queue is not None:
        check_queue(options.queue, ConfigurationError)


def check_priority(value: object, refuse: type[ConfigurationError | NotSendable]) -> int:
    """*value* as a priority."""
    if not isinstance(value, int) or isinstance(value, bool) or value not in PRIORITIES:
        raise refuse(
            f"priority must be a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}, "
            f"got {value!r}. Larger runs sooner, on every broker."
        )
    return value


def policy_of(options: TaskOptions) -> TaskPolicy:
    """What *options* say about the endings of an attempt."""
    return TaskPolicy(
        retry=RetryPolicy(
            max_retries=options.max_retries,
            delay=(
                options.default_retry_delay
                if options.retry_countdown is None
                else options.retry_countdown
            ),
            backoff=backoff_factor(options.retry_backoff),
            backoff_max=options.retry_backoff_max,
            jitter=jitter_share(options.retry_jitter),
            retry_for=options.retry_for,
        ),
        acks_late=options.acks_late,
        reject_on_worker_lost=options.reject_on_worker_lost,
        max_losses=options.max_losses,
        retries_time_limit=(
            issubclass(TimeLimitExceeded, options.autoretry_for)
            and not issubclass(TimeLimitExceeded, options.dont_autoretry_for)
        ),
        soft_time_limit=options.soft_time_limit,
        time_limit=options.time_limit,
        ignore_result=options.ignore_result,
    )


def with_overrides(policy: TaskPolicy, message: Message) -> TaskPolicy:
    """*policy* with what the message says otherwise."""
    unset = msgspec.UNSET
    changes: dict[str, Any] = {}
    if message.max_retries is not unset:
        changes["retry"] = msgspec.structs.replace(policy.retry, max_retries=message.max_retries)
    if message.soft_time_limit is not unset:
        changes["soft_time_limit"] = message.soft_time_limit or None
    if message.time_limit is not unset:
        changes["time_limit"] = message.time_limit or None
    if message.ignore_result is not unset:
        changes["ignore_result"] = message.ignore_result
    return msgspec.structs.replace(policy, **changes) if changes else policy
