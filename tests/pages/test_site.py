"""The pages over HTTP: who gets what, and what every response says."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from acked.delivery import State
from acked.errors import BrokerUnavailable, ConfigurationError
from acked.pages import Action, Limits, TaskPages, Words
from acked.pages.view import Phase
from tests.harness.workers import until
from tests.pages.mounted import SAME, Site, words_of
from tests.pages.staging import SECRETS, UNKNOWN

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
def site() -> Site:
    return Site()


# -- the page --------------------------------------------------------------------------------------


def test_a_task_whose_worker_is_gone_is_interrupted_though_nobody_has_taken_it_over(
    site: Site,
) -> None:
    task_id = site.stage.working()

    def view() -> Any:
        (told,) = site.states(site.token(task_id))
        return told["state"]["view"]

    assert view()["phase"] == "working"
    site.stage.beat(lease=0.0)
    until(lambda: view()["phase"] == "interrupted", what="the page to notice")
    assert view()["amount"] == "3 of 10"
    assert view()["countdown"] is None, "nobody knows when another worker comes"


def test_the_page_of_a_task_says_where_it_stands(site: Site) -> None:
    page = site.client.get(site.url(site.stage.working(), label="Importing customers.csv"))
    assert page.status_code == 200
    text = words_of(page.text)
    assert "Importing customers.csv Working Packing 3 of 10" in text
    assert 'aria-valuenow="30"' in page.text
    assert '<meta http-equiv="refresh"' in page.text


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.REFUSED])
def test_no_page_shows_arguments_names_or_texts_of_exceptions(site: Site, phase: Phase) -> None:
    task_id = site.stage(phase)
    page = site.client.get(site.url(task_id, "cancel", "retry"))
    shown = page.text + json.dumps(site.states(site.token(task_id, "cancel", "retry")))
    assert f'data-phase="{phase}"' in page.text
    assert [word for word in SECRETS if word in shown] == []


def test_a_result_is_shown_only_where_the_developer_says_how() -> None:
    silent, telling = Site(), Site(
        show_result=lambda result: f"{result.get()}!", result_link=lambda result: f"/f/{result.id}"
    )  # fmt: skip
    assert "Parcel" not in silent.client.get(silent.url(silent.stage.done())).text
    task_id = telling.stage.done()
    page = telling.client.get(telling.url(task_id))
    assert "Parcel 17 is on its way.!" in words_of(page.text)
    assert f'href="/f/{task_id}"' in page.text


def test_a_result_of_any_kind_is_told_as_text() -> None:
    site = Site(show_result=lambda result: result.get())
    assert "17" in words_of(site.client.get(site.url(site.stage.done(b"17"))).text)


def test_a_developers_function_that_fails_hides_the_result_and_not_the_page() -> None:
    site = Site(show_result=lambda result: 1 / 0, result_link=lambda result: "javascript:x")
    page = site.client.get(site.url(site.stage.done()))
    assert page.status_code == 200
    assert "Done" in words_of(page.text)
    assert 'href="javascript' not in page.text


def test_hostile_texts_are_text(site: Site) -> None:
    task_id = site.stage.working(message=HOSTILE)
    page = site.client.get(site.url(task_id, label=HOSTILE))
    assert "alert" in page.text
    assert "<script>" not in page.text
    assert "<img" not in page.text
    (event,) = site.states(site.token(task_id, label="x\r\n\r\nevent: task\u202e"))
    assert event["state"]["label"] == "x event: task"


def test_no_text_can_end_or_begin_a_field_of_the_stream() -> None:
    site = Site(show_result=lambda result: result.get())
    done = site.stage.done(json.dumps("a\r\ndata: {}\n\nevent: task").encode())
    (event,) = site.events(site.token(done))
    assert event["state"]["view"]["result"] == "a data: {} event: task"


# -- links -----------------------------------------------------------------------------------------


def test_a_wrong_an_old_and_a_forbidden_link_get_the_same_answer() -> None:
    async def nobody(request: Request, task_id: str, action: Action) -> bool:
        return False

    open_, closed = Site(), Site(permission=nobody)
    other = TaskPages(open_.app, secrets=["o" * 32], path="/a/b")
    task_id = open_.stage.working()
    answers = {
        answer.text
        for answer in (
            open_.client.get("/a/b/task/nonsense"),
            open_.client.get(open_.url(task_id, lasts=-1)),
            open_.client.get(other.url_for(task_id)),
            open_.client.get(other.url_for(UNKNOWN)),
            closed.client.get(closed.url(closed.stage.working())),
            closed.client.get(closed.url(UNKNOWN)),
        )
        if answer.status_code == 404
    }
    assert len(answers) == 1
    assert "This link does not work" in answers.pop()


def test_states_and_streams_refuse_as_the_page_does(site: Site) -> None:
    task_id = site.stage.working()
    token = site.token(task_id)
    refused = [
        site.states(each)[0]["state"]
        for each in ("nonsense", token[:-4] + "AAAA", site.pages.token_for(task_id, lasts=-1))
    ]
    assert refused[0] == refused[1] == refused[2]
    assert refused[0]["view"]["phase"] == "refused"
    assert site.events("nonsense")[0]["state"] == refused[0]


def test_a_permission_that_fails_permits_nothing() -> None:
    async def broken(request: Request, task_id: str, action: Action) -> bool:
        raise RuntimeError

    site = Site(permission=broken)
    assert site.client.get(site.url(site.stage.working())).status_code == 404


def test_permission_is_asked_for_each_action() -> None:
    async def only_cancel(request: Request, task_id: str, action: Action) -> bool:
        return action is not Action.RETRY

    site = Site(permission=only_cancel)
    waiting, failed = site.stage.send(), site.stage.failed()
    assert "/cancel" in site.client.get(site.url(waiting, "cancel", "retry")).text
    assert "/retry" not in site.client.get(site.url(failed, "cancel", "retry")).text
    assert site.client.post(site.url(failed, "retry") + "/retry", headers=SAME).status_code == 404


def test_a_link_does_not_make_known_a_task_that_is_gone(site: Site) -> None:
    page = site.client.get(site.url(UNKNOWN))
    assert page.status_code == 404
    assert "Nothing is known of this task" in page.text
    assert "refresh" not in page.text


# -- cancel and retry ------------------------------------------------------------------------------


def test_a_task_is_cancelled_and_run_again_with_the_forms_of_its_page(site: Site) -> None:
    task_id = site.stage.send()
    url = site.url(task_id, "cancel", "retry")

    def press(form: str) -> str:
        action = re.search(r'action="([^"]+)/' + form, site.client.get(url).text)
        assert action is not None
        answer = site.client.post(f"/a/b/task/{action[1]}/{form}", headers=SAME)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"../{url.rpartition('/')[2]}"
        record = site.app.records.get(task_id)
        assert record is not None
        return record.state

    assert press("cancel") == State.REVOKED
    assert press("retry") == State.QUEUED


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_link_to_see_a_task_does_not_change_it(site: Site, action: str) -> None:
    task_id = site.stage.send() if action == "cancel" else site.stage.failed()
    before = site.app.records.get(task_id)
    assert site.client.post(f"{site.url(task_id)}/{action}", headers=SAME).status_code == 404
    assert site.app.records.get(task_id) == before


def audited(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    lines = [json.loads(each.message) for each in caplog.records if each.name == "acked.audit"]
    keys = ("who", "action", "target", "count", "source", "outcome")
    return [tuple(line[key] for key in keys) for line in lines]


def test_what_is_done_on_a_page_is_in_the_audit_with_whom_the_permission_names(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="acked.audit")

    async def named(request: Request, task_id: str, action: Action) -> bool | str:
        return request.headers["x-user"] == "ada" and "ada"

    for site, who in ((Site(), "holder of the link"), (Site(permission=named), "ada")):
        caplog.clear()
        task_id = site.stage.send()
        url, headers = site.url(task_id, "cancel"), {**SAME, "x-user": "ada"}
        codes = [site.client.post(f"{url}/cancel", headers=headers).status_code for _ in range(2)]
        assert codes == [303, 303]
        assert audited(caplog) == [
            (who, "cancel", task_id, 1, "testclient", "done"),
            (who, "cancel", task_id, 0, "testclient", "done"),
        ]


def test_what_is_refused_on_a_page_is_in_the_audit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="acked.audit")

    async def looks_alone(request: Request, task_id: str, action: Action) -> bool | str:
        return action is Action.VIEW

    async def unnamed(request: Request, task_id: str, action: Action) -> bool | str:
        return ""

    site = Site(permission=looks_alone)
    task_id = site.stage.send()
    token = site.token(task_id, "cancel")
    tries = [
        (site, token, {}), (site, token, SAME), (site, site.token(task_id), SAME),
        (site, token[:-4] + "AAAA", SAME), (Site(permission=unnamed), token, SAME),
    ]  # fmt: skip
    for asked, given, headers in tries:
        asked.client.post(f"/a/b/task/{given}/cancel", headers=headers)
    refused = ("?", "cancel", task_id, None, "testclient", "not permitted")
    assert audited(caplog) == [
        (*refused[:5], "refused: this form belongs to another site"), refused, refused,
        ("?", "cancel", "?", *refused[3:]), refused,
    ]  # fmt: skip
    assert token not in caplog.text, "it is as good as a password"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "TRACE"])
def test_only_a_post_changes_anything(site: Site, method: str) -> None:
    url = site.url(site.stage.send(), "cancel")
    assert site.client.request(method, f"{url}/cancel", headers=SAME).status_code == 405


# -- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["task/x", "nowhere", "events", "acked-task.js"])
def test_every_response_tells_the_browser_to_be_careful(site: Site, path: str) -> None:
    headers = site.client.get(f"/a/b/{path}").headers
    policy = headers["content-security-policy"]
    for part in ("default-src 'none'", "object-src 'none'", "base-uri 'none'",
                 "frame-ancestors 'none'", "script-src 'self'"):  # fmt: skip
        assert part in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if path.endswith(".js") else "no-store")


def test_the_answer_to_a_fault_is_as_careful(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(site.pages._reader, "read", broken)
    client = TestClient(site.client.app, raise_server_exceptions=False)
    answer = client.get(site.url(UNKNOWN))
    assert answer.status_code == 500
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_over_tls_browsers_are_told_to_stay_with_it(site: Site) -> None:
    url = site.url(site.stage.working())
    assert "strict-transport-security" not in site.client.get(url).headers
    secure = TestClient(site.client.app, base_url="https://shop.example")
    for path in (url, "/a/b/acked-task.js"):
        told = secure.get(path).headers["strict-transport-security"]
        assert told == "max-age=31536000"


def test_the_page_has_no_script_style_or_handler_of_its_own(site: Site) -> None:
    page = site.client.get(site.url(site.stage.working(), "cancel")).text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_who_may_frame_a_page_can_be_said() -> None:
    site = Site(frame_ancestors="'self' https://shop.example")
    policy = site.client.get("/a/b/task/x").headers["content-security-policy"]
    assert policy.endswith("frame-ancestors 'self' https://shop.example")


def test_the_files_are_sent_again_only_when_they_changed(site: Site) -> None:
    for name, kind in (("acked-task.js", "text/javascript"), ("acked-task.css", "text/css")):
        first = site.client.get(f"/a/b/{name}")
        assert first.headers["content-type"].startswith(kind)
        again = site.client.get(f"/a/b/{name}", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


# -- several tasks ---------------------------------------------------------------------------------


def test_one_stream_tells_of_several_tasks_and_ends_when_all_are_settled(site: Site) -> None:
    done, failed = site.stage.done(), site.stage.failed()
    told = site.events(site.token(done), "nonsense", site.token(failed, "retry"))
    assert {(each["index"], each["state"]["view"]["phase"]) for each in told} == {
        (0, "done"), (1, "refused"), (2, "failed"),
    }  # fmt: skip
    assert [each["state"]["retry"] for each in told if each["index"] == 2] == ["Try again"]


def test_a_stream_ends_after_its_lifetime() -> None:
    site = Site(limits=Limits(lifetime=0.5))
    (event,) = site.events(site.token(site.stage.working()))
    assert event["state"]["view"]["phase"] == "working"


def test_a_stream_asks_again_whether_it_is_still_allowed() -> None:
    asked: list[float] = []

    async def at_first(request: Request, task_id: str, action: Action) -> bool:
        asked.append(time.monotonic())
        return len(asked) < 2

    site = Site(permission=at_first, limits=Limits(recheck=0.2))
    told = site.events(site.token(site.stage.working()))
    assert [each["state"]["view"]["phase"] for each in told] == ["working", "refused"]


@pytest.mark.parametrize("limits", [Limits(streams=0), Limits(streams_per_page=0)])
def test_a_stream_too_many_is_told_to_poll(limits: Limits) -> None:
    site = Site(limits=limits)
    token = site.token(site.stage.working())
    answer = site.client.post("/a/b/events", json={"tokens": [token]}, headers=SAME)
    assert answer.status_code == 503
    assert site.states(token)[0]["state"]["view"]["phase"] == "working"


def test_streams_that_ended_are_not_counted(site: Site) -> None:
    limited = Site(limits=Limits(streams=1))
    token = limited.token(limited.stage.done())
    assert [len(limited.events(token)) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"tokens": []}', 400), (b'{"tokens": "x"}', 400),
     (b'{"tokens": [1]}', 400), (b"\xff", 400), (b'{"tokens": ["x","x","x"]}', 400),
     (b" " * 200_000, 413)],
)  # fmt: skip
def test_a_body_that_is_no_list_of_tokens_is_refused(body: bytes, status: int) -> None:
    site = Site(limits=Limits(tasks=2))
    for path in ("events", "states"):
        answer = site.client.post(f"/a/b/{path}", content=body, headers=SAME)
        assert answer.status_code == status


# -- the broker ------------------------------------------------------------------------------------


@pytest.fixture
def away(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Pages whose broker does not answer."""

    def gone(*args: Any, **options: Any) -> None:
        raise BrokerUnavailable("redis://user:***@inner-host is away")

    for name in ("get", "revoke"):
        monkeypatch.setattr(type(site.app.records), name, gone)
    return site


def test_a_page_whose_broker_is_away_looks_again_and_tells_nothing_of_it(away: Site) -> None:
    url = away.url(UNKNOWN, "cancel")
    pages = [away.client.get(url), away.client.post(f"{url}/cancel", headers=SAME)]
    for page in pages:
        assert page.status_code == 503
        assert "inner-host" not in page.text
        assert "It cannot be seen at the moment" in page.text
    assert 'http-equiv="refresh"' in pages[0].text
    states = away.client.post("/a/b/states", json={"tokens": [away.token(UNKNOWN)]}, headers=SAME)
    assert states.status_code == 503


def test_how_many_wait_is_told(site: Site) -> None:
    for _ in range(3):
        last = site.app.send_task("anything", queue="one").id
    assert "3 tasks are waiting, this one included" in site.client.get(site.url(last)).text


def test_the_words_can_be_in_another_language() -> None:
    site = Site(words=Words(language="de", done="Fertig", task="Deine Aufgabe"))
    page = site.client.get(site.url(site.stage.done())).text
    assert '<html lang="de" dir="ltr">' in page
    assert "<title>Deine Aufgabe: Fertig</title>" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"secrets": ["short"]}, "32"),
        ({"path": "tasks"}, "slash"),
        ({"frame_ancestors": "x; script-src *"}, "frame_ancestors"),
        ({"words": Words(amount="{x}")}, "amount"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Site(**options)


def test_only_known_actions_can_be_allowed(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="'cancel' and 'retry'"):
        site.url(UNKNOWN, "delete")
