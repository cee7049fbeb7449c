"""T43: secrets of tasks, and of the broker's address, are in nothing that is written or shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from urllib.parse import urlsplit

from starlette.testclient import TestClient

from acked.dashboard import Dashboard, Metrics
from acked.pages import Limits, TaskPages
from tests.harness.places import Place
from tests.harness.workers import ROOT
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from tests.worker.conftest import Shop, address, on_every_broker

CANARY = "canary-of-a-task-5d1e"
PASSWORD = "canary-of-the-broker-77c0"  # noqa: S105 - looked for, in vain
KEYS = (
    "password", "passwd", "secret", "token", "api_key", "authorization", "cookie", "session", "dsn",
)  # fmt: skip
"""The keys whose values acked hides by default."""
TARGET = "tests.harness.shop:app"
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


def secrets() -> dict[str, object]:
    """A value of each key, alone and inside others, and lists of them."""
    return {
        **dict.fromkeys(KEYS, CANARY),
        "nested": [{key.upper(): [CANARY]} for key in KEYS],
        "harmless": "harmless-value",
    }


def login(place: Place) -> Place:
    """The same place, entered by a user with a password."""
    server, user = place.server, "canary"
    if isinstance(server, RedisServer):
        server.ask("ACL", "SETUSER", user, "on", f">{PASSWORD}", "~*", "&*", "+@all")
    elif isinstance(server, PostgresServer):
        with server.operator() as operator:
            operator.execute(f"CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")  # type: ignore[arg-type]  # no text from outside
    elif isinstance(server, RabbitServer):
        vhost = urlsplit(place.url).path[1:]
        said = server.evaluate(
            f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"{PASSWORD}">>, <<"test">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost}">>, <<".*">>, '
            '<<".*">>, <<".*">>, <<"test">>)'
        )
        assert "ok" in said, said
    else:
        return place
    return replace(place, url=re.sub(r"//(.*@)?", f"//{user}:{PASSWORD}@", place.url, count=1))


def acked(shop: Shop, *arguments: str) -> str:
    """Everything a command of the operator says."""
    ended = subprocess.run(
        [sys.executable, "-m", "acked", *arguments], cwd=ROOT, check=False, capture_output=True,
        text=True, timeout=30, env={**os.environ, **shop.environment, "ACKED_DEBUG": "1"},
    )  # fmt: skip
    return ended.stdout + ended.stderr


def said_by_commands(shop: Shop, *ids: str) -> dict[str, str]:
    ways: list[tuple[str, ...]] = [
        *(("show", each, "--logs") for each in ids),
        *(("show", each, "--json") for each in ids),
        ("list",), ("list", "--json"), ("status",), ("status", "--json"), ("doctor",),
        ("retry", ids[1]),
    ]  # fmt: skip
    said = {" ".join(way): acked(shop, "-A", TARGET, *way) for way in ways}
    nowhere = f"redis://canary:{PASSWORD}@127.0.0.1:1/0"
    return said | {"away": acked(shop, "--broker", nowhere, "status")}


def shown_by_the_dashboard(shop: Shop, *ids: str) -> dict[str, str]:
    client = TestClient(
        Dashboard(shop.app, open_to_this_host=True), base_url="http://127.0.0.1",
        client=("127.0.0.1", 1),
    )  # fmt: skip
    metrics = TestClient(
        Metrics(shop.app), base_url="http://127.0.0.1", client=("127.0.0.1", 1)
    )  # fmt: skip
    paths = [
        "/", "/tasks", "/failures", "/dead", "/waiting", "/queues", "/workers", "/registered",
        "/audit", "/run", "/tasks?text=harmless-value",
        *(f"/task?id={each}" for each in ids), *(f"/run?again={each}" for each in ids),
        f"/confirm/retry?selected={ids[1]}",
    ]  # fmt: skip
    pages = {path: client.get(path) for path in paths}
    assert {answer.status_code for answer in pages.values()} == {200}
    answers = {path: answer.text for path, answer in pages.items()}
    return {**answers, "metrics": metrics.get("/metrics").text}


def shown_to_who_waits(shop: Shop, *ids: str) -> dict[str, str]:
    pages = TaskPages(
        shop.app, secrets=["k" * 40], show_result=lambda result: str(result.state),
        limits=Limits(lifetime=0.5),
    )  # fmt: skip
    client = TestClient(pages, base_url="http://127.0.0.1")
    tokens = [pages.token_for(each) for each in ids]
    said = {each: client.get(pages.url_for(each)).text for each in ids}
    for way in ("events", "states"):
        answer = client.post(f"/{way}", json={"tokens": tokens}, headers=SAME_ORIGIN)
        assert answer.status_code == 200
        said[way] = answer.text
    return said


@on_every_broker
def test_secrets_are_in_nothing_that_is_written_or_shown(shop: Shop) -> None:
    shop.place = login(shop.place)
    shop.environment.update(address(shop.place))
    shop.open()
    worker = shop.work("-l", "DEBUG", "--log-format", "json", processes=1)
    tasks = shop.tasks
    named = dict.fromkeys(KEYS, CANARY)
    returned = tasks.gives_away.apply_async([secrets()], named, headers=secrets())
    failed = tasks.gives_away.delay(secrets(), "fails", **named)
    killed = tasks.gives_away.delay(secrets(), "dies", **named)
    ids = [returned.id, failed.id, killed.id]
    shop.finish(*ids)
    assert returned.get()["secret"] == CANARY, "nothing is hidden from who may ask"
    said = {
        **shown_by_the_dashboard(shop, *ids),
        **said_by_commands(shop, *ids),
        **shown_to_who_waits(shop, *ids),
        "the log of the worker": worker.output(),
    }
    assert "harmless-value" in said[f"show {ids[0]} --json"]
    assert "harmless-value" in said[f"/task?id={ids[0]}"]
    found = [name for name, text in said.items() if CANARY in text or PASSWORD in text]
    assert found == []
