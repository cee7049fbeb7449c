"""The page without JavaScript."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


class Card(msgspec.Struct, frozen=True):
    """One state as it is drawn: `countdown` in words, empty where there is none; `percent` of the
    way, None where that is not known."""

    state: TaskState
    countdown: str
    percent: int | None


def card_of(state: TaskState, now: float) -> Card:
    """*state* at *now*."""
    view = state.view
    return Card(
        state=state,
        countdown=counted_down(view.countdown, now) if view.countdown else "",
        percent=None if view.fraction is None else int(view.fraction * 100),
    )


class Page:
    """The page of one task, and that of several.

    Args:
        words: What it says.
    """

    def __init__(self, words: Words) -> None:
        environment = Environment(
            loader=PackageLoader("acked.pages"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._one = environment.get_template("task.html")
        self._many = environment.get_template("tasks.html")
        self._words = words

    def response(
        self, state: TaskState, *, token: str | None, now: float, status: int = 200,
        base: str = "../",
    ) -> Response:  # fmt: skip
        """The page of one task as it is at *now*. Without a token it stays as it is. *base* leads
        from its address to where the pages are mounted."""
        page = self._one.render(
            **self._frame(state, now), token=token, base=base,
            refresh=None if state.settled or token is None else REFRESH,
            told=msgspec.json.encode(Told(0, now, state)).decode(),
        )  # fmt: skip
        return HTMLResponse(page, status_code=status)

    def response_many(
        self, told: Sequence[Told], *, token: str, now: float, status: int = 200
    ) -> Response:
        """The page of several tasks as it is at *now*: first what is told of all together."""
        state = told[0].state
        page = self._many.render(
            **self._frame(state, now), token=token, base="../",
            refresh=None if state.settled else REFRESH,
            cards=[card_of(each.state, now) for each in told[1:]],
            told=msgspec.json.encode(told).decode(),
        )  # fmt: skip
        return HTMLResponse(page, status_code=status)

    def _frame(self, state: TaskState, now: float) -> dict[str, Any]:
        headline = state.view.headline
        return {
            "card": card_of(state, now),
            "title": self._words.page_title.format(label=state.label, headline=headline),
            "words": self._words,
        }
