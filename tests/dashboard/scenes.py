"""Every state that a page of the dashboard can be in, by the name of its picture.

The pictures of the docs and the tests of all pages go by this list, so that what is drawn is what
is tested.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import uvicorn
from msgspec import Raw
from playwright.sync_api import Page

from acked import Acked
from acked.dashboard import Dashboard
from acked.dashboard.finding import TEXT_WINDOW
from acked.message import Message, new_ids
from tests.dashboard.staging import Shop
from tests.servers.server import free_port

Scene = Callable[[Page], object]
"""Brings a page, of somebody who has logged in, into a state."""

LETTERS = "letters"
"""A queue with more tasks than a search looks at, and than a step takes."""


@contextlib.contextmanager
def served(site: Dashboard) -> Iterator[str]:
    """The address of *site* while it is served."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(site, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@contextlib.contextmanager
def without_a_broker() -> Iterator[str]:
    """The address of a dashboard whose broker does not answer."""
    app = Acked("shop", broker="redis://127.0.0.1:1/0")
    with served(Dashboard(app, open_to_this_host=True)) as url:
        yield url
    app.close()


def write_letters(shop: Shop) -> None:
    """Send the tasks of `LETTERS`, the last that are sent."""
    messages = [
        Message(
            id=each, task="shop.mail", args=Raw(b'["ada@example.org","Hello"]'), queue=LETTERS,
            sent=shop.now,
        )
        for each in new_ids(TEXT_WINDOW)
    ]  # fmt: skip
    for start in range(0, len(messages), 5_000):
        shop.store.send(messages[start : start + 5_000])


def looked_at(*, failed: str, again: str, running: str) -> dict[str, str]:
    """Paths of the pages that are only looked at.

    Args:
        failed, again, running: Ids of a task that failed, of one that waits for a retry, and of
            one that runs.
    """
    return {
        "overview": "/",
        "day": "/?span=day",
        "tasks": "/tasks",
        "search": "/tasks?state=FAILURE&error=did+not+answer&since=2h",
        "task": f"/task?id={again}",
        "running": f"/task?id={running}",
        "no-such-task": "/task?id=nothing",
        "failures": "/failures",
        "dead": "/dead",
        "waiting": "/waiting",
        "queues": "/queues",
        "workers": "/workers",
        "registered": "/registered",
        "run": f"/run?again={failed}",
        "confirm-retry": "/confirm/retry?matching=1&state=FAILURE&task=shop.scan",
        "confirm-revoke": "/confirm/revoke?matching=1&queue=mails",
        "confirm-terminate": f"/confirm/terminate?selected={running}",
        "confirm-discard": f"/confirm/discard?selected={failed}&selected={again}",
        "confirm-pause": "/confirm/pause?queue=default",
        "confirm-resume": "/confirm/resume?queue=mails",
        "confirm-purge": "/confirm/purge?queue=mails",
    }


def scenes(
    url: str, away: str, shop: Shop, *, failed: str, again: str, running: str
) -> dict[str, Scene]:
    """What only looks, and then what changes something, in an order in which the former is not
    disturbed. Queue ``mails`` must have tasks; the first scene that needs them sends `LETTERS`.

    Args:
        url, away: Addresses of the dashboard, and of one whose broker does not answer.
    """

    def look(path: str) -> Scene:
        return lambda page: page.goto(url + path)

    def forbidden(page: Page) -> None:
        page.goto(f"{url}/run?task=shop.scan")
        page.evaluate("document.querySelector('main [name=token]').value = '0'")
        page.get_by_role("button", name="Go on").click()
        page.wait_for_selector("h1:text('Not permitted')")

    def wrong_call(page: Page) -> None:
        page.goto(f"{url}/run?task=shop.scan")
        page.get_by_label("Positional arguments").fill('["https://shop.example/"')
        page.get_by_role("button", name="Go on").click()
        page.wait_for_selector("[role=alert]:visible")

    def asked(page: Page) -> None:
        page.goto(f"{url}/run?task=shop.scan")
        page.get_by_label("Positional arguments").fill('["https://shop.example/"]')
        page.get_by_label("Keyword arguments").fill("{}")
        page.get_by_role("button", name="Go on").click()
        page.wait_for_selector("button:text('Run it')")

    def further(page: Page) -> None:
        if LETTERS not in {each.queue for each in shop.app.records.counts()}:
            write_letters(shop)
        page.goto(f"{url}/tasks?text=orders")
        page.wait_for_selector("text=Look further back")

    def go_on(page: Page) -> None:
        page.goto(f"{url}/confirm/revoke?matching=1&queue={LETTERS}")
        page.locator("main form button").click()
        page.wait_for_selector("button:text('Go on')")

    def done(page: Page) -> None:
        page.goto(f"{url}/confirm/resume?queue=mails")
        page.locator("main form button").click()
        page.wait_for_selector(".notice")

    paths = looked_at(failed=failed, again=again, running=running)
    return {
        **{name: look(path) for name, path in paths.items()},
        "run-wrong": wrong_call,
        "run-confirm": asked,
        "forbidden": forbidden,
        "away": lambda page: page.goto(away),
        "further": further,
        "go-on": go_on,
        "done": done,
        "audit": look("/audit"),
    }
