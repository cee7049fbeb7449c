"""Who is there, and what he may do.

There are three ways to know, of which a dashboard has one:

- `Login`: by a session that began with a password.
- `Asked`: the application it is mounted in says so.
- `ThisHost`: everybody on this host, as for a file that all its users may read.

None of them lets anybody in when it does not know.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from acked.dashboard.permissions import Action
from acked.dashboard.sessions import Sessions
from acked.dashboard.users import Users
from acked.hosts import is_loopback
from acked.pages.protection import address_of, host_in

logger = logging.getLogger("acked.dashboard")

Permission = Callable[[Request, Action], Awaitable[str | None]]
"""The name of the user who sent the request, where he may do that; None where he may not."""

QUIET = "x-acked-refresh"
"""Header of a request that a page made by itself: it does not prolong a session."""

SESSION = "acked-session"
SEED = "acked-form"
"""Names of cookies; behind TLS they begin with ``__Host-``."""


class Visitor(msgspec.Struct, frozen=True):
    """Somebody who may see the dashboard.

    Args:
        name: Who it is, for the audit.
        actions: What he may do.
    """

    name: str
    actions: frozenset[Action]


class Access(Protocol):
    """Knows who sent a request."""

    async def visitor(self, request: Request) -> Visitor | None:
        """Who it is; None for nobody who may see anything."""
        ...

    def secret(self, request: Request) -> str | None:
        """What only the visitor's browser knows, to make tokens for forms of; None for nothing
        but the cookie `SEED`."""
        ...


class Login:
    """Those who logged in.

    Args:
        users: Who may.
        sessions: Who did.
    """

    def __init__(self, users: Users, sessions: Sessions) -> None:
        self.users = users
        self.sessions = sessions

    async def visitor(self, request: Request) -> Visitor | None:
        name = self.sessions.user(self.secret(request), used=QUIET not in request.headers)
        user = self.users.find(name) if name is not None else None
        return Visitor(user.name, user.actions) if user is not None else None

    def secret(self, request: Request) -> str | None:
        return cookie(request, SESSION)


class Asked:
    """Those whom the application knows.

    Args:
        permission: Asked for each action, each time.
    """

    def __init__(self, permission: Permission) -> None:
        self._permission = permission

    async def visitor(self, request: Request) -> Visitor | None:
        name = await self._name(request, Action.VIEW)
        if name is None:
            return None
        actions = {Action.VIEW}
        for action in Action:
            if action is not Action.VIEW and await self._name(request, action) is not None:
                actions.add(action)
        return Visitor(name, frozenset(actions))

    async def _name(self, request: Request, action: Action) -> str | None:
        try:
            name: object = await self._permission(request, action)
        except Exception:
            # Who cannot be asked does not permit.
            logger.exception("the permission to %s could not be asked for", action)
            return None
        return name if isinstance(name, str) and name else None

    def secret(self, request: Request) -> str | None:
        return None


class ThisHost:
    """Everybody on this host, and nobody else: not a page of another site that had its name
    resolved to this address, and not who comes through a proxy."""

    async def visitor(self, request: Request) -> Visitor | None:
        return Visitor("anyone on this host", frozenset(Action)) if is_local(request) else None

    def secret(self, request: Request) -> str | None:
        return None


FORWARDED = (
    "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip",
)  # fmt: skip
"""What proxies add: with one of them, the address it came from is not that of the visitor."""


def is_local(request: Request) -> bool:
    """Whether *request* came from this host, was meant for it, and came without a proxy."""
    if any(name in request.headers for name in FORWARDED):
        return False
    host = request.headers.get("host", "")
    # A proxy may add nothing, as nginx does by default; but browsers know where they are, and none
    # speaks the HTTP of nginx before 1.29.7.
    if request.scope.get("http_version") == "1.0" or not _knows_as(request, host):
        return False
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name) and is_loopback(address_of(request))


def _knows_as(request: Request, host: str) -> bool:
    """Whether the browser, where it tells, knows this site as *host*."""
    told = [request.headers.get("origin")]
    if request.headers.get("sec-fetch-site") == "same-origin":
        told.append(request.headers.get("referer"))
    return all(each is None or host_in(each) == host for each in told)


# -- cookies and forms -----------------------------------------------------------------------------


def is_secure(request: Request) -> bool:
    """Whether it came over TLS, as far as the server knows."""
    return request.url.scheme == "https"


def _named(request: Request, name: str) -> str:
    return f"__Host-{name}" if is_secure(request) else name


def cookie(request: Request, name: str) -> str | None:
    """The value of one of our cookies."""
    return request.cookies.get(_named(request, name))


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """Let the browser keep *value* until it is closed; an empty one is forgotten."""
    response.set_cookie(
        _named(request, name), value, path="/", secure=is_secure(request), httponly=True,
        samesite="strict", max_age=None if value else 0,
    )  # fmt: skip


def new_seed() -> str:
    """A value for the cookie `SEED`."""
    return secrets.token_urlsafe(32)


def form_token(seed: str) -> str:
    """What a form of the holder of *seed* carries. It does not tell the seed, which may be that
    of a session."""
    return hmac.new(
        seed.encode(errors="replace"), b"acked dashboard form", hashlib.sha256
    ).hexdigest()


def is_form_token(token: str, seed: str | None) -> bool:
    """Whether the form came from a page that was made for the holder of *seed*."""
    if not seed:
        return False
    return hmac.compare_digest(token.encode(errors="replace"), form_token(seed).encode())
