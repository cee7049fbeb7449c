"""The page without JavaScript."""

from __future__ import annotations

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from acked.pages.state import TaskState, Told
from acked.pages.view import Countdown, seconds_in_words
from acked.pages.words import Words

REFRESH = 3
"""Seconds after which a browser without JavaScript looks again."""


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
                told=msgspec.json.encode(Told(0, now, state)).decode(),
            ),
            status_code=status,
        )  # fmt: skip
