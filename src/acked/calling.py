"""The options of one call, ``apply_async(countdown=...)``, as fields of its message."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from acked.config import check_limits, check_queue
from acked.errors import ConfigurationError, NotSendable
from acked.exact import dump_exact
from acked.message import MAX_ID_LENGTH
from acked.options import MAX_DELAY, check_priority
from acked.outcome import TaskPolicy
from acked.retry import check_seconds

HEADERS_LIMIT = 64 * 1024
"""Largest `headers` in bytes of JSON."""

CALL_OPTIONS = frozenset(
    {
        "countdown", "eta", "expires", "headers", "ignore_result", "max_retries", "priority",
        "queue", "soft_time_limit", "task_id", "time_limit",
    }
)  # fmt: skip
"""What `Task.apply_async` takes beside the arguments."""

MEANINGLESS = {
    "add_to_parent": "children carry the parent_id",
    "compression": "messages are not compressed",
    "connection": "the application's broker is used; to send inside a transaction of yours, using="
    " takes its connection",
    "exchange": "brokers here have queues alone: use queue=",
    "link": "workflows are not available yet",
    "link_error": "workflows are not available yet",
    "producer": "the application's broker is used",
    "publisher": "the application's broker is used",
    "reply_to": "results are kept with the task",
    "retry": "a send either is stored or raises, within the setting send_timeout",
    "retry_policy": "a send either is stored or raises, within the setting send_timeout",
    "routing_key": "brokers here have queues alone: use queue=",
    "serializer": "messages are JSON",
    "shadow": "a task has one name",
    "using": "a transaction is for apply_async(), delay_many() and app.send_many() alone",
}
"""Celery's options that mean nothing here, and why."""


def call_options(
    task: str, given: Mapping[str, Any], policy: TaskPolicy, *, now: float
) -> dict[str, Any]:
    """The fields of the message that *given* asks for.

    Args:
        task: Its name, for the error.
        given: What the caller wrote; an option that is None is as if it were not there.
        policy: The task's, to check the limits that result.
        now: Wall-clock time in seconds, from which `countdown` and `expires` count.

    Raises:
        NotSendable: An option is not known, or its value cannot work.
    """
    try:
        fields = {
            name: value
            for option, asked in given.items()
            if asked is not None
            for name, value in _fields_of(option, asked, now).items()
        }
        if given.get("eta") is not None:
            fields["eta"] = moment("eta", given["eta"])  # wins over countdown, as in retry()
        check_limits(
            fields.get("soft_time_limit", policy.soft_time_limit),
            fields.get("time_limit", policy.time_limit),
            NotSendable,
        )
    except (NotSendable, ConfigurationError) as error:
        raise NotSendable(f"cannot send {task}: {error}") from None
    return fields


def _fields_of(option: str, value: Any, now: float) -> dict[str, Any]:
    match option:
        case "countdown":
            seconds = delay_seconds(option, value)
            return {"eta": now + seconds} if seconds else {}
        case "eta":
            return {"eta": moment(option, value)}
        case "expires" if isinstance(value, datetime):
            return {"expires": moment(option, value)}
        case "expires":
            return {"expires": now + delay_seconds(option, value)}
        case "soft_time_limit" | "time_limit":
            return {option: check_seconds(option, value)}
        case "queue":
            return {"queue": check_queue(value, NotSendable)}
        case "priority":
            return {"priority": check_priority(value, NotSendable)}
        case "task_id":
            return {"id": check_task_id(value)}
        case "ignore_result":
            if not isinstance(value, bool):
                raise NotSendable(f"ignore_result must be True or False, got {value!r}.")
            return {"ignore_result": value}
        case "max_retries":
            return {"max_retries": check_max_retries(value)}
        case "headers":
            return {"headers": _headers(value)}
        case _:
            raise _unknown(option)


def _unknown(option: str) -> NotSendable:
    if option in MEANINGLESS:
        return NotSendable(
            f"the option {option!r} has no meaning here ({MEANINGLESS[option]}). Leave it out."
        )
    near = difflib.get_close_matches(option, CALL_OPTIONS, n=1)
    return NotSendable(
        f"unknown option {option!r}. {f'Did you mean {near[0]!r}? ' if near else ''}"
        f"Known: {', '.join(sorted(CALL_OPTIONS))}. What the task itself takes goes into args= "
        "and kwargs=."
    )


def check_max_retries(value: object) -> int:
    """*value* as the number of retries of one call."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise NotSendable(f"max_retries must be a number from 0 on, got {value!r}.")
    return value


def delay_seconds(option: str, value: Any) -> float:
    """*value*, a number of seconds or a timedelta, as seconds; 0 for what is over already, as
    somebody's time left may be. Celery takes it for that too."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, int | float) and value < 0:
        return 0.0
    return check_seconds(option, value, limit=MAX_DELAY)


def moment(option: str, value: Any) -> float:
    """*value*, a datetime with a time zone, as wall-clock seconds."""
    if not isinstance(value, datetime):
        raise NotSendable(
            f"{option} must be a datetime with a time zone, got {value!r}. "
            "For seconds from now use countdown=."
        )
    if value.utcoffset() is None:
        raise NotSendable(
            f"{option}={value!r} has no time zone, so it names no moment. "
            "Write datetime.now(UTC) + timedelta(...), or value.astimezone() for local time."
        )
    return value.timestamp()


def _headers(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotSendable(f"headers must be a dict, got {value!r:.300}.")
    dump_exact("headers", value, limit=HEADERS_LIMIT)
    return value


def check_task_id(value: object) -> str:
    """*value* as a task's id."""
    if isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH:
        try:
            value.encode()
        except UnicodeEncodeError:
            pass
        else:
            return value
    raise NotSendable(
        f"task_id must be a str of 1 to {MAX_ID_LENGTH} characters, got {value!r:.300}."
    )
