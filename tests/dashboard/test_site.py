"""The dashboard over HTTP: who gets what, what changes what, and what no page may show."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.testclient import TestClient

from acked import Acked
from acked.broker import Filter
from acked.dashboard import Action, Dashboard, hash_password
from acked.dashboard.site import DOING, LOOKING
from acked.delivery import Failure, State
from acked.errors import BrokerUnavailable, ConfigurationError
from acked.tally import Count
from tests.dashboard.staging import CANARY, HOSTILE, Past, Shop, open_shop

SAME = {"sec-fetch-site": "same-origin"}
PASSWORD = "correct horse battery"  # noqa: S105 - of nobody
HASHES = dict.fromkeys(("ada", "bob", "eve"), hash_password(PASSWORD))
ROLES: dict[str, Any] = {"ada": "operator", "eve": ["retry"]}


def make_app(broker: str = "memory://") -> Acked:
    app = Acked("shop", broker=broker, clock=Past())

    @app.task(name="shop.scan", max_retries=5)
    def scan(url: str, password: str = "", *, depth: int = 1) -> None:
        """Scan one address."""

    @app.task(name="shop.mail", queue="mails")
    def mail(to: str, subject: str, token: str = "") -> None:
        pass

    return app


class Site:
    """A dashboard and the browser of somebody who looks at it."""

    def __init__(self, app: Acked, base: str = "", **options: Any) -> None:
        self.app = app
        self.shop = Shop(app)
        self.base = base
        self.dashboard = Dashboard(app, **options)
        served: Any = Starlette(routes=[Mount(base, self.dashboard)]) if base else self.dashboard
        self.client = TestClient(
            served,
            base_url="http://127.0.0.1:8080",
            client=("127.0.0.1", 9),
            follow_redirects=False,
        )

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(self.base + path, **more)

    def token(self, path: str = "/run") -> str:
        found = re.search(r'name="token" value="([0-9a-f]{64})"', self.get(path).text)
        assert found is not None
        return found[1]

    def post(self, path: str, fields: dict[str, Any] | None = None, **more: Any) -> Any:
        given = {"token": self.token("/login" if path == "/login" else "/run"), **(fields or {})}
        return self.client.post(self.base + path, data=given, headers=SAME, **more)

    def login(self, name: str = "ada", password: str = PASSWORD, **more: Any) -> Any:
        return self.post("/login", {"name": name, "password": password, **more})

    def audit(self) -> list[tuple[str, str, str]]:
        return [(e.who, e.action, e.outcome) for e in self.dashboard._desk.audit.latest()]

    def state(self, task_id: str) -> State | None:
        record = self.app.records.get(task_id)
        return record.state if record else None


@pytest.fixture
def site() -> Site:
    return Site(make_app(), open_to_this_host=True)


@pytest.fixture
def guarded() -> Site:
    return Site(make_app(), users=HASHES, roles=ROLES)


@pytest.fixture
def busy() -> Site:
    app = make_app()
    open_shop(app, minutes=90)
    return Site(app, open_to_this_host=True)


def audited(line: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line.message)
    return found


def text_of(answer: Any) -> str:
    """The words of a page, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def every_path(app: Acked) -> list[str]:
    """Every page there is, with a task where it needs one."""
    ids = [record.id for record in app.records.search(Filter(), limit=100)]
    paths = [path for path in LOOKING if "{" not in path and path != "/task"]
    paths += ["/?span=day", "/tasks?text=x", "/tasks?error=x&since=2d", "/run?task=shop.scan"]
    paths += [f"/task?id={quote(task_id)}" for task_id in ids]
    paths += [f"/run?again={quote(task_id)}" for task_id in ids[:20]]
    paths += [
        f"/confirm/{name}?selected={quote(ids[0])}" for name in ("revoke", "discard", "retry")
    ]
    return [*paths, "/confirm/retry?matching=1", "/confirm/purge?queue=mails"]


# -- who gets in -----------------------------------------------------------------------------------


def test_a_dashboard_that_does_not_know_who_may_see_it_is_not_made() -> None:
    app = make_app()
    for options in ({}, {"users": HASHES, "open_to_this_host": True}, {"roles": ROLES}):
        with pytest.raises(ConfigurationError):
            Dashboard(app, **options)  # type: ignore[arg-type]  # wrong on purpose


def test_without_a_session_every_page_leads_to_the_login(guarded: Site) -> None:
    for path in LOOKING:
        answer = guarded.get(path.replace("{deed}", "retry"))
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login"), path
    for path in [*DOING, "/logout"]:
        url = path.replace("{deed}", "purge")
        answer = guarded.client.post(url, data={"token": "0" * 64}, headers=SAME)
        assert answer.status_code == 403, path


def test_after_the_login_the_page_that_was_wanted_is_shown(guarded: Site) -> None:
    away = guarded.get("/tasks?state=FAILURE")
    assert away.headers["location"] == "/login?next=%2Ftasks%3Fstate%3DFAILURE"
    answer = guarded.login(next="/tasks?state=FAILURE")
    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks?state=FAILURE")
    assert guarded.get("/tasks").status_code == 200
    assert guarded.audit() == [("ada", "login", "done")]
    elsewhere = Site(make_app(), users=HASHES)
    assert elsewhere.login(next="//evil.example/").headers["location"] == "/"


def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(guarded: Site) -> None:
    answers = {
        guarded.login(name, "wrong password").text.replace(f'value="{name}"', "NAME")
        for name in ("ada", "nil")
    }
    assert len(answers) == 1
    assert guarded.get("/").status_code == 303
    assert {entry[2] for entry in guarded.audit()} == {"refused: wrong"}


def test_guessing_ends_after_a_few_tries(guarded: Site) -> None:
    codes = [guarded.login("ada", f"wrong {number}").status_code for number in range(6)]
    assert codes == [403] * 5 + [429]
    answer = guarded.login("ada")  # even with the right one
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 900
    assert guarded.login("bob").status_code == 303


def test_cookies_are_for_this_site_alone_and_behind_tls_for_tls_alone(guarded: Site) -> None:
    cookie = guarded.login().headers.get_list("set-cookie")[0]
    assert cookie.startswith("acked-session=")
    for word in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert word in cookie
    assert "Secure" not in cookie
    secure = TestClient(guarded.dashboard, base_url="https://shop.example", follow_redirects=False)
    page = secure.get("/login")
    assert page.headers["set-cookie"].startswith("__Host-acked-form=")
    found = re.search(r'name="token" value="(\w+)"', page.text)
    assert found is not None
    fields = {"token": found[1], "name": "ada", "password": PASSWORD}
    cookie = secure.post("/login", data=fields, headers=SAME).headers.get_list("set-cookie")[0]
    assert cookie.startswith("__Host-acked-session=")
    assert "Secure" in cookie and "Domain" not in cookie


def test_a_logout_ends_the_session_on_the_server(guarded: Site) -> None:
    guarded.login()
    stolen = dict(guarded.client.cookies)
    assert guarded.post("/logout").headers["location"] == "/login"
    guarded.client.cookies.update(stolen)
    assert guarded.get("/").status_code == 303


def test_refreshing_does_not_keep_a_session_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(make_app(), users=HASHES, idle=100)
    clock = [1000.0]
    sessions = site.dashboard._access.sessions  # type: ignore[attr-defined]  # that of a login
    monkeypatch.setattr(sessions, "_clock", lambda: clock[0])
    site.login()
    clock[0] += 60
    assert site.get("/", headers={"x-acked-refresh": "1"}).status_code == 200
    clock[0] += 60
    assert site.get("/").status_code == 303


def test_the_login_looks_at_where_its_form_came_from(guarded: Site) -> None:
    fields = {"token": guarded.token("/login"), "name": "ada", "password": PASSWORD}
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {}):
        assert guarded.client.post("/login", data=fields, headers=headers).status_code == 403
    fields["token"] = "0" * 64
    assert guarded.client.post("/login", data=fields, headers=SAME).status_code == 403
    assert guarded.get("/").status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}, {"host": ""},
        {"x-forwarded-for": "10.0.0.1"}, {"forwarded": "for=10.0.0.1"}, {"x-real-ip": "10.0.0.1"},
        {"via": "1.1 proxy"},
    ],
)  # fmt: skip
def test_open_to_this_host_is_open_to_nobody_else(site: Site, headers: dict[str, str]) -> None:
    assert site.get("/").status_code == 200
    assert site.get("/", headers=headers).status_code == 403


@pytest.mark.parametrize("address", ["10.0.0.1", "::ffff:10.0.0.1", "testclient", ""])
def test_open_to_this_host_looks_at_the_address(address: str) -> None:
    dashboard = Dashboard(make_app(), open_to_this_host=True)
    client = TestClient(dashboard, base_url="http://127.0.0.1", client=(address, 1))
    assert client.get("/").status_code == 403
    for local in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        client = TestClient(dashboard, base_url="http://localhost:80", client=(local, 1))
        assert client.get("/").status_code == 200


# -- mounted ---------------------------------------------------------------------------------------


def test_an_application_can_say_who_may_do_what() -> None:
    async def permission(request: Request, action: Action) -> str | None:
        name = request.headers.get("x-user")
        if name == "boss":
            return name
        return name if name and action in {Action.VIEW, Action.RETRY} else None

    site = Site(make_app(), "/ops/tasks", permission=permission)
    failed = site.shop.failed("shop.scan", "u", failure=Failure("ValueError", "x"))
    assert site.get("/").status_code == 403
    assert "Log out" not in site.get("/", headers={"x-user": "boss"}).text
    page = site.get(f"/task?id={failed}", headers={"x-user": "clerk"}).text
    assert 'href="/ops/tasks/confirm/retry' in page
    assert "/confirm/discard" not in page
    assert "/run?again" not in page
    token = re.search(r'name="token" value="(\w+)"', site.get(
        f"/confirm/retry?selected={failed}", headers={"x-user": "clerk"}).text)  # fmt: skip
    assert token is not None
    fields = {"token": token[1], "selected": failed}
    for deed, code in (("discard", 403), ("retry", 303)):
        answer = site.client.post(
            f"/ops/tasks/do/{deed}", data=fields, headers={"x-user": "clerk", **SAME}
        )
        assert answer.status_code == code
    assert answer.headers["location"].startswith("/ops/tasks/task?")
    assert site.audit() == [("clerk", "retry", "done"), ("clerk", "discard", "not permitted")]


@pytest.mark.parametrize("answer", [RuntimeError("away"), True, "", 7, None])
def test_whoever_cannot_be_asked_does_not_permit(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def permission(request: Request, action: Action) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    site = Site(make_app(), permission=permission)
    assert site.get("/").status_code == 403
    assert site.client.post("/do/purge", data={"queue": "x"}, headers=SAME).status_code == 403


def test_links_lead_to_where_it_is_mounted(busy: Site) -> None:
    site = Site(busy.app, "/ops", open_to_this_host=True)
    for path in every_path(site.app)[:24]:
        page = site.get(path).text
        for address in re.findall(r'(?:href|action|src|formaction)="([^"#]*)"', page):
            assert address.startswith("/ops/"), (path, address)


# -- what may be done ------------------------------------------------------------------------------


def test_a_role_is_shown_and_allowed_what_it_may_do_and_no_more(guarded: Site) -> None:
    failed = guarded.shop.failed("shop.scan", "u", failure=Failure("ValueError", "x"))
    for user, allowed in (("bob", set()), ("eve", {"retry"})):
        guarded.client.cookies.clear()
        guarded.login(user)
        page = guarded.get(f"/task?id={failed}").text
        shown = set(re.findall(r"/confirm/(\w+)", page + guarded.get("/queues").text))
        assert shown == allowed
        token = re.search(r'name="token" value="(\w+)"', page)
        assert token is not None
        for deed in ("revoke", "terminate", "discard", "pause", "resume", "purge"):
            fields = {"token": token[1], "selected": failed, "queue": "default", "matching": "1"}
            answer = guarded.client.post(f"/do/{deed}", data=fields, headers=SAME)
            assert answer.status_code == 403, (user, deed)
            asked = guarded.get(f"/confirm/{deed}?selected={failed}&queue=default")
            assert asked.status_code == 403, (user, deed)
        run = {"token": token[1], "task": "shop.scan", "args": '["u"]', "kwargs": "{}"}
        assert guarded.client.post("/run", data=run, headers=SAME).status_code == 403
        assert guarded.get("/run").status_code == 403
    assert guarded.state(failed) is State.FAILURE


def test_read_only_is_for_everybody(busy: Site) -> None:
    site = Site(busy.app, open_to_this_host=True, read_only=True)
    for path in LOOKING:
        page = site.get(path.replace("{deed}", "retry"))
        assert "/confirm/" not in page.text and "/run" not in page.text, path
    assert site.get("/run").status_code == 403
    token = busy.token()
    site.client.cookies.update(busy.client.cookies)
    fields = {"token": token, "queue": "mails"}
    assert site.client.post("/do/purge", data=fields, headers=SAME).status_code == 403
    assert sum(each.queued for each in busy.app.records.counts()) > 0


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        (SAME, "0" * 64), (SAME, ""), ({}, None), ({"sec-fetch-site": "cross-site"}, None),
        ({"sec-fetch-site": "same-site"}, None), ({"sec-fetch-site": "none"}, None),
        ({"origin": "https://evil.example"}, None), ({"origin": "null"}, None),
    ],
)  # fmt: skip
def test_a_form_of_another_site_changes_nothing(
    site: Site, headers: dict[str, str], token: str | None
) -> None:
    waiting = site.shop.send("shop.scan", "u")
    fields = {"token": site.token() if token is None else token, "selected": waiting,
              "queue": "default", "task": "shop.scan", "args": '["u"]'}  # fmt: skip
    for path in ("/do/revoke", "/do/purge", "/do/pause", "/run"):
        answer = site.client.post(path, data=fields, headers=headers)
        assert answer.status_code == 403, path
    assert site.state(waiting) is State.QUEUED
    assert len(site.app.records.counts()) == 1
    assert not site.app.records.counts()[0].paused
    assert all("refused" in entry[2] for entry in site.audit())


def test_a_form_without_its_cookie_changes_nothing(site: Site) -> None:
    waiting = site.shop.send("shop.scan", "u")
    fields = {"token": site.token(), "selected": waiting}
    site.client.cookies.clear()
    assert site.client.post("/do/revoke", data=fields, headers=SAME).status_code == 403
    assert site.state(waiting) is State.QUEUED


def test_no_get_changes_anything(busy: Site) -> None:
    def everything() -> Any:
        records = busy.app.records
        return records.search(Filter(), limit=1000), records.counts()

    before = everything()
    for path in every_path(busy.app):
        assert busy.get(path).status_code in {200, 400, 404, 409}, path
    for path in DOING:
        assert busy.get(path.replace("{deed}", "purge") + "?queue=mails").status_code in {200, 405}
    assert everything() == before
    assert busy.audit() == []


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_off(site: Site, method: str) -> None:
    for path in ("/", "/tasks", "/do/purge", "/run"):
        answer = site.client.request(method, path)
        assert answer.status_code == 405
        assert "access-control-allow-origin" not in answer.headers


def test_only_forms_of_bounded_size_are_read(site: Site) -> None:
    token = site.token()
    post: Callable[..., Any] = site.client.post
    form = {"content-type": "application/x-www-form-urlencoded", **SAME}
    assert post("/run", json={"token": token}, headers=SAME).status_code == 415
    assert post("/run", content=b"x=" + b"a" * 3_000_000, headers=form).status_code == 413
    assert post("/run", content=b"a=1&" * 3_000, headers=form).status_code == 400
    assert post("/run", content=b"\xff\xfe", headers=form).status_code == 400


# -- doing -----------------------------------------------------------------------------------------


def test_a_task_is_retried_after_a_question(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    failed = site.shop.failed("shop.scan", "u", failure=Failure("ValueError", "x"))
    asked = site.get(f"/confirm/retry?selected={failed}")
    assert "Retry 1 task?" in text_of(asked)
    with caplog.at_level(logging.INFO, logger="acked.audit"):
        answer = site.post("/do/retry", {"selected": failed})
    assert (answer.status_code, site.state(failed)) == (303, State.QUEUED)
    (line,) = [record for record in caplog.records if record.name == "acked.audit"]
    said = json.loads(line.message)
    assert said | {"at": 0, "number": 1} == {
        "number": 1, "at": 0, "who": "anyone on this host", "action": "retry", "target": failed,
        "count": 1, "source": "127.0.0.1", "outcome": "done",
    }  # fmt: skip
    assert line.audit["target"] == failed  # type: ignore[attr-defined]  # what a formatter gets
    page = site.get(answer.headers["location"])
    assert f"Retry: {failed} \u2013 1 task (done)" in text_of(page)
    assert failed in text_of(site.get("/audit"))


@pytest.mark.parametrize(
    ("deed", "ends"),
    [("revoke", State.REVOKED), ("terminate", State.REVOKED), ("discard", None)],
)
def test_waiting_tasks_are_taken_back(site: Site, deed: str, ends: State | None) -> None:
    ids = [site.shop.send("shop.scan", "u") for _ in range(3)]
    asked = site.get(f"/confirm/{deed}", params={"selected": ids})
    assert "3 tasks?" in text_of(asked)
    assert site.post(f"/do/{deed}", {"selected": ids}).status_code == 303
    assert [site.state(each) for each in ids] == [ends] * 3
    assert site.dashboard._desk.audit.latest()[0].count == 3
    assert site.dashboard._desk.audit.latest()[0].target == "3 selected tasks"


def test_what_the_state_of_a_task_does_not_allow_is_not_asked_for(site: Site) -> None:
    waiting = site.shop.send("shop.scan", "u")
    answer = site.get(f"/confirm/retry?selected={waiting}")
    assert answer.status_code == 409
    assert "FAILURE, REVOKED" in text_of(answer)
    assert "/confirm/retry" not in site.get(f"/task?id={waiting}").text
    assert site.post("/do/retry", {"selected": waiting}).status_code == 303
    assert site.dashboard._desk.audit.latest()[0].count == 0


def test_a_running_task_is_told_to_stop(site: Site) -> None:
    running = site.shop.running("shop.scan", "u")
    site.post("/do/terminate", {"selected": running})
    assert "It was revoked while it ran" in text_of(site.get(f"/task?id={running}"))


def test_a_queue_is_paused_resumed_and_purged(site: Site) -> None:
    site.shop.send("shop.mail", "a", "b", queue="mails")
    assert "Pause the queue mails?" in text_of(site.get("/confirm/pause?queue=mails"))
    site.post("/do/pause", {"queue": "mails"})
    assert "mails paused" in text_of(site.get("/queues"))
    site.post("/do/resume", {"queue": "mails"})
    assert "paused" not in text_of(site.get("/queues"))
    assert "1 task waiting" in text_of(site.get("/confirm/purge?queue=mails"))
    site.post("/do/purge", {"queue": "mails"})
    assert [entry[1] for entry in site.audit()] == ["purge", "resume", "pause"]
    assert site.dashboard._desk.audit.latest()[0].count == 1
    assert site.get("/confirm/purge?queue=mails").status_code == 404
    assert site.post("/do/purge").status_code == 400


def test_everything_that_matches_is_retried_in_bounded_steps_and_its_ids_are_written_down(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="acked.audit")
    monkeypatch.setattr("acked.dashboard.doing.STEP", 4)
    monkeypatch.setattr("acked.dashboard.doing.LOOKED", 5)
    away = Failure("ConnectionError", "the far side refused")
    ids = [site.shop.failed("shop.scan", number, failure=away) for number in range(10)]
    other = site.shop.failed("shop.mail", "a", "b", failure=Failure("KeyError", "x"))
    asked = site.get("/confirm/retry?matching=1&task=shop.scan&error=refused")
    assert "Retry at least 5 tasks?" in text_of(asked)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', asked.text))
    assert fields["state"] == "FAILURE"
    late = site.shop.failed("shop.scan", "late", failure=away)
    steps = 0
    while True:
        answer = site.client.post("/do/retry", data=fields, headers=SAME)
        steps += 1
        if answer.status_code == 303:
            break
        assert f"{4 * steps} tasks requeued so far" in text_of(answer)
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', answer.text))
    assert steps == 3
    assert {site.state(each) for each in ids} == {State.QUEUED}
    assert site.state(other) is site.state(late) is State.FAILURE
    assert [each.count for each in site.dashboard._desk.audit.latest()] == [2, 4, 4]
    written = [audited(line)["ids"] for line in caplog.records if line.name == "acked.audit"]
    assert written == [ids[:5:-1], ids[5:1:-1], ids[1::-1]]


def test_a_search_that_names_states_that_do_not_fit_does_nothing(site: Site) -> None:
    site.shop.send("shop.scan", "u")
    assert site.get("/confirm/retry?matching=1&state=QUEUED").status_code == 400
    answer = site.post("/do/discard", {"matching": "1", "state": "RUNNING", "before": "99"})
    assert answer.status_code == 400
    assert site.post("/do/discard", {"matching": "1", "before": "x"}).status_code == 400
    assert site.post("/do/nothing").status_code == 404
    assert site.get("/confirm/nothing").status_code == 404


def test_a_step_looks_at_so_many_records_and_the_next_one_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acked.dashboard.finding.TEXT_WINDOW", 5)
    monkeypatch.setattr("acked.dashboard.finding.WINDOWS", 2)
    wanted = site.shop.send("shop.scan", "the-needle")
    for number in range(20):
        site.shop.send("shop.scan", number)
    asked = site.get("/confirm/revoke?matching=1&text=the-needle")
    assert "No task fits among those that were looked at" in text_of(asked)
    fields = {"matching": "1", "text": "the-needle", "before": "1000", "token": site.token()}
    steps = 0
    answer = site.client.post("/do/revoke", data=fields, headers=SAME)
    while answer.status_code == 200:
        steps += 1
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', answer.text))
        answer = site.client.post("/do/revoke", data=fields, headers=SAME)
    assert steps > 2
    assert site.state(wanted) is State.REVOKED


# -- running by hand -------------------------------------------------------------------------------


def test_a_task_is_run_by_hand_from_its_signature(site: Site) -> None:
    page = site.get("/run?task=shop.scan")
    assert "(url: str, password: str = '', *, depth: int = 1)" in text_of(page)
    assert '"url": null' in unescape(page.text)
    call = {"task": "shop.scan", "args": '["http://x"]', "kwargs": '{"depth": 2}',
            "queue": "slow", "countdown": "60", "priority": "3"}  # fmt: skip
    asked = site.post("/run", call)
    for words in ("Run shop.scan? One new task is sent to the queue slow and starts in 60 s",
                  '["http://x"]', '{"depth": 2}'):  # fmt: skip
        assert words in text_of(asked)
    assert site.app.records.counts() == []
    assert site.audit() == []
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', asked.text))
    fields = {name: unescape(value) for name, value in fields.items()}
    edited = site.client.post("/run", data={**fields, "step": "edit"}, headers=SAME)
    assert '["http://x"]' in unescape(edited.text)
    assert site.app.records.counts() == []
    answer = site.client.post("/run", data={**fields, "step": "send"}, headers=SAME)
    assert answer.status_code == 303
    sent = answer.headers["location"].partition("id=")[2].partition("&")[0]
    record = site.app.records.get(sent)
    assert record is not None
    assert (record.queue, record.state, record.priority) == ("slow", State.SCHEDULED, 3)
    assert b'"args":["http://x"],"kwargs":{"depth":2}' in record.body
    assert site.audit() == [("anyone on this host", "send", "done")]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"args": "["}, "this is not JSON"), ({"kwargs": "[]"}, "expected a JSON object"),
        ({"args": "[]"}, "missing a required argument"), ({"kwargs": '{"x": 1}'}, "unexpected"),
        ({"task": "os.system"}, "is not registered"), ({"countdown": "soon"}, "is no number"),
        ({"priority": "9999"}, "priority"), ({"queue": "a/b\n"}, "queue"),
        ({"countdown": "nan"}, "countdown"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused_with_the_reason_and_what_was_typed(
    site: Site, call: dict[str, str], said: str
) -> None:
    fields = {"task": "shop.scan", "args": '["kept as typed"]', "kwargs": "{}", **call}
    for step in ("", "send"):
        answer = site.post("/run", {**fields, "step": step})
        assert answer.status_code == 400
        assert said in text_of(answer)
    if "args" not in call:
        assert "kept as typed" in text_of(answer)
    assert site.app.records.counts() == []


def test_arguments_are_edited_without_being_told_the_secrets(site: Site) -> None:
    first = site.shop.send("shop.scan", "http://x", "s3cret-" + CANARY, depth=2)
    page = site.get(f"/run?again={first}")
    assert CANARY not in page.text
    call = {"task": "shop.scan", "again": first, "args": '["http://other", "***"]',
            "kwargs": '{"depth": 3}'}  # fmt: skip
    asked = site.post("/run", call)
    assert "***" in text_of(asked)
    assert CANARY not in asked.text
    answer = site.post("/run", {**call, "step": "send"})
    sent = answer.headers["location"].partition("id=")[2].partition("&")[0]
    record = site.app.records.get(sent)
    assert record is not None
    assert (
        f'"args":["http://other","s3cret-{CANARY}"],"kwargs":{{"depth":3}}'.encode() in record.body
    )
    moved = site.post("/run", {**call, "args": '["***"]'})
    assert "stands for a secret" in text_of(moved)
    assert site.post("/run", {**call, "again": "gone"}).status_code == 400
    assert site.get("/run?again=gone").status_code == 404


# -- looking ---------------------------------------------------------------------------------------


def test_every_page_of_a_busy_shop_is_shown_without_a_secret(busy: Site) -> None:
    for path in every_path(busy.app):
        answer = busy.get(path)
        assert answer.status_code in {200, 404, 409}, path
        assert CANARY not in answer.text, path
        assert answer.text.count("<h1") == 1, path


def test_a_search_does_not_tell_whether_a_guess_at_a_secret_is_right(busy: Site) -> None:
    for field in ("text", "error"):
        found = busy.get("/tasks", params={field: CANARY, "state": "FAILURE"})
        assert "No task fits" in text_of(found)
        asked = busy.get("/confirm/retry", params={"matching": "1", field: CANARY})
        assert asked.status_code == 404
    assert "did not answer" in text_of(busy.get("/tasks?error=did+not+answer"))
    assert "import_orders" in text_of(busy.get("/tasks?text=orders-2026-11.csv"))


def test_the_overview_tells_what_was_counted(busy: Site) -> None:
    page = busy.get("/")
    text = text_of(page)
    for word in ("Done", "Failed for good", "Retries", "Recovered from a lost worker", "all tasks",
                 "box-1.77.a", "207 MiB", "mails paused", "shop.import_orders"):  # fmt: skip
        assert word in text
    assert page.text.count("<rect") > 60
    assert 'aria-label="Done: ' in page.text


def test_the_story_of_a_task_has_all_its_attempts(busy: Site) -> None:
    task_id = busy.shop.retried("shop.scan", "http://x", times=3, failure=Failure(
        "ConnectionError", "refused", "Traceback: line 3"), wait=300.0)  # fmt: skip
    text = text_of(busy.get(f"/task?id={task_id}"))
    for word in ("3 retry", "2 lost", "1 retry", "Traceback: line 3", "connection 3 of 8",
                 "Next attempt in 5 min", "claim \xd73", "release", '"http://x"'):  # fmt: skip
        assert word in text, word


def test_failures_are_grouped_and_lead_to_their_tasks(busy: Site) -> None:
    page = busy.get("/failures")
    assert "9 ConnectionError https://shop.example/orders/… did not answer within … s" in text_of(
        page
    )
    links = [unescape(each) for each in re.findall(r'href="(/tasks\?[^"]*error[^"]*)"', page.text)]
    found = busy.get(links[0])
    assert found.text.count('id="row-') == 9
    assert "poison" in text_of(busy.get("/dead"))


def test_pages_follow_each_other_without_gap_or_double(site: Site) -> None:
    ids = {site.shop.send("shop.scan", number) for number in range(120)}
    seen: list[str] = []
    path: str | None = "/tasks?task=shop.scan"
    while path is not None:
        page = site.get(path).text
        seen += re.findall(r'name="selected" value="(\w+)"', page)
        older = re.search(r'rel="next" href="([^"]*)"', page)
        path = unescape(older[1]) if older else None
    assert len(seen) == 120
    assert set(seen) == ids


def test_a_search_says_how_far_it_looked_and_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acked.dashboard.finding.TEXT_WINDOW", 10)
    wanted = site.shop.send("shop.scan", "the-needle", ago=5000)
    for number in range(25):
        site.shop.send("shop.scan", number)
    looks = 0
    path = "/tasks?text=the-needle"
    while True:
        page = site.get(path)
        looks += 1
        if wanted in page.text:
            break
        assert "Looked at tasks sent since" in text_of(page)
        further = re.search(r'href="([^"]*)">Look further back', page.text)
        assert further is not None
        path = unescape(further[1])
    assert looks == 3
    assert "Look further back" not in page.text
    assert "1 task" in text_of(site.get("/confirm/revoke?matching=1&text=the-needle"))


def test_a_task_that_is_not_there_is_told_as_that(site: Site) -> None:
    answer = site.get("/task?id=%3Cscript%3E")
    assert answer.status_code == 404
    assert "<script>" not in answer.text.replace('<script type="module"', "")


def test_hostile_texts_are_text_on_every_page(site: Site) -> None:
    failure = Failure(HOSTILE, HOSTILE, HOSTILE)
    hostile_id = HOSTILE[:150]
    site.shop.beat("w<b>", HOSTILE)
    site.shop.failed(HOSTILE, HOSTILE, failure=failure, task_id=hostile_id, log=HOSTILE,
                     **{HOSTILE: HOSTILE})  # fmt: skip
    site.shop.retried("shop.scan", HOSTILE, failure=failure, log=HOSTILE)
    site.shop.running("shop.scan", HOSTILE, message=HOSTILE, done=1, total=2)
    site.shop.done("shop.scan", HOSTILE, result={HOSTILE: HOSTILE})
    site.shop.send("shop.scan", queue=HOSTILE)
    minute = int(site.app.clock.now() // 60)
    site.app.records.count([Count(minute, HOSTILE, HOSTILE, "success", 3)])
    site.post("/do/pause", {"queue": HOSTILE})
    paths = [*every_path(site.app), "/task?id=%3C", f"/tasks?queue={quote(HOSTILE)}"]
    for path in paths:
        text = site.get(path).text
        assert text.count("<script") <= 1, path
        assert "<img" not in text, path
        assert "onerror=" not in re.sub(r"&[#\w]+;[^<]*", "", text), path
        shown = re.sub(r'(value)="[^"]*"', "", text)  # what a form sends must be as it is
        assert "\u202e" not in shown and "\x1b" not in shown, path


def test_every_answer_has_the_headers_that_keep_a_browser_strict(guarded: Site, site: Site) -> None:
    answers = [guarded.get("/"), guarded.get("/login"), site.get("/"), site.get("/nothing"),
               site.get("/dashboard.js"), site.client.post("/run")]  # fmt: skip
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'",
                     "frame-ancestors 'none'", "base-uri 'none'"):  # fmt: skip
            assert part in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "strict-transport-security" not in answer.headers
    secure = TestClient(guarded.dashboard, base_url="https://shop.example")
    assert secure.get("/login").headers["strict-transport-security"] == "max-age=31536000"
    assert site.get("/").headers["cache-control"] == "no-store"
    for answer in (site.get("/"), guarded.get("/login")):
        assert "style=" not in answer.text and "<style" not in answer.text
        assert not re.search(r"\son\w+=", answer.text)


def test_a_broker_that_is_away_is_told_without_its_password(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **kwargs: Any) -> Any:
        raise BrokerUnavailable("redis://user:" + CANARY + "@db does not answer")

    monkeypatch.setattr(site.app.broker, "search", away)
    answer = site.get("/tasks")
    assert answer.status_code == 503
    assert "redis://user:***@db does not answer" in text_of(answer)
    monkeypatch.setattr(site.app.broker, "requeue", away)
    assert site.post("/do/retry", {"selected": "1"}).status_code == 503
    assert site.audit()[0][:2] == ("anyone on this host", "retry")
    assert CANARY not in str(site.audit())
