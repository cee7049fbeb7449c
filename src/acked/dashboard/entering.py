"""Logging in and out."""

from __future__ import annotations

import asyncio
import math
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from acked.dashboard.access import (
    SEED,
    SESSION,
    Login,
    cookie,
    form_token,
    new_seed,
    set_cookie,
)  # fmt: skip
from acked.dashboard.desk import Desk, Form, base_of
from acked.dashboard.throttle import Throttle
from acked.pages.protection import address_of

_INSIDE = re.compile(r"/(?:[\w.~%-][\w.~%/-]*)?(?:\?[\w.~%&=+-]*)?", re.ASCII)
"""Paths of this dashboard: never two slashes at the beginning, which would name another host."""


def inside(path: str) -> str:
    """*path* where it is one of this dashboard; its first page otherwise."""
    return path if len(path) <= 2_000 and _INSIDE.fullmatch(path) else "/"


class Entrance:
    """The page that asks for a password.

    Args:
        login: Who may come in, and who has.
    """

    def __init__(self, desk: Desk, login: Login) -> None:
        self._desk = desk
        self._login = login
        self._throttle = Throttle()
        # Of their own, so that a flood of logins keeps nobody waiting who is in.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="acked-login")

    def lead(self, request: Request) -> Response:
        """To the login, and from there to where the visitor wanted."""
        path = request.url.path.removeprefix(base_of(request))
        wanted = inside(f"{path}?{request.url.query}" if request.url.query else path)
        query = f"?{urlencode({'next': wanted})}" if wanted != "/" else ""
        return RedirectResponse(f"{base_of(request)}/login{query}", status_code=303)

    def ask(self, request: Request, *, wrong: str = "", name: str = "", status: int = 200,
            wanted: str | None = None) -> Response:  # fmt: skip
        """The form."""
        seed = cookie(request, SEED)
        fresh = new_seed() if seed is None else seed
        if wanted is None:
            wanted = inside(request.query_params.get("next", "/"))
        response = self._desk.show_bare(
            request, "login", status=status, token=form_token(fresh), wrong=wrong, typed=name,
            wanted=wanted,
        )  # fmt: skip
        if seed is None:
            set_cookie(request, response, SEED, fresh)
        return response

    async def enter(self, request: Request, form: Form) -> Response:
        """Look at a password."""
        name = form.get("name", [""])[0].strip()[:200]
        password = form.get("password", [""])[0]
        wanted, address = inside(form.get("next", ["/"])[0]), address_of(request)
        note = self._desk.audit.note
        if (wait := self._throttle.wait(name, address)) > 0:
            note(who=name, action="login", source=address, outcome="refused: too many tries")
            minutes = math.ceil(wait / 60)
            response = self.ask(
                request, wrong=f"Too many tries. Try again in {minutes} min.", name=name,
                status=429, wanted=wanted,
            )  # fmt: skip
            response.headers["retry-after"] = str(math.ceil(wait))
            return response
        # Counted before it is looked at, so that many at once do not slip through.
        self._throttle.failed(name, address)
        user = await asyncio.get_running_loop().run_in_executor(
            self._threads, self._login.users.check, name, password
        )
        if user is None:
            note(who=name, action="login", source=address, outcome="refused: wrong")
            return self.ask(
                request, wrong="That is not a name and its password.", name=name, status=403,
                wanted=wanted,
            )  # fmt: skip
        self._throttle.succeeded(name, address)
        note(who=user.name, action="login", source=address)
        self._login.sessions.end(cookie(request, SESSION))
        response = RedirectResponse(base_of(request) + wanted, status_code=303)
        set_cookie(request, response, SESSION, self._login.sessions.begin(user.name))
        set_cookie(request, response, SEED, "")
        return response

    def leave(self, request: Request, who: str) -> Response:
        """Log out."""
        self._login.sessions.end(cookie(request, SESSION))
        self._desk.audit.note(who=who, action="logout", source=address_of(request))
        response = RedirectResponse(f"{base_of(request)}/login", status_code=303)
        set_cookie(request, response, SESSION, "")
        return response
