"""When a failed attempt is followed by another: pure arithmetic, no clock and no dice of its own.

Names and defaults are Celery's (`celery/app/task.py`, `celery/app/autoretry.py`):
``max_retries = 3``, ``default_retry_delay = 180``, back-off ``factor * 2**retries`` capped at
``retry_backoff_max = 600``. They differ in one place: jitter takes off at most half of the wait
unless ``retry_jitter=True`` asks for Celery's full jitter, since a full-jitter wait is often
close to zero and then hits a dependency that has had no time to recover.
"""

from __future__ import annotations

import email.utils
import math
import sys
from collections.abc import Mapping
from datetime import UTC

import msgspec

from acked.errors import ConfigurationError

DEFAULT_JITTER = 0.5
MAX_WAIT = 365 * 24 * 3600.0
"""Longest wait in seconds that one retry may ask for: a year."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and how far apart, a failing task runs again.

    Args:
        max_retries: Retries after the first attempt; 0 never, ``None`` for ever.
        delay: Wait in seconds when no back-off is set (Celery's `default_retry_delay`).
        backoff: Wait in seconds after the first failure; it doubles after each further one.
            ``None`` waits `delay` every time.
        backoff_max: Longest back-off in seconds.
        jitter: Share of a back-off that chance may take off, 0.0 to 1.0.
        retry_for: Seconds after the task was sent during which it may be retried;
            ``None`` sets no such limit.
    """

    max_retries: int | None = 3
    delay: float = 180.0
    backoff: float | None = None
    backoff_max: float = 600.0
    jitter: float = DEFAULT_JITTER
    retry_for: float | None = None

    def exhausted(self, retries: int, *, age: float = 0.0) -> bool:
        """Whether a task that has been retried *retries* times, and was sent *age* seconds ago,
        has no retry left."""
        if self.max_retries is not None and retries >= self.max_retries:
            return True
        return self.retry_for is not None and age >= self.retry_for

    def wait_after(self, retries: int, *, roll: float) -> float:
        """Seconds to wait after an attempt that failed with *retries* retries behind it.

        Args:
            retries: 0 after the first attempt.
            roll: A random number in [0, 1); 0 gives the longest wait.
        """
        if self.backoff is None:
            return self.delay
        # Floats, and at most 64 doublings: 2.0**1024 overflows.
        grown = self.backoff * 2.0 ** min(retries, 64)
        return min(self.backoff_max, grown) * (1.0 - self.jitter * roll)


def backoff_factor(value: bool | float) -> float | None:
    """`retry_backoff` as Celery takes it: False none, True 1 second, a number that many seconds."""
    if value is True:
        return 1.0
    if value is False:
        return None
    return check_seconds("retry_backoff", value)


def jitter_share(value: object) -> float:
    """`retry_jitter`: True is Celery's full jitter, False none, a number that share of the wait."""
    if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise ConfigurationError(
            f"retry_jitter must be True, False or a share from 0.0 to 1.0, got {value!r}."
        )
    return float(value)


def check_seconds(name: str, value: object, *, limit: float = MAX_WAIT) -> float:
    """*value* as seconds, or `ConfigurationError` naming it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name} must be a number of seconds, got {value!r}.")
    # A comparison refuses NaN too, and takes 10**400, which `math.isfinite` does not.
    if not 0 <= value <= min(limit, sys.float_info.max):
        raise ConfigurationError(f"{name} must be from 0 to {limit:g} seconds, got {value!r}.")
    return float(value)


def retry_after(exc: BaseException, now: float) -> float | None:
    """The wait in seconds that the other side asked for, or None.

    Reads ``exc.retry_after`` (seconds), or the ``Retry-After`` header (RFC 9110, section 10.2.3:
    seconds or an HTTP date) of ``exc.response.headers``, as `requests` and `httpx` errors
    carry it. Nonsense is taken for no request.
    """
    asked = getattr(exc, "retry_after", None)
    if asked is None:
        headers = getattr(getattr(exc, "response", None), "headers", None)
        if not isinstance(headers, Mapping):
            return None
        asked = headers.get("Retry-After") or headers.get("retry-after")
    return _seconds_from(asked, now)


def _seconds_from(asked: object, now: float) -> float | None:
    if isinstance(asked, str):
        try:
            asked = float(asked)
        except ValueError:
            try:
                when = email.utils.parsedate_to_datetime(str(asked))
                # HTTP dates are UTC; the oldest of their three forms does not say so.
                when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
                asked = when.timestamp() - now
            except (ValueError, TypeError, OverflowError, OSError):
                return None
    if isinstance(asked, bool) or not isinstance(asked, int | float):
        return None
    if isinstance(asked, float) and not math.isfinite(asked):
        return None
    return float(min(max(0.0, asked), MAX_WAIT))
