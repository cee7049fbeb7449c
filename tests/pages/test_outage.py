"""Open pages while a real broker is stopped, or hangs, and when it is back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import expect

from acked.pages.view import Phase
from tests.harness.places import Place
from tests.pages.conftest import Open, Shop
from tests.pages.seeing import card, each, shows, whole
from tests.servers.redis import RedisServer

LOST = "The connection is lost."
PATIENCE = 30_000
"""Milliseconds: the pages wait some seconds before they say it, and look again every few."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A broker that is this test's alone."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def outage(server: RedisServer, tmp_path: Path) -> Iterator[Shop]:
    """A site on that broker."""
    before = dict(os.environ)
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack, Place("redis", server.fresh(), None, server))
        stack.callback(shop.app.close)
        stack.callback(shop.server.stop)
        yield shop
        server.thaw()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("away", "back"),
    [(RedisServer.stop, RedisServer.start), (RedisServer.freeze, RedisServer.thaw)],
    ids=["stopped", "hanging"],
)
def test_a_stream_tells_that_the_broker_is_away_and_goes_on_when_it_is_back(
    outage: Shop,
    server: RedisServer,
    visit: Open,
    away: Callable[[RedisServer], object],
    back: Callable[[RedisServer], object],
) -> None:
    task_id = outage.stage.working(done=1, total=100)
    page = visit("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.goto(outage.url(task_id))
    shows(page, Phase.WORKING, "left")
    away(server)
    expect(card(page)).to_contain_text(LOST, timeout=PATIENCE)
    shows(page, Phase.WORKING, "1 of 100")
    expect(card(page)).not_to_contain_text("left")
    back(server)
    expect(card(page)).not_to_contain_text(LOST, timeout=PATIENCE)
    shows(page, Phase.WORKING, "left")
    outage.stage.finish(task_id)
    shows(page, Phase.DONE)
    assert (asked.count("events"), asked.count("states")) == (1, 0)


def test_a_page_that_polls_says_the_same(outage: Shop, server: RedisServer, visit: Open) -> None:
    task_id = outage.stage.working()
    page = visit("about:blank")
    page.route("**/events", lambda route: route.abort())
    page.goto(outage.url(task_id))
    shows(page, Phase.WORKING)
    server.stop()
    expect(card(page)).to_contain_text(LOST, timeout=PATIENCE)
    server.start()
    expect(card(page)).not_to_contain_text(LOST, timeout=PATIENCE)


def test_several_tasks_say_it_once_for_all(outage: Shop, server: RedisServer, visit: Open) -> None:
    tasks = [outage.stage.working(), outage.stage.trying_again()]
    page = visit(outage.url_of_many(tasks), viewport={"width": 640, "height": 700})
    waits = each(page).nth(1)
    expect(waits).to_contain_text("Tries again in")
    server.stop()
    expect(page.get_by_text(LOST)).to_have_count(1, timeout=PATIENCE)
    expect(whole(page)).to_contain_text(LOST)
    expect(waits).not_to_contain_text("Tries again in")
    server.start()
    expect(waits).to_contain_text("Tries again in", timeout=PATIENCE)
    expect(whole(page)).not_to_contain_text(LOST)
