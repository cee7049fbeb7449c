"""Mounted in WSGI applications, on a real server with threads."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from a2wsgi import ASGIMiddleware
from playwright.sync_api import expect
from werkzeug.test import Client

from acked import Acked
from acked.dashboard import Metrics, hash_password
from acked.delivery import Failure, State
from tests.dashboard.staging import Shop
from tests.harness.workers import ROOT, search_path, until
from tests.pages.conftest import TOLD, answers
from tests.pages.staging import Stage
from tests.servers.server import free_port

SAME = {"sec-fetch-site": "same-origin"}
PASSWORD = "correct horse battery"  # noqa: S105 - of nobody
THREADS = 3


@contextmanager
def serving(target: str, directory: Path, environment: dict[str, str]) -> Iterator[str]:
    """gunicorn with one process of `THREADS` threads; its address."""
    port = free_port()
    with (directory / "gunicorn.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--threads", str(THREADS), "--bind",
             f"127.0.0.1:{port}", "--graceful-timeout", "1",
             "--no-control-socket", target],
            cwd=directory, stdout=log, stderr=log,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": search_path({}),
                 "ACKED_RUNTIME_DIR": str(directory), **environment},
        )  # fmt: skip
    try:
        until(lambda: answers(port), what="gunicorn to answer")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


class Mounted:
    """The application of `tests.dashboard.wsgi_shop`, here and on its server."""

    def __init__(self, url: str, directory: Path, shop: Any) -> None:
        self.url = url
        self.log = directory / "gunicorn.log"
        self.tasks = shop
        self.shop = Shop(shop.app)
        self.stage = Stage(shop.app)

    def audit(self) -> list[dict[str, Any]]:
        found = re.findall(r"acked\.audit: (.*)", self.log.read_text())
        return [json.loads(each) for each in found]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    directory = tmp_path_factory.mktemp("wsgi")
    environment = {
        "WSGI_BROKER": f"sqlite:///{directory}/shop.db",
        "WSGI_USERS": f"ada:operator:{hash_password(PASSWORD)}",
    }
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in environment.items():
            patch.setenv(name, value)
        shop = importlib.import_module("tests.dashboard.wsgi_shop")
        stack.callback(shop.app.close)
        shop.app.open()
        target = "tests.dashboard.wsgi_shop:application"
        url = stack.enter_context(serving(target, directory, environment))
        yield Mounted(url, directory, shop)


def token_of(page: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def entered(url: str) -> requests.Session:
    """A browser of somebody who logged in."""
    session = requests.Session()
    session.headers.update(SAME)
    page = session.get(f"{url}/ops")
    assert page.url == f"{url}/ops/login", "led there from without the slash"
    fields = {"token": token_of(page.text), "name": "ada", "password": PASSWORD}
    assert session.post(f"{url}/ops/login", data=fields).url == f"{url}/ops/"
    return session


def test_the_application_and_what_is_mounted_in_it_both_answer(mounted: Mounted) -> None:
    assert requests.get(f"{mounted.url}/", timeout=10).text == "the shop"
    for path, kind in (("/ops/dashboard.css", "text/css"), ("/tasks/acked-task.js", "javascript")):
        answer = requests.get(mounted.url + path, timeout=10)
        assert kind in answer.headers["content-type"]
        assert len(answer.content) == int(answer.headers["content-length"]) > 1_000


def test_an_operator_logs_in_and_acts_and_the_audit_is_in_the_log(mounted: Mounted) -> None:
    failed = mounted.shop.failed("shop.scan", "u", failure=Failure("ValueError", "x"))
    session = entered(mounted.url)
    page = session.get(f"{mounted.url}/ops/confirm/retry", params={"selected": failed})
    assert 'action="/ops/do/retry"' in page.text
    fields = {"selected": failed, "token": "0" * 64}
    refused = session.post(f"{mounted.url}/ops/do/retry", data=fields)
    assert refused.status_code == 403
    fields["token"] = token_of(page.text)
    done = session.post(f"{mounted.url}/ops/do/retry", data=fields)
    assert done.url.startswith(f"{mounted.url}/ops/task?id={failed}")
    record = mounted.tasks.app.records.get(failed)
    assert record.state is State.QUEUED
    said = [(each["who"], each["action"], each["source"]) for each in mounted.audit()]
    assert ("ada", "login", "127.0.0.1") in said
    assert ("ada", "retry", "127.0.0.1") in said


def events(mounted: Mounted, token: str) -> requests.Response:
    answer = requests.post(
        f"{mounted.url}/tasks/events", json={"tokens": [token]}, headers=SAME, stream=True,
        timeout=30,
    )  # fmt: skip
    assert answer.headers["content-type"].startswith("text/event-stream")
    return answer


def test_a_stream_tells_what_happens_when_it_happens_and_ends(mounted: Mounted) -> None:
    task_id = mounted.stage.working()
    with events(mounted, mounted.tasks.streaming.token_for(task_id)) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        assert '"phase":"working"' in next(each for each in lines if each.startswith("data: "))
        mounted.stage.finish(task_id)
        assert '"phase":"done"' in next(each for each in lines if each.startswith("data: "))
        assert not any(each.startswith("data: ") for each in lines)


def test_a_stream_holds_a_thread_until_its_reader_is_gone(mounted: Mounted) -> None:
    token = mounted.tasks.streaming.token_for(mounted.stage.working())
    with ExitStack() as stack:
        streams = [stack.enter_context(events(mounted, token)) for _ in range(THREADS)]
        heard = [stream.iter_lines() for stream in streams]
        assert all(next(lines) for lines in heard)
        with pytest.raises(requests.Timeout):
            requests.get(f"{mounted.url}/", timeout=1)

    def free() -> bool:
        try:
            return requests.get(f"{mounted.url}/", timeout=1).ok
        except requests.Timeout:
            return False

    until(free, within=20, what="the threads to be free again")


def test_a_page_without_streams_asks_again_and_again(mounted: Mounted, visit: Any) -> None:
    task_id = mounted.stage.working()
    asked: list[str] = []
    page = visit(mounted.url + mounted.tasks.polling.url_for(task_id, label="Order 17"))
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    expect(page.locator("acked-task")).to_contain_text("Packing", timeout=TOLD)
    until(lambda: page.wait_for_timeout(100) or asked.count("states") >= 2, what="two questions")
    mounted.stage.finish(task_id)
    expect(page).to_have_title(re.compile("Done"), timeout=TOLD)
    assert asked.count("events") <= 1


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("10.0.0.7", 401), ("", 401)])
def test_a_visitor_has_his_address_where_the_server_names_no_port(
    address: str, status: int
) -> None:
    client = Client(ASGIMiddleware(Metrics(Acked("shop", broker="memory://"))))
    environ = {"REMOTE_ADDR": address}
    assert client.get("/healthz", environ_overrides=environ).status_code == status


def block(name: str) -> str:
    page = (ROOT / "docs" / "dashboard.md").read_text(encoding="utf-8")
    found = re.search(rf"```python\n# {re.escape(name)}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_with_flask_asks_its_session_for_each_action(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "web.py").write_text(block("shop/web.py") + FLASK_LOGIN, encoding="utf-8")
    environment = {
        "ACKED_BROKER_URL": f"sqlite:///{tmp_path}/shop.db", "SHOP_SECRET": "only-tests-know-it",
        "PYTHONPATH": f"{tmp_path}:{search_path({})}",
    }  # fmt: skip
    with serving("shop.web:application", tmp_path, environment) as url:
        codes = {}
        for query in ("", "?staff=", "?staff=1", "?staff=1&may=view&may=pause"):
            session = requests.Session()
            session.headers.update(SAME)
            if query:
                session.get(f"{url}/enter{query}", timeout=10)
            page = session.get(f"{url}/ops/confirm/pause?queue=mails", timeout=10)
            fields = {"queue": "mails", "token": "0" * 64}
            if 'name="token"' in page.text:
                fields["token"] = token_of(page.text)
            done = session.post(f"{url}/ops/do/pause", data=fields, timeout=10)
            codes[query] = session.get(f"{url}/ops/", timeout=10).status_code, done.status_code
    assert codes == {
        "": (403, 403), "?staff=": (403, 403), "?staff=1": (200, 403),
        "?staff=1&may=view&may=pause": (200, 200),
    }  # fmt: skip


FLASK_LOGIN = """

@site.get("/enter")
def enter():
    from flask import request
    session["name"], session["staff"] = "ada", bool(request.args["staff"])
    if request.args.getlist("may"):
        session["may"] = request.args.getlist("may")
    return "in"
"""
