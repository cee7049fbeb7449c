"""What every page needs: the reader, the templates, the audit, and who is asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from acked.app import Acked
from acked.audit import Audit, Entry
from acked.dashboard.access import Visitor
from acked.dashboard.deeds import DEEDS
from acked.dashboard.permissions import Action
from acked.dashboard.reading import Reader
from acked.dashboard.rendering import REFRESH, Pages
from acked.pages.protection import address_of

T = TypeVar("T")

THREADS = 4
"""Threads, and so connections, that ask the broker."""

Form = Mapping[str, list[str]]


class Visit(msgspec.Struct, frozen=True):
    """One request of somebody who may make it.

    Args:
        visitor: Who it is.
        token: For the forms of the page.
        form: What was posted; empty for a page that is looked at.
    """

    request: Request
    visitor: Visitor
    token: str
    form: Form

    def may(self, action: Action | str) -> bool:
        """Whether the visitor may do that."""
        return Action(action) in self.visitor.actions

    def asked(self, name: str) -> str:
        """A parameter of the address; empty where there is none."""
        return self.request.query_params.get(name, "")

    def typed(self, name: str) -> str:
        """A field of the form; empty where there is none."""
        values = self.form.get(name)
        return values[0] if values else ""


class Desk:
    """Answers visits.

    Args:
        app: Whose tasks are shown.
        has_login: There is something to log out of.
    """

    def __init__(self, app: Acked, *, has_login: bool) -> None:
        self.app = app
        self.reader = Reader(app)
        self.audit = Audit()
        self.has_login = has_login
        self._pages = Pages()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="acked-dashboard")

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """What *function* gives, without keeping others waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def show(self, visit: Visit, name: str, *, status: int = 200, **context: Any) -> Response:
        """The page *name* for *visit*."""
        base = base_of(visit.request)
        return self._pages.response(
            name, status, base=base, here=visit.request.url.path.removeprefix(base) or "/",
            visitor=visit.visitor, may=visit.may, token=visit.token, app_name=self.app.name,
            broker=self.app.broker.url, now=self.reader.now, has_login=self.has_login,
            refresh=REFRESH, deeds=DEEDS, notice=self._notice(visit), link=link, **context,
        )  # fmt: skip

    def show_bare(
        self, request: Request, name: str, *, status: int = 200, **context: Any
    ) -> Response:
        """A page for somebody who is not known."""
        return self._pages.response(name, status, base=base_of(request), **context)

    def wrong(self, visit: Visit, title: str, text: str, status: int) -> Response:
        """A page that says what is wrong."""
        return self.show(visit, "wrong", status=status, title=title, text=text)

    def note(
        self, visit: Visit, action: str, *, target: str, count: int | None = None,
        outcome: str = "done", ids: Sequence[str] = (),
    ) -> Entry:  # fmt: skip
        """Write down what the visitor did."""
        return self.audit.note(
            who=visit.visitor.name, action=action, source=address_of(visit.request), target=target,
            count=count, outcome=outcome, ids=ids,
        )  # fmt: skip

    def _notice(self, visit: Visit) -> Entry | None:
        """What this visitor has just done, where he was led back from it."""
        number = visit.asked("entry")
        is_one = number.isascii() and number.isdigit() and len(number) <= 18
        entry = self.audit.entry(int(number)) if is_one else None
        return entry if entry is not None and entry.who == visit.visitor.name else None


def base_of(request: Request) -> str:
    """Where the dashboard is mounted, as the browser sees it; no slash at its end."""
    base: str = request.scope.get("root_path", "")
    return base.rstrip("/")


def link(path: str, **parameters: Any) -> str:
    """A path of the dashboard with parameters; None leaves one out."""
    pairs = [(name, str(value)) for name, value in parameters.items() if value not in {None, ""}]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def led_back(visit: Visit, path: str, **parameters: Any) -> Response:
    """To *path*, by GET, so that a reload does nothing twice."""
    return RedirectResponse(base_of(visit.request) + link(path, **parameters), status_code=303)
