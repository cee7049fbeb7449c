"""Whatever a task, its sender or a stranger can choose is hostile here, on every page, in a real
browser: with the Content-Security-Policy, which must have nothing to forbid, and without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from msgspec import Raw
from playwright.sync_api import Browser, Page, expect

from acked.broker import Beat
from acked.dashboard.deeds import DEEDS, STEP
from acked.dashboard.site import LOOKING
from acked.delivery import Delivery, Failure, Settlement
from acked.message import Message, new_ids
from acked.record import Progress
from acked.tally import Count
from tests.dashboard.conftest import PASSWORD, Ops
from tests.dashboard.staging import with_log
from tests.pages.conftest import TOLD, Open
from tests.pages.hostile import HOSTILE, SCRIPTED, assert_harmless, hurt, planted

expect.set_options(timeout=TOLD)

QUEUE = (
    '</title></textarea>"\'><img src=x onerror=window.hurt=2>" autofocus onfocus=window.hurt=3 x="'
)
"""As long as a queue's name may be, and without line breaks: a form would send others."""
FAILURE = Failure(HOSTILE, HOSTILE, f"Traceback\n{HOSTILE}\n{HOSTILE}")
POISON = Failure("WorkerLostError", f"{HOSTILE}; poison: {HOSTILE}", HOSTILE)
JSON = Raw(json.dumps({HOSTILE: [HOSTILE, SCRIPTED, {HOSTILE: HOSTILE}]}).encode())
ARGUMENTS = Raw(b"[%b]" % bytes(JSON))


class Scene:
    """Tasks in every state of which every field that somebody chooses is hostile."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops
        self.store = ops.app.broker
        self.now = ops.shop.now
        self.beat(lease=86_400.0)
        self.ids = {
            "failed": self.end("failed", lambda held: self.failed(held, FAILURE)),
            "dead": self.end("dead", lambda held: self.failed(held, POISON, loss=True)),
            "done": self.end("done", self.done),
            "retrying": self.end("retrying", self.retried),
            "lost": self.end("lost", self.lost),
            "running": self.running(),
            "waiting": self.send("waiting"),
            "revoked": self.send("revoked"),
            "known": self.send("known", task="shop.scan"),
            "unreadable": self.send("unreadable", args=JSON),
        }
        ops.app.records.revoke([self.ids["revoked"]])
        minute = int(self.now // 60)
        ops.app.records.count(
            [
                Count(minute - 1, QUEUE, HOSTILE, what, 3)
                for what in ("success", "failure", "run:9", "wait:9")
            ]
        )

    def beat(self, lease: float) -> None:
        self.store.renew(
            Beat(
                worker=self.worker, host=HOSTILE, pid=1, started=self.now, memory=1,
                queues=(QUEUE, SCRIPTED), processes=1, lease=lease,
            )
        )  # fmt: skip

    worker = HOSTILE.replace("/", "\u2044")  # what is behind a slash is the process

    def send(self, name: str, task: str = HOSTILE, args: Raw = ARGUMENTS) -> str:
        task_id = f"{name} {HOSTILE}"
        message = Message(
            id=task_id, task=task, args=args, kwargs=JSON, queue=QUEUE,
            sent=self.now, headers={HOSTILE: HOSTILE}, parent_id=HOSTILE, root_id=HOSTILE,
        )  # fmt: skip
        self.store.send([message])
        return task_id

    def claim(self, task_id: str) -> Delivery:
        (held,) = self.store.claim(f"{self.worker}/0", [QUEUE], 1).deliveries
        assert held.id == task_id
        return held

    def running(self) -> str:
        task_id = self.send("running")
        held = self.claim(task_id)
        progress = Progress(
            done=1, total=2, message=HOSTILE, meta={HOSTILE: HOSTILE}, state=HOSTILE, at=self.now
        )
        assert self.store.report(task_id, held.token, progress)
        return task_id

    def end(self, name: str, how: Callable[[Delivery], Settlement]) -> str:
        task_id = self.send(name)
        settled = with_log(how(self.claim(task_id)), f"{HOSTILE}\n{HOSTILE}")
        settled = msgspec.structs.replace(settled, reason=HOSTILE)
        assert self.store.settle([settled]) == []
        return task_id

    def failed(self, held: Delivery, failure: Failure, *, loss: bool = False) -> Settlement:
        return Settlement.fail(held, at=self.now, started=self.now, failure=failure, loss=loss)

    def done(self, held: Delivery) -> Settlement:
        return Settlement.succeed(held, at=self.now, started=self.now, result=bytes(JSON))

    def retried(self, held: Delivery) -> Settlement:
        return Settlement.retry(
            held, at=self.now, started=self.now, not_before=self.now + 3_600, reason=HOSTILE,
            failure=FAILURE,
        )  # fmt: skip

    def lost(self, held: Delivery) -> Settlement:
        return Settlement.lost(
            held, at=self.now, started=self.now, not_before=self.now + 3_600, failure=FAILURE
        )

    def paths(self) -> list[str]:
        """Every page there is. One whose address has parameters is named here with them."""
        fields = ("id", "task", "worker", "text", "error", "since", "until")
        search = {**dict.fromkeys(fields, HOSTILE), "queue": QUEUE}
        with_parameters = {
            "/tasks": [
                *({name: value} for name, value in search.items()), search,
                {"state": "FAILURE"}, {"state": HOSTILE}, {"before": HOSTILE},
            ],
            "/task": [*({"id": each} for each in self.ids.values()), {"id": HOSTILE}],
            "/run": [
                {"again": self.ids["known"]}, {"again": self.ids["unreadable"]},
                {"again": HOSTILE}, {"task": HOSTILE}, {"task": "shop.scan"},
            ],
            "/": [{"span": "day"}, {"span": HOSTILE}, {"entry": HOSTILE}],
        }  # fmt: skip
        found = [path for path in LOOKING if "{" not in path]
        found += [
            f"{path}?{urlencode(each)}" for path, many in with_parameters.items() for each in many
        ]
        for name, deed in DEEDS.items():
            asked: list[dict[str, str]] = [{"queue": QUEUE}]
            if deed.for_tasks:
                asked = [
                    *({"selected": each} for each in self.ids.values()),
                    {"matching": "1", "queue": QUEUE}, {"matching": "1", "text": HOSTILE},
                ]  # fmt: skip
            found += [f"/confirm/{name}?{urlencode(each)}" for each in asked]
        return [*found, f"/confirm/{quote(HOSTILE.replace('/', ''))}", f"/{quote(HOSTILE)}"]


def do_something(ops: Ops, page: Page) -> None:
    """Leave hostile lines in the audit: of an operator, and of a stranger."""
    page.goto(f"{ops.url}/confirm/pause?queue={quote(QUEUE)}")
    page.locator("main form button").click()
    expect(page.locator(".notice")).to_contain_text("Pause")
    assert_harmless(page, "what was done")
    page.request.post(
        f"{ops.url}/do/{quote(HOSTILE.replace('/', ''))}", form={"token": HOSTILE},
        headers={"x-forwarded-for": "<img src=x onerror=window.hurt=1>"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def scene(ops: Ops) -> Scene:
    return Scene(ops)


@pytest.fixture
def page(scene: Scene, visit: Open) -> Iterator[Page]:
    """Of somebody who typed a hostile name first, and then his own. Without the policy, which would
    keep scripts from running that a page took for its own."""
    page = visit(f"{scene.ops.url}/login?next={quote(HOSTILE)}", bypass_csp=True)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_label("Password").fill(HOSTILE)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert_harmless(page, "the login")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("navigation", name="Pages", exact=True)).to_be_visible()
    yield page
    assert dialogs == []


def test_the_hostile_text_would_run_where_a_page_took_it_for_markup(
    browser: Browser,
) -> None:
    for place in ("<p>{}</p>", '<p title="{}">', "<title>{}</title>", "<textarea>{}</textarea>",
                  "<script>'{}'</script>"):  # fmt: skip
        with browser.new_page() as page:
            page.set_content(place.format(HOSTILE))
            page.wait_for_function("window.hurt", timeout=TOLD)
            assert hurt(page) and planted(page), place


def test_no_page_takes_a_hostile_text_for_markup(scene: Scene, page: Page) -> None:
    do_something(scene.ops, page)
    for path in scene.paths():
        page.goto(scene.ops.url + path)
        assert_harmless(page, path)


def test_every_hostile_field_is_shown_somewhere(scene: Scene, page: Page) -> None:
    """Or else the test above would look at pages that leave them out."""
    do_something(scene.ops, page)
    shown = {
        "/workers": "[scope=row], td", "/queues": "[scope=row]", "/audit": "td:nth-child(6)",
        "/failures": ".cause, .task", "/dead": ".task, .why", "/waiting": ".task, .why",
        "/": "#times [scope=row], #newest .why, #workers [scope=row]",
        f"/task?id={quote(scene.ids['failed'])}": "h1, .reason, .facts, #story pre",
        f"/task?id={quote(scene.ids['running'])}": ".progress, .progress + .data, .arguments",
        f"/task?id={quote(scene.ids['done'])}": "section:last-child .data",
        f"/run?again={quote(scene.ids['known'])}": "textarea",
        f"/confirm/retry?selected={quote(scene.ids['failed'])}": ".task, .why",
        f"/confirm/retry?matching=1&queue={quote(QUEUE)}": "p, .task, .why",
        f"/confirm/purge?queue={quote(QUEUE)}": "h1, button",
    }  # fmt: skip
    for path, places in shown.items():
        page.goto(scene.ops.url + path)
        for place in places.split(", "):
            found = page.locator(f"main :is({place})", has_text="<img src=x onerror=")
            assert found.count(), (path, place)


def test_no_page_that_looks_again_takes_a_hostile_text_for_markup(scene: Scene, page: Page) -> None:
    for path in ("/", "/tasks", "/workers", f"/task?id={quote(scene.ids['running'])}"):
        page.goto(scene.ops.url + path)
        # What the fresh page does not have, looking again takes away.
        page.evaluate("document.querySelector('[data-live]').dataset.before = 'yes'")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("[data-before]")).to_have_count(0)
        assert_harmless(page, path)


def test_no_answer_to_a_form_takes_a_hostile_text_for_markup(scene: Scene, page: Page) -> None:
    fields: dict[str, Any] = dict.fromkeys(
        ("Task", "Positional arguments", "Keyword arguments", "Queue", "Countdown", "Priority"),
        HOSTILE,
    )
    for task in (HOSTILE, "shop.scan"):
        page.goto(f"{scene.ops.url}/run")
        for label, text in {**fields, "Task": task}.items():
            page.get_by_label(label).fill(text)
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert_harmless(page, f"run {task[:9]}")
    page.goto(f"{scene.ops.url}/run?task=shop.scan")
    page.get_by_label("Positional arguments").fill(json.dumps([HOSTILE]))
    page.get_by_label("Keyword arguments").fill("{}")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="Run it")).to_be_visible()
    expect(page.locator("main pre, main .data").first).to_contain_text("<img src=x onerror=")
    assert_harmless(page, "what is asked before a run")


def test_no_step_of_many_takes_a_hostile_text_for_markup(scene: Scene, page: Page) -> None:
    queue = f"many {QUEUE}"
    scene.store.send(
        [Message(id=each, task=HOSTILE, queue=queue, sent=scene.now) for each in new_ids(STEP + 1)]
    )
    page.goto(f"{scene.ops.url}/confirm/discard?matching=1&state=QUEUED&queue={quote(queue)}")
    assert_harmless(page, "what is asked")
    page.locator("main form button").click()
    expect(page.locator("h1")).to_contain_text("tasks discarded so far")
    expect(page.locator("main")).to_contain_text("<img src=x")
    assert_harmless(page, "so far")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".notice")).to_contain_text("<img src=x")
    assert_harmless(page, "all of them")
