"""The page of several tasks and its widget, as somebody who waits sees them."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from acked.pages.view import Phase
from tests.harness.workers import Worker, until
from tests.pages.conftest import Open, Shop, violations
from tests.pages.seeing import each, shows, whole


def is_told(page: Page, phase: Phase, text: str) -> None:
    expect(whole(page)).to_have_attribute("data-phase", phase.value)
    expect(whole(page)).to_contain_text(text)


def test_the_whole_counts_on_and_becomes_a_check_mark(
    shop: Shop, worker: Worker, visit: Open
) -> None:
    gates = [shop.gate() for _ in range(3)]
    results = shop.tasks.work.delay_many([(gate, 2) for gate in gates])
    page = visit(shop.url_of_many(results), viewport={"width": 640, "height": 700})
    is_told(page, Phase.WORKING, "0 of 3 done")
    expect(each(page)).to_have_count(3)
    bar = whole(page).get_by_role("progressbar", name="Orders of today")
    shop.let(gates[0], 2)
    is_told(page, Phase.WORKING, "1 of 3 done")
    expect(bar).to_have_attribute("aria-valuenow", "33")
    expect(each(page).nth(0)).to_have_attribute("data-phase", "done")
    expect(each(page).nth(1)).to_contain_text("Packing")
    shop.let(gates[1], 1)
    expect(bar).to_have_attribute("aria-valuenow", "50")
    for gate in gates[1:]:
        shop.let(gate, 2)
    is_told(page, Phase.DONE, "Done3 of 3 done")
    expect(whole(page).locator(".check")).to_have_css("stroke-dashoffset", "0px")
    expect(page).to_have_title("Orders of today: Done")
    page.reload()
    is_told(page, Phase.DONE, "Done3 of 3 done")


def test_one_that_failed_is_counted_and_can_be_tried_again(shop: Shop, visit: Open) -> None:
    done, failed = shop.stage.done(), shop.stage.failed()
    page = visit(shop.url_of_many([done, failed], "retry"))
    is_told(page, Phase.FAILED, "1 of 2 done, 1 failed")
    expect(each(page).nth(1)).to_contain_text("Something went wrong.")
    page.get_by_role("button", name="Try again").click()
    is_told(page, Phase.WORKING, "1 of 2 done")
    expect(each(page).nth(1)).to_have_attribute("data-phase", "waiting")


def test_a_screen_reader_hears_the_whole_and_not_each(shop: Shop, visit: Open) -> None:
    first, second = shop.stage.working(), shop.stage.working()
    page = visit(shop.url_of_many([first, second]))
    is_told(page, Phase.WORKING, "0 of 2 done")
    shop.stage.finish(first)
    said = page.locator("acked-tasks").locator("css=.unseen:not(:empty)")
    expect(said).to_have_count(1)
    expect(said).to_have_text("1 of 2 done")


def test_without_javascript_the_page_looks_again_and_its_forms_work(
    shop: Shop, visit: Open
) -> None:
    working, waiting = shop.stage.working(), shop.stage.send()
    url = shop.url_of_many([working, waiting], "cancel")
    page = visit(url, java_script_enabled=False)
    is_told(page, Phase.WORKING, "0 of 2 done")
    expect(each(page).nth(0)).to_contain_text("3 of 10")
    expect(whole(page).get_by_role("progressbar")).to_have_attribute("aria-valuenow", "15")
    shop.stage.finish(working)
    is_told(page, Phase.WORKING, "1 of 2 done")  # by itself
    each(page).nth(1).get_by_role("button", name="Cancel").click()
    expect(page.locator(".acked .headline")).to_have_text("Cancelled")  # on the task's own page
    page.goto(url)
    is_told(page, Phase.CANCELLED, "1 of 2 done, 1 cancelled")


def test_the_widget_shares_the_stream_of_the_others(shop: Shop, visit: Open) -> None:
    tasks = [shop.stage.working(), shop.stage.done()]
    page = visit("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.add_init_script(
        """window.heard = [];
        addEventListener("acked:done", (event) => heard.push(event.detail.phase));"""
    )
    many = shop.pages.token_for_many(tasks)
    one = shop.pages.token_for(shop.stage.working())
    page.goto(f"{shop.server.url}/together?t={many}&one={one}")
    is_told(page, Phase.WORKING, "1 of 2 done")
    shows(page, Phase.WORKING)
    assert (asked.count("events"), asked.count("states")) == (1, 0)
    shop.stage.finish(tasks[0])
    is_told(page, Phase.DONE, "2 of 2 done")
    assert page.evaluate("heard") == ["done"]


def test_where_streams_do_not_work_the_widget_polls(shop: Shop, visit: Open) -> None:
    task_id = shop.stage.working()
    page = visit("about:blank")
    page.route("**/events", lambda route: route.abort())
    page.goto(f"{shop.server.url}/together?t={shop.pages.token_for_many([task_id])}")
    is_told(page, Phase.WORKING, "0 of 1 done")
    shop.stage.finish(task_id)
    is_told(page, Phase.DONE, "Done")


def test_a_widget_with_a_wrong_token_says_so_and_shows_no_task(shop: Shop, visit: Open) -> None:
    page = visit(f"{shop.server.url}/together?t=nonsense")
    is_told(page, Phase.REFUSED, "This link does not work")
    expect(each(page)).to_have_count(0)


def test_another_token_shows_other_tasks(shop: Shop, visit: Open) -> None:
    tasks = [shop.stage.done() for _ in range(3)]
    first, second = shop.pages.token_for_many(tasks), shop.pages.token_for_many(tasks[:1])
    page = visit(f"{shop.server.url}/together?t={first}")
    expect(each(page)).to_have_count(3)
    page.evaluate(
        'token => document.querySelector("acked-tasks").setAttribute("token", token)', second
    )
    expect(each(page)).to_have_count(1)
    is_told(page, Phase.DONE, "1 of 1 done")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_narrow_screen_needs_no_sideways_scrolling(
    shop: Shop, visit: Open, scripts: bool
) -> None:
    tasks = [shop.stage.working(message="averylongmessagewithoutanyblank" * 3)]
    url = shop.url_of_many(tasks, "cancel", label="Orders" * 20)
    page = visit(url, viewport={"width": 320, "height": 560}, java_script_enabled=scripts)
    is_told(page, Phase.WORKING, "0 of 1 done")
    box = page.locator("main").bounding_box()
    assert box is not None
    for part in page.locator(".acked:visible").all():
        inner = part.bounding_box()
        assert inner is not None
        assert inner["x"] + inner["width"] <= 320


def test_axe_finds_nothing_light_or_dark(shop: Shop, visit: Open, axe: str) -> None:
    phases = [phase for phase in Phase if phase is not Phase.REFUSED]
    tasks = [shop.stage(phase) for phase in phases]
    page = visit("about:blank", reduced_motion="reduce", bypass_csp=True)
    page.goto(shop.url_of_many(tasks, "cancel", "retry"))
    is_told(page, Phase.WORKING, f"1 of {len(tasks)} done, 1 failed")
    until(lambda: each(page).count() == len(tasks), what="every task to be shown")
    page.evaluate(axe)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == [], scheme
