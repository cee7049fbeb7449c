"""The page and the widget as somebody who waits sees them: in a browser, with real workers."""

from __future__ import annotations

import re
import time
from pathlib import Path

from playwright.sync_api import expect

from acked.pages.view import Phase
from tests.harness.workers import Worker, until
from tests.pages.conftest import Open, Server, Shop, broker_away, on_every_broker, violations
from tests.pages.seeing import card, settles, shows, style

# -- the story of a task ---------------------------------------------------------------------------


@on_every_broker
def test_the_ring_turns_while_a_task_works_and_becomes_a_check_mark(
    shop: Shop, worker: Worker, visit: Open
) -> None:
    gate = shop.gate()
    shop.app.records.pause("held")
    result = shop.tasks.work.apply_async([gate, 1], {"message": ""}, queue="held")
    page = visit(shop.url(result))
    shows(page, Phase.WAITING, "Waiting to start")
    shop.app.records.resume("held")
    shows(page, Phase.WORKING, "Working")
    assert style(page, ".turn", "animationName") == "acked-turn"
    assert style(page, ".check", "opacity") == "0"
    shop.let(gate, 1)
    shows(page, Phase.DONE, "Done")
    settles(page, ".check", "strokeDashoffset", "0px")
    settles(page, ".disc", "opacity", "1")
    settles(page, ".turn", "animationName", "none")
    assert style(page, ".check", "opacity") == "1"
    expect(page).to_have_title("Importing customers.csv: Done")
    page.get_by_role("link", name="Open the result").click()
    expect(page.locator("body")).to_have_text("the result")


@on_every_broker
def test_steps_are_shown_as_they_come_and_a_reload_goes_on_where_it_was(
    shop: Shop, worker: Worker, visit: Open
) -> None:
    gate = shop.gate()
    result = shop.tasks.work.delay(gate, 4)
    page = visit(shop.url(result))
    bar = page.get_by_role("progressbar", name="Importing customers.csv")
    for step in (1, 2):
        shop.let(gate, step)
        shows(page, Phase.WORKING, f"{step} of 4")
        expect(bar).to_have_attribute("aria-valuenow", str(25 * step))
        expect(bar).to_have_attribute("aria-valuetext", f"{step} of 4")
    status = page.locator("acked-task").get_by_role("status").first
    expect(status).to_have_text("Packing. 2 of 4")
    page.reload()
    shows(page, Phase.WORKING, "2 of 4")
    shop.let(gate, 4)
    shows(page, Phase.DONE)
    expect(bar).to_have_attribute("aria-valuenow", "100")
    page.reload()
    shows(page, Phase.DONE)
    assert style(page, ".check", "transitionDuration") == "0s"  # it was done before


@on_every_broker
def test_a_killed_worker_is_told_as_an_interruption_and_ends_in_a_check_mark(
    shop: Shop, visit: Open
) -> None:
    first, gate = shop.work("doomed"), shop.gate()
    result = shop.tasks.work.apply_async([gate, 4], queue="doomed")
    shop.let(gate, 1)
    page = visit(shop.url(result))
    shows(page, Phase.WORKING, "1 of 4")
    shop.let(gate, 0)
    first.kill_tree()
    shop.work("doomed")
    shows(page, Phase.INTERRUPTED, "Interrupted, continuing")
    expect(card(page)).to_contain_text("It continues as soon as another worker is free.")
    shop.let(gate, 4)
    shows(page, Phase.DONE)
    settles(page, ".check", "strokeDashoffset", "0px")


@on_every_broker
def test_a_retry_is_told_with_the_time_and_the_number_of_the_run(
    shop: Shop, worker: Worker, visit: Open
) -> None:
    gate = shop.gate()
    shop.app.records.pause("held")
    page = visit(shop.url(shop.tasks.flaky.apply_async([gate], queue="held")))
    shows(page, Phase.WAITING)
    shop.app.records.resume("held")
    # One look at all of it, since it lasts a few seconds only.
    expect(card(page)).to_contain_text(
        re.compile(r"Trying again.*Tries again in [1-5]\ss.*Attempt 2 of 5")
    )
    assert "the-inner-reason" not in page.content()
    shows(page, Phase.WORKING, "Attempt 2 of 5")
    shop.let(gate, 1)
    shows(page, Phase.DONE, "at last")


@on_every_broker
def test_a_failure_is_announced_without_its_text_and_can_be_tried_again(
    shop: Shop, worker: Worker, visit: Open
) -> None:
    shop.app.records.pause("held")
    result = shop.tasks.fails.apply_async(["the-inner-reason"], queue="held")
    page = visit(shop.url(result, "retry"))
    shows(page, Phase.WAITING)
    shop.app.records.resume("held")
    shows(page, Phase.FAILED, "Something went wrong.")
    expect(page.locator("acked-task").get_by_role("alert")).to_have_text(
        "Failed. Something went wrong."
    )
    assert "the-inner-reason" not in page.content()
    shop.app.records.pause("held")
    page.get_by_role("button", name="Try again").click()
    shows(page, Phase.WAITING)


@on_every_broker
def test_a_running_task_is_cancelled_with_its_button(
    shop: Shop, worker: Worker, visit: Open
) -> None:
    result = shop.tasks.work.delay(shop.gate(), 2)
    page = visit(shop.url(result, "cancel"))
    shows(page, Phase.WORKING)
    page.get_by_role("button", name="Cancel").click()
    shows(page, Phase.CANCELLED, "Cancelled")
    expect(page.get_by_role("button")).to_have_count(0)


def test_a_countdown_counts_down(shop: Shop, visit: Open) -> None:
    page = visit(shop.url(shop.stage.trying_again(wait=40)))
    shows(page, Phase.TRYING_AGAIN)
    facts = card(page).locator(".facts")

    def seconds() -> int:
        found = re.search(r"in (\d+)\s", facts.inner_text())
        return int(found[1]) if found else 0

    first = seconds()
    assert 0 < first <= 40
    until(lambda: 0 < seconds() < first, what="the countdown to go on")


@on_every_broker
def test_every_phase_is_shown_as_what_it_is(shop: Shop, visit: Open) -> None:
    phases = [each for each in Phase if each is not Phase.REFUSED]
    tokens = [shop.pages.token_for(shop.stage(phase)) for phase in phases]
    page = visit(f"{shop.server.url}/several?" + "&".join(f"t={each}" for each in tokens))
    for index, phase in enumerate(phases):
        shows(page, phase, index=index)


# -- without JavaScript ----------------------------------------------------------------------------


@on_every_broker
def test_without_javascript_the_page_looks_again_and_its_forms_work(
    shop: Shop, visit: Open
) -> None:
    task_id = shop.stage.working()
    waiting = shop.stage.send()
    page = visit(shop.url(task_id), java_script_enabled=False)
    shows(page, Phase.WORKING, "3 of 10")
    held = shop.app.records.get(task_id)
    progress = type(held.progress)(done=7, total=10, message="Packing", at=shop.stage.now)
    assert shop.app.records.report(task_id, held.token, progress)
    shows(page, Phase.WORKING, "7 of 10")  # by itself
    page.goto(shop.url(waiting, "cancel", "retry"))
    page.get_by_role("button", name="Cancel").click()
    shows(page, Phase.CANCELLED)
    page.get_by_role("button", name="Try again").click()
    shows(page, Phase.WAITING)
    page.get_by_role("link", name="Look again").click()
    shows(page, Phase.WAITING)


# -- one page, many tasks --------------------------------------------------------------------------


def test_many_widgets_of_a_page_share_one_stream(shop: Shop, visit: Open) -> None:
    phases = [Phase.WORKING, Phase.DONE, Phase.FAILED, Phase.WAITING]
    tokens = [shop.pages.token_for(shop.stage(phase)) for phase in phases]
    page = visit("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.goto(f"{shop.server.url}/several?" + "&".join(f"t={each}" for each in tokens))
    for index, phase in enumerate(phases):
        shows(page, phase, index=index)
    assert (asked.count("events"), asked.count("states")) == (1, 0)


def test_a_widget_tells_its_page_of_each_change_and_of_the_end(shop: Shop, visit: Open) -> None:
    waiting = shop.stage.send()
    page = visit("about:blank")
    page.add_init_script(
        """window.heard = [];
        for (const name of ["acked:change", "acked:done"]) {
            addEventListener(name, (event) => heard.push([name, event.detail.phase]));
        }"""
    )
    page.goto(f"{shop.server.url}/several?t={shop.pages.token_for(waiting)}")
    shows(page, Phase.WAITING)
    shop.app.AsyncResult(waiting).revoke()
    shows(page, Phase.CANCELLED)
    assert page.evaluate("heard") == [
        ["acked:change", "waiting"], ["acked:change", "cancelled"], ["acked:done", "cancelled"],
    ]  # fmt: skip


# -- bad connections -------------------------------------------------------------------------------


def test_where_streams_do_not_work_the_widget_polls(shop: Shop, visit: Open) -> None:
    task_id = shop.stage.send()
    page = visit("about:blank")
    page.route("**/events", lambda route: route.abort())
    page.goto(shop.url(task_id))
    shows(page, Phase.WAITING)
    shop.app.AsyncResult(task_id).revoke()
    shows(page, Phase.CANCELLED)


def test_a_tab_that_nobody_looks_at_holds_no_connection(shop: Shop, visit: Open) -> None:
    page = visit("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.add_init_script(
        """window.looked_at = false;
        Object.defineProperty(document, "hidden", { get: () => !window.looked_at });"""
    )
    page.goto(shop.url(shop.stage.working()))
    shows(page, Phase.WORKING)
    assert ("states" in asked, "events" in asked) == (True, False)
    with page.expect_request("**/events"):
        page.evaluate(
            """() => {
                window.looked_at = true;
                document.dispatchEvent(new Event("visibilitychange"));
            }"""
        )


def test_a_server_that_is_away_is_told_and_found_again(shop: Shop, visit: Open) -> None:
    task_id = shop.stage.send()
    server = Server(shop.directory, shop.environment)
    page = visit(f"{server.url}{shop.pages.url_for(task_id)}")
    shows(page, Phase.WAITING)
    server.stop()
    expect(card(page)).to_contain_text("The connection is lost.")
    server = Server(shop.directory, shop.environment, server.port)
    try:
        shop.app.AsyncResult(task_id).revoke()
        shows(page, Phase.CANCELLED)
        expect(card(page)).not_to_contain_text("The connection is lost.")
    finally:
        server.stop()


def test_a_server_that_never_answered_is_told_as_well(shop: Shop, visit: Open) -> None:
    page = visit("about:blank")
    for way in ("events", "states"):
        page.route(f"**/{way}", lambda route: route.abort())
    page.goto(shop.url(shop.stage.send()))
    expect(card(page)).to_contain_text("The connection is lost.")
    expect(card(page)).to_contain_text("Importing customers.csv")
    page.goto(f"{shop.server.url}/several?t={shop.pages.token_for(shop.stage.send())}")
    expect(card(page)).to_contain_text("There is no connection.")


def test_the_first_state_comes_with_the_page(shop: Shop, visit: Open) -> None:
    page = visit("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.goto(shop.url(shop.stage.done()))
    shows(page, Phase.DONE)
    expect(page).to_have_title("Importing customers.csv: Done")
    page.wait_for_timeout(300)
    assert {"events", "states"}.isdisjoint(asked), "it has ended: there is nothing to wait for"


def test_a_stream_that_ends_is_opened_again(shop: Shop, visit: Open) -> None:
    task_id = shop.stage.send()
    server = Server(shop.directory, {**shop.environment, "PAGES_LIFETIME": "0.5"})
    try:
        page = visit("about:blank")
        asked: list[float] = []
        page.on("request", lambda r: asked.append(time.monotonic()) if "events" in r.url else None)
        page.goto(f"{server.url}{shop.pages.url_for(task_id)}")
        shows(page, Phase.WAITING)
        until(lambda: page.wait_for_timeout(50) or len(asked) >= 3, what="a third stream")
        shop.app.AsyncResult(task_id).revoke()
        shows(page, Phase.CANCELLED)
    finally:
        server.stop()


# -- wrong links -----------------------------------------------------------------------------------


def test_a_link_that_does_not_work_says_so_and_asks_no_more(shop: Shop, visit: Open) -> None:
    page = visit("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{shop.server.url}/tasks/task/nonsense")
    expect(page.locator("body")).to_contain_text("This link does not work")
    assert [url.rpartition("/")[2] for url in asked] == ["nonsense", "acked-task.css"]
    page.goto(f"{shop.server.url}/several?t=nonsense")
    shows(page, Phase.REFUSED)


# -- for everybody ---------------------------------------------------------------------------------


def test_axe_finds_nothing_on_any_phase_light_or_dark(shop: Shop, visit: Open, axe: str) -> None:
    # axe tries things out with inline styles, which the pages would forbid.
    page = visit("about:blank", reduced_motion="reduce", bypass_csp=True)
    for phase in (each for each in Phase if each is not Phase.REFUSED):
        page.goto(shop.url(shop.stage(phase), "cancel", "retry"))
        shows(page, phase)
        page.evaluate(axe)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == [], (phase, scheme)
    page.goto(f"{shop.server.url}/tasks/task/nonsense")
    page.evaluate(axe)
    assert violations(page) == []


def test_axe_finds_nothing_where_nothing_can_be_seen_light_or_dark(
    shop: Shop, visit: Open, axe: str
) -> None:
    with broker_away(shop) as url:
        page = visit(url, reduced_motion="reduce", bypass_csp=True)
        expect(card(page)).to_contain_text("It cannot be seen at the moment")
        page.evaluate(axe)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == [], scheme


def test_axe_finds_nothing_on_a_page_of_many_widgets_light_or_dark(
    shop: Shop, visit: Open, axe: str
) -> None:
    phases = list(Phase)
    tokens = [
        "nonsense" if phase is Phase.REFUSED else shop.pages.token_for(shop.stage(phase))
        for phase in phases
    ]
    page = visit("about:blank", reduced_motion="reduce", bypass_csp=True)
    page.goto(f"{shop.server.url}/several?" + "&".join(f"t={each}" for each in tokens))
    for index, phase in enumerate(phases):
        shows(page, phase, index=index)
    page.evaluate(axe)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == [], scheme


def test_whoever_wants_no_motion_gets_none(shop: Shop, visit: Open) -> None:
    page = visit(shop.url(shop.stage.working(total=0)), reduced_motion="reduce")
    shows(page, Phase.WORKING)
    assert style(page, ".turn", "animationName") == "none"


def test_a_narrow_screen_needs_no_sideways_scrolling(shop: Shop, visit: Open) -> None:
    label = "Importing " + "averylongnamewithoutanyblank" * 4
    page = visit(
        shop.url(shop.stage.working(), "cancel", label=label),
        viewport={"width": 320, "height": 560},
    )
    shows(page, Phase.WORKING)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_files_of_the_widget_stay_small() -> None:
    static = Path(__file__).resolve().parents[2] / "src/acked/pages/static"
    scripts = list(static.glob("*.js"))
    assert sum(each.stat().st_size for each in scripts) < 25_000
    assert all(len(each.read_text().splitlines()) < 400 for each in scripts)
