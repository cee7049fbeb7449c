"""The dashboard as an operator sees it: in a browser, with a real worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from acked.dashboard.deeds import DEEDS
from acked.dashboard.site import LOOKING
from acked.delivery import Failure, State
from tests.dashboard.conftest import PASSWORD, Ops, on_every_broker
from tests.dashboard.scenes import Scene, looked_at, scenes, without_a_broker
from tests.harness.workers import until
from tests.pages.conftest import TOLD, Open, violations

expect.set_options(timeout=TOLD)

WIDE = {"viewport": {"width": 1200, "height": 800}}


@pytest.fixture
def enter(ops: Ops, visit: Open) -> Any:
    """Open the dashboard and log in."""

    def entered(path: str = "/", **options: Any) -> Page:
        page = visit(ops.url + path, **{**WIDE, **options})
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("navigation", name="Pages", exact=True)).to_be_visible()
        page.wait_for_load_state()  # and its script has run
        return page

    return entered


def failed(ops: Ops) -> str:
    """A task that the worker has run, in vain."""
    task_id: str = ops.tasks.scan.delay("http://wrong.example/1").id
    until(lambda: ops.app.records.get(task_id).state is State.FAILURE, what="the failure")
    return task_id


@on_every_broker
def test_a_failed_task_is_found_understood_edited_and_run_again(ops: Ops, enter: Any) -> None:
    task_id = failed(ops)
    page = enter("/failures")
    row = page.locator("#groups tbody tr", has_text="no such page")
    row.get_by_role("link", name="Tasks").click()
    expect(page).to_have_url(re.compile(r"state=FAILURE.*error=no"))
    page.locator("#tasks").get_by_role("link", name=task_id[-12:]).click()
    expect(page.locator("h1")).to_contain_text("FAILURE")
    story = page.locator("#story")
    expect(story).to_contain_text("ValueError: no such page")
    expect(story.locator("pre").first).to_contain_text("in scan")
    story.get_by_text("Log, 1 line").click()
    expect(story).to_contain_text("scanning http://wrong.example/1")
    page.get_by_role("link", name="Edit and run again").click()
    page.get_by_label("Positional arguments").fill('["http://right.example/1"]')
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Run it").click()
    expect(page.locator(".notice")).to_contain_text("Send: shop.scan")
    expect(page.locator("h1")).to_contain_text("shop.scan")
    expect(page.locator("#story")).to_contain_text("scanned http://right.example/1")


@on_every_broker
def test_all_that_match_are_retried_after_a_question(ops: Ops, enter: Any) -> None:
    ids = [failed(ops), failed(ops)]
    runs = [ops.app.records.get(each).runs for each in ids]
    page = enter("/tasks?state=FAILURE&text=wrong.example")
    page.get_by_role("link", name="Retry all that match").click()
    expect(page.locator("h1")).to_contain_text("Retry")
    page.locator("main").get_by_role("button").click()
    expect(page.locator(".notice")).to_contain_text(
        "state FAILURE, arguments contain wrong.example"
    )
    until(lambda: [ops.app.records.get(each).runs for each in ids] > runs, what="them to run again")


@on_every_broker
def test_a_page_follows_a_running_task_and_keeps_what_was_unfolded(ops: Ops, enter: Any) -> None:
    gate = ops.directory / "gate"
    task_id = ops.tasks.pack.delay(str(gate)).id
    until(lambda: ops.app.records.get(task_id).progress, what="progress")
    page = enter(f"/task?id={task_id}")
    expect(page.locator("#story .progress")).to_contain_text("0 of 4")
    page.evaluate("window.stayed = true")
    gate.touch()
    expect(page.locator("#story")).to_contain_text("success")
    expect(page.locator(".box.here")).to_have_text("SUCCESS")
    assert page.evaluate("window.stayed")


def test_live_updates_are_paused_and_stop_in_a_hidden_tab(ops: Ops, enter: Any) -> None:
    page = enter("/queues")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_request("**/queues"):
        pass
    page.get_by_role("button", name="Live").click()
    expect(page.get_by_role("button", name="Paused")).to_be_visible()
    page.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { value: true, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    page.keyboard.press("p")
    asked.clear()
    page.wait_for_timeout(3_200)
    assert asked == []
    with page.expect_request("**/queues"):
        page.evaluate(
            """() => {
                delete document.hidden;
                document.dispatchEvent(new Event("visibilitychange"));
            }"""
        )


@on_every_broker
def test_selected_tasks_are_revoked_and_stay_selected_while_the_page_looks_again(
    ops: Ops, enter: Any
) -> None:
    ids = [ops.shop.send("shop.scan", number, queue="aside") for number in range(3)]
    page = enter("/tasks?queue=aside")
    for task_id in ids[:2]:
        page.locator(f'input[value="{task_id}"]').check()
    with page.expect_request("**/tasks?queue=aside"):
        pass
    page.wait_for_timeout(300)
    expect(page.locator(f'input[value="{ids[0]}"]')).to_be_checked()
    page.locator("#chosen").get_by_role("button", name="Revoke").click()
    expect(page.locator("h1")).to_have_text("Revoke 2 tasks?")
    page.get_by_role("button", name="Revoke 2 tasks").click()
    expect(page.locator(".notice")).to_contain_text("2 tasks")
    states = [ops.app.records.get(each).state for each in ids]
    assert states == [State.REVOKED, State.REVOKED, State.QUEUED]


def test_keys_search_move_open_and_explain(ops: Ops, enter: Any) -> None:
    ids = [ops.shop.send("shop.scan", number, queue="keys") for number in range(3)]
    page = enter("/queues")
    page.keyboard.press("/")
    expect(page.get_by_label("Id", exact=True)).to_be_focused()
    page.get_by_label("Queue").fill("keys")
    page.keyboard.press("Enter")
    expect(page.locator("#tasks tbody tr")).to_have_count(3)
    page.wait_for_load_state()
    for key in "jjk":
        page.keyboard.press(key)
    expect(page.locator("#tasks a", has_text=ids[2][-12:])).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator(f'input[value="{ids[1]}"]')).to_be_checked()
    page.locator("#tasks a", has_text=ids[1][-12:]).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"id={ids[1]}"))
    page.wait_for_load_state()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("w")
    expect(page.locator("h1")).to_have_text("Workers")
    expect(page.locator("#workers")).to_contain_text("2")


@on_every_broker
def test_a_queue_is_paused_without_javascript(ops: Ops, enter: Any) -> None:
    ops.shop.send("shop.scan", "x", queue="plain")
    page = enter("/queues", java_script_enabled=False)
    until(lambda: page.reload() and page.get_by_text("Pause plain").count(), what="the queue")
    page.get_by_role("link", name="Pause plain").click()
    page.get_by_role("button", name="Pause the queue plain").click()
    expect(page.locator("#queues tr", has_text="plain")).to_contain_text("paused")
    page.get_by_role("link", name="Audit").click()
    expect(page.locator("#audit tbody tr").first).to_contain_text("pause")
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("h1")).to_have_text("Log in")
    page.goto(f"{ops.url}/queues")
    expect(page.locator("h1")).to_have_text("Log in")


@pytest.fixture(scope="module")
def states(ops: Ops) -> Iterator[dict[str, Scene]]:
    """Every page, in every state, with something on it."""
    again = ops.shop.retried("shop.scan", "u", failure=Failure("ValueError", "x"), queue="axe")
    running = ops.shop.running("shop.scan", "u", queue="axe", done=1, total=3, message="On it")
    ops.shop.send("shop.mail", "ada@example.org", "Hello", queue="mails")
    ops.app.records.pause("mails")
    with without_a_broker() as away:
        yield scenes(
            ops.url, away, ops.shop, failed=failed(ops), again=again, running=running
        )  # fmt: skip


def test_every_page_is_among_the_states_that_are_tested_and_drawn() -> None:
    paths = looked_at(failed="a", again="b", running="c").values()
    known = {"/audit", *(path.partition("?")[0] for path in paths)}
    assert known == {
        each for path in LOOKING for each in (path.replace("{deed}", deed) for deed in DEEDS)
    }


def test_axe_finds_nothing_on_any_page_light_or_dark(
    states: dict[str, Scene], ops: Ops, enter: Any, visit: Open, axe: str
) -> None:
    # axe tries things out with inline styles, which the pages would forbid.
    outside = visit(f"{ops.url}/login", bypass_csp=True)
    outside.evaluate(axe)
    assert violations(outside) == []
    page = enter(bypass_csp=True)
    for name, show in states.items():
        show(page)
        page.evaluate(axe)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == [], (name, scheme)


def test_a_narrow_screen_needs_no_sideways_scrolling(states: dict[str, Scene], enter: Any) -> None:
    page = enter(viewport={"width": 360, "height": 700})
    for name, show in states.items():
        show(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name


def test_the_script_and_the_styles_stay_small() -> None:
    static = Path(__file__).resolve().parents[2] / "src/acked/dashboard/static"
    assert (static / "dashboard.js").stat().st_size < 12_000
    assert (static / "dashboard.css").stat().st_size < 24_000
