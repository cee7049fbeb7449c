"""Every form of the dashboard, found among its routes, is refused when another site sends it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Route

from acked.broker import Filter
from acked.dashboard.deeds import DEEDS
from tests.dashboard.test_site import HASHES, PASSWORD, ROLES, SAME, Site, make_app

FOREIGN = [
    {},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"},
    {"origin": "null"}, {"origin": "https://evil.example"},
    {"origin": "http://127.0.0.1:8080.evil.example"}, {"origin": "http://127.0.0.1:8081"},
    {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8080"},
]  # fmt: skip
"""What a browser may say of a form that is not ours; and what says nothing is no browser."""


def changing(site: Site) -> list[str]:
    """The path of every route that takes more than GET, once for each action."""
    routes: list[Route] = site.dashboard._site._app.routes  # type: ignore[attr-defined]  # what is mounted
    posted = [each.path for each in routes if each.methods and each.methods - {"GET", "HEAD"}]
    return [
        path.replace("{deed}", deed)
        for path in posted
        for deed in (DEEDS if "{deed}" in path else [""])
    ]


class Shop:
    """A site with a user who is logged in, and fields that fit every form of it."""

    def __init__(self) -> None:
        self.site = Site(make_app(), users=HASHES, roles=ROLES)
        self.site.login()
        self.task = self.site.shop.send("shop.scan", "u")

    def fields(self, path: str) -> dict[str, str]:
        page = "/login" if path == "/login" else "/run"
        fields = {"token": self.site.token(page), "args": '["u"]', "task": "shop.scan"}
        if path == "/login":
            return {**fields, "name": "ada", "password": PASSWORD}
        if path.startswith("/do/") and not DEEDS[path.removeprefix("/do/")].for_tasks:
            return {**fields, "queue": "default"}
        return {**fields, "step": "send", "selected": self.task}

    def everything(self) -> Any:
        records = self.site.app.records
        return (
            records.search(Filter(), limit=10), records.counts(),
            self.site.get("/").status_code,  # 200 as long as the session lasts
        )  # fmt: skip


PATHS = changing(Site(make_app(), users=HASHES))


def test_the_forms_are_those_that_are_known() -> None:
    """Or else the tests below could be about none of them."""
    assert {"/run", "/login", "/logout", "/do/retry", "/do/purge"} <= set(PATHS)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_a_form_that_another_site_sends_is_refused(path: str, headers: dict[str, str]) -> None:
    shop = Shop()
    fields, before = shop.fields(path), shop.everything()
    answer = shop.site.client.post(path, data=fields, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert shop.everything() == before
    assert shop.site.audit()[0] == (
        "?",
        f"POST {path}",
        "refused: This form belongs to another site.",
    )


@pytest.mark.parametrize("headers", [SAME, {"origin": "http://127.0.0.1:8080"}], ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_the_same_form_is_taken_when_this_site_sends_it(path: str, headers: dict[str, str]) -> None:
    shop = Shop()
    if path == "/do/retry":
        shop.site.app.records.revoke([shop.task])
    if path == "/do/resume":
        shop.site.app.records.pause("default")
    fields, before = shop.fields(path), shop.everything()
    assert shop.site.client.post(path, data=fields, headers=headers).status_code == 303
    assert path == "/login" or shop.everything() != before
    assert shop.site.audit()[0][2] == "done"
