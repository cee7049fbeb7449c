"""`Dashboard`: the operator's pages as an ASGI application, alone or mounted in another one.

Every request passes `_admitted` before a page sees it: who is there, may he do that, and, for what
changes something, did a form of this dashboard send it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from acked.app import Acked
from acked.dashboard import calling, doing, looking
from acked.dashboard.access import (
    SEED,
    Access,
    Asked,
    Login,
    Permission,
    ThisHost,
    Visitor,
    cookie,
    form_token,
    is_form_token,
    new_seed,
    set_cookie,
)  # fmt: skip
from acked.dashboard.desk import Desk, Form, Visit
from acked.dashboard.entering import Entrance
from acked.dashboard.permissions import Action, Rights
from acked.dashboard.sessions import IDLE, LIFETIME, Sessions
from acked.dashboard.users import Users
from acked.errors import AckedError, ConfigurationError
from acked.pages.assets import asset
from acked.pages.protection import SafeHeaders, address_of, content_policy, is_same_origin
from acked.redaction import redact_text

logger = logging.getLogger("acked.dashboard")

BODY_LIMIT = 2_500_000
"""Bytes of a form that are read."""

FIELDS_LIMIT = 2_000

Handler = Callable[[Desk, Visit], Awaitable[Response]]

LOOKING: Mapping[str, Handler] = {
    "/": looking.overview,
    "/tasks": looking.tasks,
    "/task": looking.task,
    "/failures": looking.failures,
    "/dead": looking.dead,
    "/waiting": looking.waiting,
    "/queues": looking.queues,
    "/workers": looking.workers,
    "/registered": looking.registered,
    "/audit": looking.audit,
    "/confirm/{deed}": doing.confirm,
    "/run": calling.ask_run,
}
DOING: Mapping[str, Handler] = {"/do/{deed}": doing.do, "/run": calling.run}
"""What answers to GET, and what to POST. The latter look at the permission that they need."""

_FORBIDDEN = "This dashboard does not know you, or you may not see it."


class Dashboard:
    """The operator's dashboard of one application: an ASGI application.

    It needs to know who may see it, in one of three ways: *users* who log in, a *permission* of the
    application it is mounted in, or *open_to_this_host* for everybody on this host.

    Args:
        app: Whose tasks are shown.
        users: Hashes of passwords by name (see `hash_password`), or `Users`.
        roles: ``viewer`` or ``operator`` for each user, or a list of `Action`; viewer by default.
        permission: Asked instead of a login: the name of the user, where he may do that.
        open_to_this_host: Requests from this host, not through a proxy, may do everything.
        read_only: Nobody may change anything.
        idle: Seconds without a request after which a session ends.
        lifetime: Seconds after which it ends in any case.

    Raises:
        ConfigurationError: Nothing says who may see it, or several things do.
    """

    def __init__(
        self,
        app: Acked,
        *,
        users: Mapping[str, str] | Users | None = None,
        roles: Mapping[str, Rights] | None = None,
        permission: Permission | None = None,
        open_to_this_host: bool = False,
        read_only: bool = False,
        idle: float = IDLE,
        lifetime: float = LIFETIME,
    ) -> None:
        if (users is not None) + (permission is not None) + open_to_this_host != 1:
            raise ConfigurationError(
                "Dashboard needs one of users=, permission= and open_to_this_host=True, to know "
                "who may see it."
            )
        login = None
        if users is not None:
            sessions = Sessions(idle=idle, lifetime=lifetime)
            login = Login(Users.of(users, roles), sessions)
        elif roles:
            raise ConfigurationError("roles= gives rights to users=; without them it says nothing.")
        self._access: Access = login or (Asked(permission) if permission else ThisHost())
        self._read_only = read_only
        self._desk = Desk(app, has_login=login is not None)
        self._entrance = Entrance(self._desk, login) if login is not None else None
        routes = [
            Route(f"/{name}", asset("acked.dashboard", name), methods=["GET"]) for name in ASSETS
        ]
        routes += [self._route(path, handler, "GET") for path, handler in LOOKING.items()]
        routes += [self._route(path, handler, "POST") for path, handler in DOING.items()]
        if self._entrance is not None:
            routes += [
                Route("/login", self._ask_in, methods=["GET"]),
                Route("/login", self._let_in, methods=["POST"]),
                Route("/logout", self._let_out, methods=["POST"]),
            ]
        policy = content_policy("'none'") + "; img-src 'self'"
        # Around all of it, so that the answer to a fault has the headers as well.
        self._site: ASGIApp = SafeHeaders(Starlette(routes=routes), policy=policy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._site(scope, receive, send)

    # -- who may -----------------------------------------------------------------------------------

    def _route(self, path: str, handler: Handler, method: str) -> Route:
        async def answer(request: Request) -> Response:
            return await self._admitted(request, handler)

        return Route(path, answer, methods=[method])

    async def _admitted(self, request: Request, handler: Handler) -> Response:
        """Let *handler* answer, if the request may be made."""
        posted = request.method == "POST"
        if posted and not is_same_origin(request):
            return self._forbidden(request, "This form belongs to another site.")
        visitor = await self._access.visitor(request)
        if visitor is None:
            if self._entrance is not None and not posted:
                return self._entrance.lead(request)
            return self._forbidden(request, _FORBIDDEN)
        if self._read_only:
            visitor = Visitor(visitor.name, frozenset({Action.VIEW}))
        secret = self._access.secret(request) or cookie(request, SEED)
        form: Form = {}
        if posted:
            read = await read_form(request)
            if isinstance(read, Response):
                return read
            form = read
            if not is_form_token(form.get("token", [""])[0], secret):
                return self._forbidden(request, _OLD_FORM)
        fresh = new_seed() if secret is None else None
        visit = Visit(request, visitor, form_token(secret or fresh or ""), form)
        response = await self._answered(handler, visit)
        if fresh is not None:
            set_cookie(request, response, SEED, fresh)
        return response

    async def _answered(self, handler: Handler, visit: Visit) -> Response:
        try:
            return await handler(self._desk, visit)
        except AckedError as error:
            logger.warning("a page cannot be shown: %s", redact_text(str(error)))
            return self._desk.show_bare(
                visit.request, "away", status=503, text=redact_text(str(error))
            )

    def _forbidden(self, request: Request, text: str) -> Response:
        if request.method == "POST":
            self._desk.audit.note(
                who="?", action=f"POST {request.url.path}", source=address_of(request),
                outcome=f"refused: {text}",
            )  # fmt: skip
        return self._desk.show_bare(request, "forbidden", status=403, text=text)

    # -- logging in --------------------------------------------------------------------------------

    async def _ask_in(self, request: Request) -> Response:
        assert self._entrance is not None
        return self._entrance.ask(request)

    async def _let_in(self, request: Request) -> Response:
        assert self._entrance is not None
        if not is_same_origin(request):
            return self._forbidden(request, "This form belongs to another site.")
        form = await read_form(request)
        if isinstance(form, Response):
            return form
        if not is_form_token(form.get("token", [""])[0], cookie(request, SEED)):
            return self._entrance.ask(request, wrong="That took too long. Try again.", status=403)
        return await self._entrance.enter(request, form)

    async def _let_out(self, request: Request) -> Response:
        async def leave(_: Desk, visit: Visit) -> Response:
            assert self._entrance is not None
            return self._entrance.leave(request, visit.visitor.name)

        return await self._admitted(request, leave)


ASSETS = ("dashboard.css", "dashboard.js", "favicon.svg")
_OLD_FORM = "This form is too old, or was not made for you. Go back, reload the page, try again."


async def read_form(request: Request) -> Form | Response:
    """The fields of a form that was posted as browsers do by default."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return Response("A form is expected.\n", 415, media_type="text/plain")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            return Response("That is too much.\n", 413, media_type="text/plain")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=bool(body),
            max_num_fields=FIELDS_LIMIT,
        )  # fmt: skip
    except ValueError:
        return Response("This is no form.\n", 400, media_type="text/plain")
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return form
