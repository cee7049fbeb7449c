"""Every request of a page that is no mere look, found among the routes, is refused when another
site sends it."""

from __future__ import annotations

import pytest
from starlette.routing import Route

from acked.delivery import State
from tests.pages.mounted import SAME, Site

FOREIGN = [
    {},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"},
    {"origin": "null"}, {"origin": "https://evil.example"}, {"origin": "http://testserver.evil"},
    {"origin": "http://testserver:81"},
    {"sec-fetch-site": "cross-site", "origin": "http://testserver"},
]  # fmt: skip


def posted(site: Site) -> list[str]:
    routes: list[Route] = site.pages._site._app.routes  # type: ignore[attr-defined]  # what is mounted
    return [each.path for each in routes if each.methods and each.methods - {"GET", "HEAD"}]


PATHS = posted(Site())


def test_the_requests_are_those_that_are_known() -> None:
    """Or else the tests below could be about none of them."""
    assert {"/task/{token}/cancel", "/task/{token}/retry", "/events", "/states"} <= set(PATHS)


def ask(site: Site, path: str, task_id: str, headers: dict[str, str]) -> int:
    token = site.token(task_id, "cancel", "retry")
    url = f"/a/b{path.replace('{token}', token)}"
    return site.client.post(url, json={"tokens": [token]}, headers=headers).status_code


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_what_another_site_sends_is_refused(path: str, headers: dict[str, str]) -> None:
    site = Site()
    tasks = {State.QUEUED: site.stage.send(), State.FAILURE: site.stage.failed()}
    for state, task_id in tasks.items():
        assert ask(site, path, task_id, headers) == 403
        record = site.app.records.get(task_id)
        assert record is not None
        assert record.state is state


@pytest.mark.parametrize("headers", [SAME, {"origin": "http://testserver"}], ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_the_same_is_answered_when_this_site_sends_it(path: str, headers: dict[str, str]) -> None:
    site = Site()
    cancels = path.endswith("/cancel")
    task_id = site.stage.send() if cancels else site.stage.failed()
    assert ask(site, path, task_id, headers) in {200, 303}
    record = site.app.records.get(task_id)
    assert record is not None
    expected = State.REVOKED if cancels else State.QUEUED if path.endswith("/retry") else None
    assert expected is None or record.state is expected
