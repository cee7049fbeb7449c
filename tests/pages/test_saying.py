"""What the widget says of itself: to a screen reader, and of a button that did not work."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from acked.pages.view import Phase
from tests.harness.workers import until
from tests.pages.conftest import Open, Shop
from tests.pages.seeing import card, shows

SOON = 3_000
"""Milliseconds: less than what lies between two announcements of one phase."""

NOT_DONE = "That did not work. Try it again in a moment, or load this page again."


def status(page: Page) -> Locator:
    """What a screen reader hears when it has nothing else to say."""
    return page.locator("acked-task").locator("css=.unseen[role=status]")


# -- announcements ---------------------------------------------------------------------------------


def test_a_new_step_is_announced_without_any_total(shop: Shop, visit: Open) -> None:
    task_id = shop.stage.working(total=0, message="Resizing")
    page = visit(shop.url(task_id))
    shows(page, Phase.WORKING, "Resizing")
    expect(status(page)).to_have_text("")
    shop.stage.report(task_id, 0, message="Uploading")
    expect(status(page)).to_have_text("Uploading", timeout=SOON)


def test_a_new_step_is_announced_within_a_quarter_of_the_way(shop: Shop, visit: Open) -> None:
    task_id = shop.stage.working(3, 100, "Resizing")
    page = visit(shop.url(task_id))
    shows(page, Phase.WORKING, "Resizing")
    shop.stage.report(task_id, 4, 100, "Uploading")
    expect(status(page)).to_have_text("Uploading. 4 of 100", timeout=SOON)


def test_steps_that_follow_fast_are_announced_every_few_seconds_the_latest_alone(
    shop: Shop, visit: Open
) -> None:
    task_id = shop.stage.working(total=0, message="Step 1")
    page = visit(shop.url(task_id))
    shows(page, Phase.WORKING, "Step 1")
    page.evaluate(
        """() => {
            window.heard = [];
            const status = document.querySelector("acked-task").shadowRoot
                .querySelector(".unseen[role=status]");
            new MutationObserver(() => heard.push([performance.now(), status.textContent]))
                .observe(status, { childList: true });
        }"""
    )
    for step in range(2, 6):
        shop.stage.report(task_id, 0, message=f"Step {step}")
        expect(card(page).locator(".detail")).to_have_text(f"Step {step}")
    until(
        lambda: page.wait_for_timeout(50) or len(page.evaluate("heard")) == 2,
        what="a second announcement",
    )
    (first, one), (second, other) = page.evaluate("heard")
    assert (one, other) == ("Step 2", "Step 5")
    assert second - first >= 4_500


def test_a_new_phase_is_announced_at_once(shop: Shop, visit: Open) -> None:
    task_id = shop.stage.working(message="Resizing")
    page = visit(shop.url(task_id))
    shows(page, Phase.WORKING, "Resizing")
    shop.stage.report(task_id, 4, 10, "Uploading")
    expect(status(page)).to_have_text("Uploading. 4 of 10")
    shop.stage.finish(task_id)
    expect(status(page)).to_have_text("Done", timeout=SOON)


# -- buttons ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [403, 404, 503])
def test_a_button_that_did_not_work_says_so_and_can_be_pressed_again(
    shop: Shop, visit: Open, answer: int
) -> None:
    page = visit("about:blank")
    page.route("**/cancel", lambda route: route.fulfill(status=answer, body="no"))
    page.goto(shop.url(shop.stage.send(), "cancel"))
    button = page.get_by_role("button", name="Cancel")
    button.click()
    expect(card(page).locator(".trouble")).to_have_text(NOT_DONE)
    expect(status(page)).to_have_text(NOT_DONE)
    expect(button).to_be_enabled()
    page.unroute("**/cancel")
    button.click()
    shows(page, Phase.CANCELLED)
    expect(card(page)).not_to_contain_text(NOT_DONE)


def test_a_link_that_grew_too_old_meanwhile_is_told_when_a_button_is_pressed(
    shop: Shop, visit: Open
) -> None:
    lasts = 4.0
    began = time.time()
    url = shop.pages.url_for(shop.stage.send(), allow=["cancel"], lasts=lasts)
    page = visit(f"{shop.server.url}{url}")
    button = page.get_by_role("button", name="Cancel")
    expect(button).to_be_enabled()
    until(lambda: time.time() > began + lasts + 1, what="the end of the link")
    button.click()
    expect(card(page)).to_contain_text("This link does not work")


def test_a_button_without_a_connection_says_so_and_can_be_pressed_again(
    shop: Shop, visit: Open
) -> None:
    page = visit("about:blank")

    def gone(route: Route) -> None:
        route.abort()

    for way in ("events", "states", "task/*/cancel"):
        page.route(f"**/{way}", gone)
    page.goto(shop.url(shop.stage.send(), "cancel"))
    button = page.get_by_role("button", name="Cancel")
    button.click()
    expect(card(page)).to_contain_text("The connection is lost.")
    expect(button).to_be_enabled()
