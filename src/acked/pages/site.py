"""`TaskPages`: the pages as an ASGI application, to be mounted in the developer's own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from acked import audit
from acked.app import Acked
from acked.errors import AckedError, ConfigurationError
from acked.pages.assets import asset
from acked.pages.grants import DAY, Action, Grant, ManyGrant, Secrets
from acked.pages.live import Live
from acked.pages.protection import SafeHeaders, address_of, content_policy, is_same_origin
from acked.pages.reading import Reader, ResultWords
from acked.pages.rendering import Page
from acked.pages.rights import Permission, Rights
from acked.pages.state import TaskState, Told
from acked.pages.stream import Limits
from acked.pages.telling import Teller
from acked.pages.view import Known, Phase
from acked.pages.words import ENGLISH, Words, check_words
from acked.result import AsyncResult

logger = logging.getLogger("acked.pages")

T = TypeVar("T")

HOLDER = "holder of the link"
"""Who did something, where nobody gives a name."""

THREADS = 4
"""Threads, and so connections, that ask the broker."""

FILES = ("acked-task.js", "acked-card.js", "acked-feed.js", "acked-task.css")

_NOTHING: Mapping[str, str] = {}


class TaskPages:
    """Progress pages for those who wait for a task.

    Mount it under any path: it is an ASGI application. It says nothing about a task without a
    token for it, which `url_for` and `token_for` make.

    Args:
        app: The application whose tasks are shown.
        secrets: Keys the tokens are signed with, 32 bytes or more each. The first signs, the others
            are still accepted.
        path: Where it is mounted, as browsers see it; what `url_for` gives begins with it.
        permission: Asked besides the token, before anything is shown or done: whether this visitor
            may ``view``, ``cancel`` or ``retry`` the task. Asked again while a page is open. It
            says True, or the visitor's name, which the audit then has.
        result_link: Where the result of a task is, for the link of its page.
        show_result: The result in words.
        safe_errors: What to say when an exception of that name ended a task.
        words: In another language.
        frame_ancestors: Who may put a page into a frame, as the Content-Security-Policy says it.
        limits: What open pages may cost.

    Raises:
        ConfigurationError: One of them cannot work; the text says why.
    """

    def __init__(
        self,
        app: Acked,
        *,
        secrets: Sequence[str | bytes],
        path: str = "",
        permission: Permission | None = None,
        result_link: ResultWords | None = None,
        show_result: ResultWords | None = None,
        safe_errors: Mapping[str, str] = _NOTHING,
        words: Words = ENGLISH,
        frame_ancestors: str = "'none'",
        limits: Limits | None = None,
    ) -> None:
        if path and not path.startswith(("/", "http://", "https://")):
            raise ConfigurationError(f"path={path!r} must begin with a slash: path='/tasks'.")
        self._app = app
        self._secrets = Secrets(secrets)
        self._rights = Rights(self._secrets, permission)
        self._path = path.rstrip("/")
        self._limits = limits or Limits()
        self._reader = Reader(app, result_link=result_link, show_result=show_result)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="acked-pages")
        # Which clock is known when the application opens its broker, with the first page.
        self._teller = Teller(lambda: app.clock.now(), check_words(words), dict(safe_errors))
        self._live = Live(self._rights, self._teller, self._read_all, self._limits)
        self._page = Page(words)
        routes = [
            Route("/task/{token}", self._show, methods=["GET"]),
            Route("/task/{token}/cancel", self._cancel, methods=["POST"]),
            Route("/task/{token}/retry", self._retry, methods=["POST"]),
            Route("/tasks/{token}", self._show_many, methods=["GET"]),
            Route("/events", self._live.events, methods=["POST"]),
            Route("/states", self._live.states, methods=["POST"]),
            *(Route(f"/{name}", asset("acked.pages", name), methods=["GET"]) for name in FILES),
        ]
        self._site: ASGIApp = SafeHeaders(
            Starlette(routes=routes), policy=content_policy(frame_ancestors)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._site(scope, receive, send)

    # -- links -------------------------------------------------------------------------------------

    def token_for(
        self,
        task: AsyncResult[Any] | str,
        *,
        label: str = "",
        allow: Iterable[Action | str] = (),
        lasts: float = DAY,
    ) -> str:
        """A token with which its holder sees *task*. Signed here and not stored; nobody is asked.

        Args:
            task: The task, or its id.
            label: What the page calls it: ``Importing customers.csv``. Its holder can read it.
            allow: What he may do besides: ``cancel``, ``retry``.
            lasts: Seconds for which it is good.
        """
        return self._secrets.sign(
            Grant(task_id=str(task), expires=_end(lasts), actions=_actions(allow), label=label)
        )

    def url_for(
        self,
        task: AsyncResult[Any] | str,
        *,
        label: str = "",
        allow: Iterable[Action | str] = (),
        lasts: float = DAY,
    ) -> str:
        """The address of the page of *task*; arguments as for `token_for`."""
        token = self.token_for(task, label=label, allow=allow, lasts=lasts)
        return f"{self._path}/task/{token}"

    def token_for_many(
        self,
        tasks: Iterable[AsyncResult[Any] | str],
        *,
        label: str = "",
        labels: Iterable[str] = (),
        allow: Iterable[Action | str] = (),
        lasts: float = DAY,
    ) -> str:
        """One token for several tasks, such as those of `Task.delay_many`.

        Args:
            tasks: The tasks, or their ids, as many as one page may show (`Limits.tasks`).
            label: What the page calls them together.
            labels: What it calls each, in the same order; left out, "Task 1" and so on.
            allow, lasts: As for `token_for`, the same for each.

        Raises:
            ConfigurationError: There are none or too many, or not as many labels; or the token
                would be too long for an address.
        """
        ids, names = tuple(str(each) for each in tasks), tuple(labels)
        if not 0 < len(ids) <= self._limits.tasks:
            raise ConfigurationError(
                f"a page of {len(ids)} tasks cannot be made: it shows 1 to {self._limits.tasks}. "
                "Give several links, or TaskPages(limits=Limits(tasks=...))."
            )
        if names and len(names) != len(ids):
            raise ConfigurationError(
                f"labels= has {len(names)} texts for {len(ids)} tasks: give one for each, or none."
            )
        return self._secrets.sign(
            ManyGrant(
                task_ids=ids, labels=names or ("",) * len(ids), label=label,
                expires=_end(lasts), actions=_actions(allow),
            )
        )  # fmt: skip

    def url_for_many(
        self,
        tasks: Iterable[AsyncResult[Any] | str],
        *,
        label: str = "",
        labels: Iterable[str] = (),
        allow: Iterable[Action | str] = (),
        lasts: float = DAY,
    ) -> str:
        """The address of one page for several tasks; arguments as for `token_for_many`."""
        token = self.token_for_many(tasks, label=label, labels=labels, allow=allow, lasts=lasts)
        return f"{self._path}/tasks/{token}"

    # -- one page ----------------------------------------------------------------------------------

    async def _show(self, request: Request) -> Response:
        token = request.path_params["token"]
        grant = await self._rights.to_one(request, token)
        if grant is None:
            return self._page.response(self._refused(), token=None, now=time.time(), status=404)
        now = self._app.clock.now()
        try:
            known = await self._in_thread(self._reader.read, grant.task_id)
        except AckedError as error:
            logger.warning("the page of task %s cannot be shown: %s", grant.task_id, error)
            state = self._teller.unreachable(grant.label)
            return self._page.response(state, token=token, now=now, status=503)
        state = self._teller.state(known, grant)
        status = 404 if state.view.phase is Phase.UNKNOWN else 200
        return self._page.response(state, token=token, now=now, status=status)

    async def _cancel(self, request: Request) -> Response:
        return await self._act(
            request, Action.CANCEL, lambda task: self._app.records.revoke([task], terminate=True)
        )

    async def _retry(self, request: Request) -> Response:
        return await self._act(
            request, Action.RETRY, lambda task: self._app.records.requeue([task])
        )  # fmt: skip

    async def _act(
        self, request: Request, action: Action, change: Callable[[str], int]
    ) -> Response:
        """Change the task, and show its page again. What its state does not allow changes
        nothing: it may have ended a moment ago."""
        grant = self._rights.signed(request.path_params["token"])
        who: str | None = None

        def note(outcome: str, count: int | None = None) -> None:
            audit.note(
                who="?" if who is None else who or HOLDER, action=action,
                target=grant.task_id if grant else "?", source=address_of(request),
                outcome=outcome, count=count,
            )  # fmt: skip

        if not is_same_origin(request):
            note("refused: this form belongs to another site")
            return Response("This form belongs to another site.\n", 403, media_type="text/plain")
        if grant is not None:
            who = await self._rights.who(request, grant, action)
        if grant is None or who is None:
            note("not permitted")
            return self._page.response(
                self._refused(), token=None, now=time.time(), status=404, base="../../"
            )
        try:
            changed = await self._in_thread(change, grant.task_id)
        except AckedError as error:
            logger.warning("task %s: %s failed: %s", grant.task_id, action, error)
            note(f"failed: {error}")
            state = self._teller.unreachable(grant.label)
            return self._page.response(
                state, token=None, now=time.time(), status=503, base="../../"
            )
        note("done", changed)
        # Relative, since the path of this site may be another one in front of a proxy.
        return RedirectResponse(f"../{request.path_params['token']}", status_code=303)

    # -- the page of several tasks -----------------------------------------------------------------

    async def _show_many(self, request: Request) -> Response:
        token = request.path_params["token"]
        shown = await self._rights.to_any(request, token)
        if shown is None or shown.tokens is None:
            return self._page.response(self._refused(), token=None, now=time.time(), status=404)
        now = self._app.clock.now()
        try:
            known = await self._read_all(dict.fromkeys(shown.task_ids))
        except AckedError as error:
            logger.warning("the page of several tasks cannot be shown: %s", error)
            state = self._teller.unreachable(shown.label)
            return self._page.response_many([Told(0, now, state)], token=token, now=now, status=503)
        told = self._teller.told(0, shown, known.get)
        gone = all(each.state.view.phase is Phase.UNKNOWN for each in told)
        return self._page.response_many(told, token=token, now=now, status=404 if gone else 200)

    # -- what both need ----------------------------------------------------------------------------

    def _refused(self) -> TaskState:
        return self._teller.refused()

    async def _read_all(self, tasks: Mapping[str, Known | None]) -> dict[str, Known]:
        return await self._in_thread(self._reader.read_all, tasks)

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def _actions(allow: Iterable[Action | str]) -> frozenset[Action]:
    try:
        return frozenset({Action.VIEW, *(Action(each) for each in allow)})
    except ValueError as error:
        raise ConfigurationError(f"allow= takes 'cancel' and 'retry': {error}.") from None


def _end(lasts: float) -> float:
    return round(time.time() + lasts)
