"""Who is logged in. Kept on the server alone, so that a logout ends a session for good.

The cookie holds 256 random bits; what is kept is their hash, so that a memory dump lets nobody in.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable

import msgspec

IDLE = 30 * 60.0
"""Seconds without a request of its own after which a session ends; refreshing is none."""

LIFETIME = 12 * 3600.0
"""Seconds after which it ends in any case."""

MOST = 1_000
"""Sessions at once; the one that was used least recently makes room."""


class Session(msgspec.Struct):
    """One login. Times are seconds of the monotonic clock."""

    user: str
    began: float
    used: float


class Sessions:
    """The sessions of one process. Safe from any thread.

    Args:
        clock: Seconds that never jump.
    """

    def __init__(
        self, *, idle: float = IDLE, lifetime: float = LIFETIME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._idle = idle
        self._lifetime = lifetime
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, user: str) -> str:
        """The secret of a new session of *user*, for his cookie."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            for key, each in list(self._sessions.items()):
                if self._is_over(each, now):
                    del self._sessions[key]
            if len(self._sessions) >= MOST:
                del self._sessions[min(self._sessions, key=lambda k: self._sessions[k].used)]
            self._sessions[_key(secret)] = Session(user, now, now)
        return secret

    def user(self, secret: str | None, *, used: bool = True) -> str | None:
        """Whose session it is; None where it has ended, or there never was one.

        Args:
            used: Its user did something: the time until it is idle begins anew.
        """
        if not secret:
            return None
        key, now = _key(secret), self._clock()
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return None
            if self._is_over(session, now):
                del self._sessions[key]
                return None
            if used:
                session.used = now
            return session.user

    def end(self, secret: str | None) -> None:
        """Log out."""
        with self._lock:
            self._sessions.pop(_key(secret or ""), None)

    def _is_over(self, session: Session, now: float) -> bool:
        return now - session.used >= self._idle or now - session.began >= self._lifetime


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
