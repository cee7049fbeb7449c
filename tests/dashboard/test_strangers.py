"""What strangers, a proxy and odd numbers can do to the dashboard: nothing."""

from __future__ import annotations

import asyncio
import functools
import re
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from acked import Acked
from acked.dashboard import Dashboard, hash_password
from acked.dashboard.reading import row_of
from acked.dashboard.throttle import Throttle
from acked.delivery import State
from acked.record import Progress, Record

PW = "correct horse battery"
SAME = {"sec-fetch-site": "same-origin"}


def ran(test: Any) -> Any:
    """Run a coroutine as a test."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture
def app(tmp_path: Path) -> Acked:
    return Acked("x", broker=f"sqlite:///{tmp_path}/q.db")


def client(site: Any, address: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=site, client=(address, 1), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")


def token_in(text: str) -> str:
    found = re.search(r'name="token" value="(\w+)"', text)
    assert found
    return found[1]


async def get_1_0(site: Any) -> int:
    said: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if "status" in message:
            said.append(message["status"])

    await site(
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.0",
            "method": "GET",
            "path": "/queues",
            "raw_path": b"/queues",
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:8080")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
        },
        receive,
        send,
    )
    return said[0]


@ran
async def test_nginx_as_it_is_by_default_is_taken_for_a_proxy(app: Acked) -> None:
    site = Dashboard(app, open_to_this_host=True)
    assert await get_1_0(site) == 403
    async with client(site) as one:
        token = token_in((await one.get("/confirm/pause?queue=default")).text)
        data = {"token": token, "queue": "default"}
        there = SAME | {"origin": "https://ops.example.com"}
        assert (await one.post("/do/pause", data=data, headers=there)).status_code == 403
        from_there = SAME | {"referer": "https://ops.example.com/"}
        assert (await one.get("/queues", headers=from_there)).status_code == 403
        here = SAME | {"origin": "http://127.0.0.1:8080"}
        assert (await one.post("/do/pause", data=data, headers=here)).status_code == 303


def test_who_has_a_network_of_ipv6_is_one_guesser() -> None:
    throttle = Throttle()
    for number in range(200):
        throttle.failed("ada", f"2001:db8::{number:x}")
    assert throttle.wait("eve", "2001:db8::ffff:1") > 0
    assert Throttle().wait("ada", "198.51.100.7") == 0


@ran
async def test_a_flood_of_logins_keeps_nobody_waiting_who_is_in(app: Acked) -> None:
    site = Dashboard(app, users={"ada": hash_password(PW)})
    async with client(site, "198.51.100.7") as ada, client(site, "203.0.113.5") as stranger:
        token = token_in((await ada.get("/login")).text)
        form = {"token": token, "name": "ada", "password": PW}
        assert (await ada.post("/login", data=form, headers=SAME)).status_code == 303
        token = token_in((await stranger.get("/login")).text)
        flood = [
            asyncio.create_task(
                stranger.post(
                    "/login", data={"token": token, "name": f"n{n}", "password": "x"}, headers=SAME
                )
            )
            for n in range(20)
        ]
        await asyncio.sleep(0.2)  # in which the first of them are being looked at
        assert (await ada.get("/queues")).status_code == 200
        assert sum(not each.done() for each in flood) > 5
        await asyncio.gather(*flood)


@ran
async def test_a_default_that_is_a_secret_is_not_shown(app: Acked) -> None:
    @app.task(name="charge")
    def charge(
        x: int,
        password: str = "hunter2",  # noqa: S107 - what must not be shown
        *,
        api_key: str = "sk-live",
        url: str = "pg://u:pw1@h/d",
        token: str = "",
        secret: str | None = None,
        n: int = 3,
    ) -> None: ...

    async with client(Dashboard(app, open_to_this_host=True)) as one:
        for path in ("/registered", "/run?task=charge"):
            text = (await one.get(path)).text
            assert not re.search("hunter2|sk-live|pw1", text), path
            assert "n: int = 3" in text


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5_000])
@ran
async def test_numbers_that_no_entry_can_have(app: Acked, number: str) -> None:
    async with client(Dashboard(app, open_to_this_host=True)) as one:
        assert (await one.get(f"/tasks?entry={number}")).status_code == 200
        token = token_in((await one.get("/confirm/pause?queue=default")).text)
        data = {"token": token, "matching": "1", "before": number}
        assert (await one.post("/do/retry", data=data, headers=SAME)).status_code == 400
        bad = {"origin": "http://[x", "content-type": "application/x-www-form-urlencoded"}
        assert (await one.post("/do/retry", content=b"a=b", headers=bad)).status_code == 403


def test_a_progress_beyond_all_numbers_has_no_share() -> None:
    def shown(done: float, total: float) -> float | None:
        progress = Progress(done=done, total=total, at=1.0)
        record = Record(
            id="a", task="t", queue="q", state=State.RUNNING, body=b"", sent=1.0, due=1.0,
            progress=progress,
        )  # fmt: skip
        return row_of(record, 2.0).progress

    assert shown(1e308, 1e-308) is None
    assert shown(1, 2) == 0.5
