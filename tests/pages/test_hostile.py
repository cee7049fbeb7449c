"""Whatever a task can choose is hostile here, in every phase, in a real browser. Without the
Content-Security-Policy, which would hide what it forbids; in all other tests it is there, and must
have nothing to forbid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from acked.pages.view import Phase
from tests.pages.conftest import Open, Shop
from tests.pages.hostile import HOSTILE, assert_harmless
from tests.pages.seeing import card, each, shows, whole

PHASES = [phase for phase in Phase if phase is not Phase.REFUSED]


@pytest.fixture
def page(visit: Open) -> Iterator[Page]:
    page = visit("about:blank", bypass_csp=True)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    yield page
    assert dialogs == []


def staged(shop: Shop, phase: Phase) -> str:
    if phase is Phase.WORKING:
        return shop.stage.working(message=HOSTILE)
    if phase is Phase.DONE:
        return shop.stage.done(json.dumps(HOSTILE).encode())
    if phase is Phase.FAILED:
        return shop.stage.failed(HOSTILE)
    return shop.stage(phase)


@pytest.mark.parametrize("phase", PHASES)
def test_a_page_takes_no_hostile_text_for_markup(shop: Shop, page: Page, phase: Phase) -> None:
    page.goto(shop.url(staged(shop, phase), "cancel", "retry", label=HOSTILE))
    shows(page, phase)
    expect(card(page).locator(".label")).to_contain_text("<img src=x onerror=")
    shown = {Phase.WORKING: ".detail", Phase.DONE: ".result"}
    if phase in shown:
        expect(card(page).locator(shown[phase])).to_contain_text("<img src=x onerror=")
        expect(card(page).locator(shown[phase])).to_contain_text("event: task")
    assert_harmless(page, phase)


def test_widgets_take_no_hostile_text_for_markup(shop: Shop, page: Page) -> None:
    tokens = [shop.pages.token_for(staged(shop, phase), label=HOSTILE) for phase in PHASES]
    page.goto(f"{shop.server.url}/several?" + "&".join(f"t={token}" for token in tokens))
    for index, phase in enumerate(PHASES):
        shows(page, phase, "<img src=x onerror=", index=index)
    assert_harmless(page, "several")


def test_a_page_of_several_tasks_takes_no_hostile_text_for_markup(shop: Shop, page: Page) -> None:
    tasks = [staged(shop, phase) for phase in PHASES]
    page.goto(
        shop.url_of_many(tasks, "cancel", "retry", label=HOSTILE, labels=[HOSTILE] * len(tasks))
    )
    expect(whole(page)).to_contain_text("<img src=x onerror=")
    expect(each(page)).to_contain_text(["<img src=x onerror="] * len(tasks))
    assert_harmless(page, "several on one page")


def test_news_of_a_stream_take_no_hostile_text_for_markup(shop: Shop, page: Page) -> None:
    task_id = shop.stage.working(message="Packing")
    page.goto(shop.url(task_id))
    shows(page, Phase.WORKING, "Packing")
    held = shop.app.records.get(task_id)
    progress = type(held.progress)(done=7, total=10, message=HOSTILE, at=shop.stage.now)
    assert shop.app.records.report(task_id, held.token, progress)
    expect(card(page).locator(".detail")).to_contain_text("<img src=x onerror=")
    assert_harmless(page, "news")


@pytest.mark.parametrize("phase", [Phase.WORKING, Phase.DONE])
def test_without_scripts_a_page_takes_no_hostile_text_for_markup(
    shop: Shop, visit: Open, phase: Phase
) -> None:
    url = shop.url(staged(shop, phase), label=HOSTILE)
    page = visit(url, java_script_enabled=False)
    shows(page, phase, "<img src=x onerror=")
    assert page.locator("img, iframe, script:not([src]), [onfocus]").count() == 0


def test_a_hostile_link_is_no_markup_either(shop: Shop, page: Page) -> None:
    token = HOSTILE.replace("/", "").replace("\r\n", "")
    page.goto(f"{shop.server.url}/tasks/task/{quote(token)}?x={quote(HOSTILE)}")
    expect(page.locator("body")).to_contain_text("This link does not work")
    assert_harmless(page, "a link")
