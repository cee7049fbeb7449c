"""The page without JavaScript, and the files it is made of."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Awaitable, Callable

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from acked.pages.state import TaskState
from acked.pages.view import Countdown, seconds_in_words
from acked.pages.words import Words

REFRESH = 3
"""Seconds after which a browser without JavaScript looks again."""

_FILES = importlib.resources.files("acked.pages")
_TYPES = {".js": "text/javascript", ".css": "text/css"}


def asset(name: str) -> Callable[[Request], Awaitable[Response]]:
    """What answers with a file of `static`. Asked for again each time, and sent when it changed, so
    that a page never runs the script of another version."""
    content = (_FILES / "static" / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    kind = _TYPES[name[name.rindex(".") :]]

    async def answer(request: Request) -> Response:
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return answer


def counted_down(countdown: Countdown, now: float) -> str:
    """*countdown* in words at *now*; empty once it is over."""
    left = countdown.at - now
    return countdown.text.format(time=seconds_in_words(left)) if left > 0 else ""


class Page:
    """The page of one task.

    Args:
        words: What it says.
    """

    def __init__(self, words: Words) -> None:
        environment = Environment(
            loader=PackageLoader("acked.pages"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._template = environment.get_template("task.html")
        self._words = words

    def response(
        self, state: TaskState, *, token: str | None, now: float, status: int = 200,
        base: str = "../",
    ) -> Response:  # fmt: skip
        """The page as it is at *now*. Without a token it stays as it is. *base* leads from its
        address to where the pages are mounted."""
        view, countdown = state.view, state.view.countdown
        title = self._words.page_title.format(label=state.label, headline=view.headline)
        return HTMLResponse(
            self._template.render(
                state=state, view=view, words=self._words, token=token, title=title,
                countdown=counted_down(countdown, now) if countdown else "",
                percent=None if view.fraction is None else int(view.fraction * 100),
                refresh=None if state.settled or token is None else REFRESH, base=base,
            ),
            status_code=status,
        )  # fmt: skip
