"""What somebody sees who looks at a page."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from acked.pages.view import Phase
from tests.harness.workers import until
from tests.pages.conftest import TOLD

expect.set_options(timeout=TOLD)


def card(page: Page, index: int = 0) -> Any:
    """The part of a widget that is seen."""
    return page.locator("acked-task").nth(index).locator("css=div.acked:visible")


def whole(page: Page) -> Any:
    """The card of all tasks together."""
    return page.locator("acked-tasks").locator("css=div.acked:not(.small):visible")


def each(page: Page) -> Any:
    """The cards of the tasks."""
    return page.locator("acked-tasks").locator("css=div.acked.small:visible")


def shows(page: Page, phase: Phase, text: str = "", *, index: int = 0) -> None:
    """Wait until the page shows *phase*, and *text* somewhere in it."""
    expect(card(page, index)).to_have_attribute("data-phase", phase.value)
    # Until it has heard anything, a widget looks as if it waited.
    expect(card(page, index).locator(".headline")).not_to_have_text("")
    if text:
        expect(card(page, index)).to_contain_text(text)


def style(page: Page, selector: str, name: str) -> str:
    """A computed style of one part of the widget."""
    value: str = page.evaluate(
        """([selector, name]) => {
            const root = document.querySelector("acked-task").shadowRoot;
            return getComputedStyle(root.querySelector(selector))[name];
        }""",
        [selector, name],
    )
    return value


def settles(page: Page, selector: str, name: str, value: str) -> None:
    """Wait until a style has *value*."""
    until(
        lambda: style(page, selector, name) == value,
        what=f"{name} of {selector} to be {value}, is {style(page, selector, name)}",
    )
