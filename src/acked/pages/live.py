"""What keeps open pages up to date: a stream of events, or the states of now."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from acked.errors import AckedError
from acked.pages.caps import OpenStreams, keys_of
from acked.pages.protection import is_same_origin
from acked.pages.rights import Rights, Shown
from acked.pages.state import AWAY, TaskState, Told, event
from acked.pages.stream import BEAT, EventStream, Limits
from acked.pages.telling import Look, Teller
from acked.pages.view import Phase
from acked.pages.watching import ReadAll, Watcher

logger = logging.getLogger("acked.pages")

BODY_LIMIT = 128 * 1024
"""Bytes of a request that are read."""

BEAT_EVERY = 15.0
"""Seconds after which a stream without news says that it is still there."""

LOOK_AGAIN = 1.0
"""Seconds between two looks at a view that changes with time alone."""


class Asked(msgspec.Struct, frozen=True):
    """The body of a request for the states of several tasks."""

    tokens: tuple[str, ...]


class Live:
    """The two ways a page hears of its tasks; both are asked with the tokens of all its widgets.

    Args:
        rights: Who may see what.
        teller: What they are told.
        read_all: Reads tasks.
        limits: What open pages may cost.
    """

    def __init__(self, rights: Rights, teller: Teller, read_all: ReadAll, limits: Limits) -> None:
        self._rights = rights
        self._teller = teller
        self._read_all = read_all
        self._limits = limits
        self._watcher = Watcher(read_all, interval=limits.interval)
        self._streams = OpenStreams(limits)

    async def states(self, request: Request) -> Response:
        """What is to be told now."""
        asked = await self._asked(request)
        if isinstance(asked, Response):
            return asked
        _, shown = asked
        try:
            known = await self._read_all(dict.fromkeys(_ids_of(shown)))
        except AckedError as error:
            logger.warning("tasks cannot be shown: %s", error)
            return Response("{}", 503, {"retry-after": "5"}, media_type="application/json")
        return Response(
            msgspec.json.encode(self._all(shown, known.get)), media_type="application/json"
        )

    async def events(self, request: Request) -> ASGIApp | Response:
        """A stream of what is to be told, now and with each change."""
        asked = await self._asked(request)
        if isinstance(asked, Response):
            return asked
        tokens, shown = asked
        keys = keys_of(
            task_ids=_ids_of(shown),
            names={name for one in shown if one is not None for name in one.names},
            address=request.client.host if request.client else None,
        )
        if not self._streams.admits(keys):
            return Response(
                "Too many streams are open: poll.\n", 503, {"retry-after": "30"},
                media_type="text/plain",
            )  # fmt: skip
        stream = EventStream(
            self._news(request, tokens, shown),
            lifetime=self._limits.lifetime, stalled=self._limits.stalled,
        )  # fmt: skip

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            with self._streams.one_more(keys):
                await stream(scope, receive, send)

        return counted

    async def _news(
        self, request: Request, tokens: Sequence[str], shown: Sequence[Shown | None]
    ) -> AsyncGenerator[bytes, None]:
        """An event for each task now, and whenever its state changes, until all are settled."""
        last: dict[tuple[int, int | None], TaskState] = {}
        away = False
        asked = time.monotonic()
        async with self._watcher.watch(_ids_of(shown)) as watch:
            while True:
                if time.monotonic() - asked >= self._limits.recheck:
                    shown = [await self._rights.to_any(request, token) for token in tokens]
                    asked = time.monotonic()
                    if not _ids_of(shown) <= watch.ids:
                        return  # He may see more than before: the page asks anew.
                if watch.away is not away:
                    away = watch.away
                    last.clear()
                    if away:
                        yield AWAY
                told = [] if away else self._all(shown, watch.known)
                news = [each for each in told if last.get((each.index, each.place)) != each.state]
                for each in news:
                    last[each.index, each.place] = each.state
                    yield event(each)
                everything = len({each.index for each in told}) == len(tokens)
                if watch.closing or (everything and all(each.state.settled for each in told)):
                    return
                if not news:
                    yield BEAT
                recheck = asked + self._limits.recheck - time.monotonic()
                await watch.wait(min(recheck, _patience(told)))

    def _all(self, shown: Sequence[Shown | None], look: Look) -> list[Told]:
        return [
            told for index, one in enumerate(shown) for told in self._teller.told(index, one, look)
        ]

    async def _asked(
        self, request: Request
    ) -> tuple[tuple[str, ...], list[Shown | None]] | Response:  # fmt: skip
        """The tokens of a request from a page of this site, and what they show."""
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
        shown: list[Shown | None] = []
        tasks = 0
        for token in tokens[: self._limits.tasks + 1]:
            shown.append(await self._rights.to_any(request, token))
            tasks += len(shown[-1].grants) if shown[-1] is not None else 1
            if tasks > self._limits.tasks:
                break
        if not 0 < tasks <= self._limits.tasks:
            return Response(
                f"One page shows 1 to {self._limits.tasks} tasks.\n", 400, media_type="text/plain"
            )
        return tokens, shown


def _ids_of(shown: Sequence[Shown | None]) -> frozenset[str]:
    return frozenset(task_id for one in shown if one is not None for task_id in one.task_ids)


def _patience(told: Sequence[Told]) -> float:
    """Seconds a stream may wait for news before it looks by itself."""
    by_time = any(each.state.view.phase is Phase.INTERRUPTED for each in told)
    return LOOK_AGAIN if by_time else BEAT_EVERY
