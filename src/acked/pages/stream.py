"""A response of server-sent events that nobody can hold open for free."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import msgspec
from starlette.types import Receive, Scope, Send

BEAT = b": still here\n\n"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What open pages may cost. Times are seconds.

    Args:
        streams: Open streams of one process; the pages beyond poll.
        streams_per_page: Open streams for the same tasks.
        streams_per_address: Open streams of one client address: an IPv4 one, or an IPv6 /64.
        streams_per_name: Open streams of one visitor, where ``permission`` says who that is.
        tasks: Tasks of one page.
        lifetime: After so long a stream ends, and its page opens another.
        recheck: How often an open stream asks again whether it is still allowed.
        stalled: A reader that takes nothing for so long is dropped.
        interval: Between two looks at the tasks that are watched.
    """

    streams: int = 1_000
    streams_per_page: int = 20
    streams_per_address: int = 100
    streams_per_name: int = 20
    tasks: int = 100
    lifetime: float = 600.0
    recheck: float = 60.0
    stalled: float = 20.0
    interval: float = 0.25


class EventStream:
    """An ASGI response that sends *events* until they end, the reader leaves or stops reading.

    Args:
        events: Whole events, or `BEAT`.
        lifetime, stalled: As in `Limits`.
    """

    def __init__(
        self, events: AsyncGenerator[bytes, None], *, lifetime: float, stalled: float
    ) -> None:
        self._events = events
        self._lifetime = lifetime
        self._stalled = stalled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream; charset=utf-8"),
                    (b"x-accel-buffering", b"no"),  # nginx would keep events back
                ],
            }
        )
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lifetime), contextlib.aclosing(self._events) as events:
                async for event in events:
                    async with asyncio.timeout(self._stalled):
                        await send({"type": "http.response.body", "body": event, "more_body": True})
        with contextlib.suppress(TimeoutError):
            # A reader that stalls does not take the end either.
            async with asyncio.timeout(1):
                await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
