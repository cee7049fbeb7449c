"""`TaskPages`: the pages as an ASGI application, to be mounted in the developer's own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from acked import audit
from acked.app import Acked
from acked.errors import AckedError, ConfigurationError
from acked.pages.assets import asset
from acked.pages.grants import DAY, Action, Grant, Secrets
from acked.pages.protection import SafeHeaders, address_of, content_policy, is_same_origin
from acked.pages.reading import Reader, ResultWords
from acked.pages.rendering import Page
from acked.pages.state import TaskState, Told, event, state_of
from acked.pages.stream import BEAT, EventStream, Limits
from acked.pages.view import Known, Phase, TaskView, refused, unreachable, view_of
from acked.pages.watching import Watch, Watcher
from acked.pages.words import ENGLISH, Words, check_words
from acked.result import AsyncResult

logger = logging.getLogger("acked.pages")

T = TypeVar("T")

Permission = Callable[[Request, str, Action], Awaitable[bool | str]]
"""Whether the sender of the request may do that with the task of that id: True, or his name for the
audit, where he may."""

HOLDER = "holder of the link"
"""Who did something, where nobody gives a name."""

THREADS = 4
"""Threads, and so connections, that ask the broker."""

BODY_LIMIT = 128 * 1024
"""Bytes of a request that are read."""

BEAT_EVERY = 15.0
"""Seconds after which a stream without news says that it is still there."""

LOOK_AGAIN = 1.0
"""Seconds between two looks at a view that changes with time alone."""

_NOTHING: Mapping[str, str] = {}


class Asked(msgspec.Struct, frozen=True):
    """The body of a request for the states of several tasks."""

    tokens: tuple[str, ...]


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
        self._path = path.rstrip("/")
        self._permission = permission
        self._safe_errors = dict(safe_errors)
        self._words = check_words(words)
        self._limits = limits or Limits()
        self._reader = Reader(app, result_link=result_link, show_result=show_result)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="acked-pages")
        self._watcher = Watcher(self._read_all, interval=self._limits.interval)
        self._streams: Counter[frozenset[str]] = Counter()
        self._page = Page(self._words)
        routes = [
            Route("/task/{token}", self._show, methods=["GET"]),
            Route("/task/{token}/cancel", self._cancel, methods=["POST"]),
            Route("/task/{token}/retry", self._retry, methods=["POST"]),
            Route("/events", self._events, methods=["POST"]),
            Route("/states", self._states, methods=["POST"]),
            Route("/acked-task.js", asset("acked.pages", "acked-task.js"), methods=["GET"]),
            Route("/acked-task.css", asset("acked.pages", "acked-task.css"), methods=["GET"]),
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
        try:
            actions = frozenset({Action.VIEW, *(Action(each) for each in allow)})
        except ValueError as error:
            raise ConfigurationError(f"allow= takes 'cancel' and 'retry': {error}.") from None
        return self._secrets.sign(
            Grant(
                task_id=str(task), expires=round(time.time() + lasts), actions=actions, label=label
            )
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

    # -- who may -----------------------------------------------------------------------------------

    async def _granted(self, request: Request, token: str) -> Grant | None:
        """What the sender may do, all conditions taken together; None where that is nothing."""
        grant = self._secrets.verify(token, now=time.time())
        if grant is None or not await self._may(request, grant.task_id, Action.VIEW):
            return None
        actions = [
            action
            for action in sorted(grant.actions)
            if action is Action.VIEW or await self._may(request, grant.task_id, action)
        ]
        return msgspec.structs.replace(grant, actions=frozenset(actions))

    async def _may(self, request: Request, task_id: str, action: Action) -> bool:
        return await self._who(request, task_id, action) is not None

    async def _who(self, request: Request, task_id: str, action: Action) -> str | None:
        """Who the sender is, where he may do that; None where he may not."""
        if self._permission is None:
            return HOLDER
        try:
            answer = await self._permission(request, task_id, action)
        except Exception:
            # Who cannot be asked does not permit.
            logger.exception("permission to %s task %s could not be asked for", action, task_id)
            return None
        if isinstance(answer, str):
            return answer or None
        return HOLDER if answer is True else None

    # -- one page ----------------------------------------------------------------------------------

    async def _show(self, request: Request) -> Response:
        token = request.path_params["token"]
        grant = await self._granted(request, token)
        if grant is None:
            return self._page.response(self._refused(), token=None, now=time.time(), status=404)
        now = self._app.clock.now()
        try:
            known = await self._in_thread(self._reader.read, grant.task_id)
        except AckedError as error:
            logger.warning("the page of task %s cannot be shown: %s", grant.task_id, error)
            state = self._state(unreachable(self._words), grant)
            return self._page.response(state, token=token, now=now, status=503)
        state = self._state(self._view(known), grant)
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
        grant = self._secrets.verify(request.path_params["token"], now=time.time())
        who: str | None = None

        def note(outcome: str, count: int | None = None) -> None:
            audit.note(
                who=who or "?", action=action, source=address_of(request), count=count,
                target=grant.task_id if grant else "?", outcome=outcome,
            )  # fmt: skip

        if not is_same_origin(request):
            note("refused: this form belongs to another site")
            return Response("This form belongs to another site.\n", 403, media_type="text/plain")
        if (
            grant is not None
            and action in grant.actions
            and await self._may(request, grant.task_id, Action.VIEW)
        ):
            who = await self._who(request, grant.task_id, action)
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
            state = self._state(unreachable(self._words), grant)
            return self._page.response(
                state, token=None, now=time.time(), status=503, base="../../"
            )
        note("done", changed)
        # Relative, since the path of this site may be another one in front of a proxy.
        return RedirectResponse(f"../{request.path_params['token']}", status_code=303)

    # -- several tasks -----------------------------------------------------------------------------

    async def _states(self, request: Request) -> Response:
        tokens = await self._tokens(request)
        if isinstance(tokens, Response):
            return tokens
        grants = [await self._granted(request, token) for token in tokens]
        ids = {grant.task_id: None for grant in grants if grant is not None}
        try:
            known = await self._in_thread(self._reader.read_all, ids)
        except AckedError as error:
            logger.warning("tasks cannot be shown: %s", error)
            return Response("{}", 503, {"retry-after": "5"}, media_type="application/json")
        now = self._app.clock.now()
        told = [
            Told(index, now, self._state(self._view(known[grant.task_id]), grant))
            if grant
            else Told(index, now, self._refused())
            for index, grant in enumerate(grants)
        ]
        return Response(msgspec.json.encode(told), media_type="application/json")

    async def _events(self, request: Request) -> ASGIApp | Response:
        tokens = await self._tokens(request)
        if isinstance(tokens, Response):
            return tokens
        grants = [await self._granted(request, token) for token in tokens]
        page = frozenset(grant.task_id for grant in grants if grant is not None)
        if (
            self._streams.total() >= self._limits.streams
            or self._streams[page] >= self._limits.streams_per_page
        ):
            return Response(
                "Too many streams are open: poll.\n", 503, {"retry-after": "30"},
                media_type="text/plain",
            )  # fmt: skip
        return _Counted(
            EventStream(
                self._news(request, tokens, grants),
                lifetime=self._limits.lifetime, stalled=self._limits.stalled,
            ),
            self._streams, page,
        )  # fmt: skip

    async def _news(
        self, request: Request, tokens: Sequence[str], grants: list[Grant | None]
    ) -> AsyncGenerator[bytes, None]:
        """An event for each task now, and whenever its state changes, until all are settled."""
        last: list[TaskState | None] = [None] * len(tokens)
        asked = time.monotonic()
        async with self._watcher.watch(g.task_id for g in grants if g is not None) as watch:
            while True:
                if time.monotonic() - asked >= self._limits.recheck:
                    grants = [await self._granted(request, token) for token in tokens]
                    asked = time.monotonic()
                now = self._app.clock.now()
                news = False
                for index, grant in enumerate(grants):
                    state = self._latest(watch, grant)
                    if state is not None and state != last[index]:
                        last[index], news = state, True
                        yield event(index, now, state)
                if watch.closing or all(state and state.settled for state in last):
                    return
                if not news:
                    yield BEAT
                recheck = asked + self._limits.recheck - time.monotonic()
                await watch.wait(min(recheck, _patience(last)))

    def _latest(self, watch: Watch, grant: Grant | None) -> TaskState | None:
        if grant is None:
            return self._refused()
        known = watch.known(grant.task_id)
        return None if known is None else self._state(self._view(known), grant)

    async def _tokens(self, request: Request) -> tuple[str, ...] | Response:
        """The tokens of a request from a page of this site."""
        if not is_same_origin(request):
            return Response("This page belongs to another site.\n", 403, media_type="text/plain")
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > BODY_LIMIT:
                return Response(status_code=413)
        try:
            tokens = msgspec.json.decode(body, type=Asked).tokens
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return Response(status_code=400)
        if not 0 < len(tokens) <= self._limits.tasks:
            return Response(
                f"One page shows 1 to {self._limits.tasks} tasks.\n", 400, media_type="text/plain"
            )
        return tokens

    # -- saying ------------------------------------------------------------------------------------

    def _view(self, known: Known) -> TaskView:
        return view_of(
            known, now=self._app.clock.now(), words=self._words, safe_errors=self._safe_errors
        )

    def _state(self, view: TaskView, grant: Grant) -> TaskState:
        return state_of(view, label=grant.label, actions=grant.actions, words=self._words)

    def _refused(self) -> TaskState:
        return state_of(refused(self._words), label="", actions=frozenset(), words=self._words)

    async def _read_all(self, tasks: Mapping[str, Known | None]) -> dict[str, Known]:
        return await self._in_thread(self._reader.read_all, tasks)

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def _patience(states: Sequence[TaskState | None]) -> float:
    """Seconds a stream may wait for news before it looks by itself."""
    by_time = any(state and state.view.phase is Phase.INTERRUPTED for state in states)
    return LOOK_AGAIN if by_time else BEAT_EVERY


class _Counted:
    """A stream that is counted as long as it is open."""

    def __init__(
        self, stream: EventStream, streams: Counter[frozenset[str]], page: frozenset[str]
    ) -> None:
        self._stream = stream
        self._streams = streams
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._streams[self._page] += 1
        try:
            await self._stream(scope, receive, send)
        finally:
            self._streams[self._page] -= 1
            if not self._streams[self._page]:
                del self._streams[self._page]
