"""The Django project of docs/dashboard.md, served as written: who may do what in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from acked import Acked
from acked.delivery import Failure, State
from tests.dashboard.staging import Past, Shop
from tests.dashboard.test_wsgi import SAME, block, serving, token_of
from tests.harness.workers import search_path, until
from tests.pages.conftest import answers
from tests.servers.server import free_port

WRITTEN = ("shop/models.py", "shop/ops.py", "shop/asgi.py", "shop/wsgi.py")
SETTINGS = """
from pathlib import Path
SECRET_KEY = "only-tests-know-it"
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3",
                         "NAME": Path(__file__).parent / "django.db"}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes",
                  "django.contrib.sessions", "shop"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware",
              "django.contrib.auth.middleware.AuthenticationMiddleware"]
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
URLS = """
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("the shop"))]
"""
TASKS = """
from acked import Acked
app = Acked("shop")
"""
PEOPLE = """
import json, os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
django.setup()
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
call_command("migrate", run_syncdb=True, verbosity=0)
keys = {}
for name, staff, permissions in [
    ("customer", False, ["retry_tasks"]), ("staff", True, []), ("retrier", True, ["retry_tasks"]),
]:
    user = User.objects.create_user(name, is_staff=staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    client = Client()
    client.force_login(user)
    keys[name] = client.cookies["sessionid"].value
print(json.dumps(keys))
"""


class Project:
    """The project, its tasks, and the session of each of its people."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{directory}:{search_path({})}",
            "ACKED_BROKER_URL": f"sqlite:///{directory}/shop.db",
            "ACKED_RUNTIME_DIR": str(directory),
        }
        files = {
            "shop/__init__.py": "", "shop/settings.py": SETTINGS, "shop/urls.py": URLS,
            "shop/tasks.py": TASKS, "people.py": PEOPLE,
            **{name: block(name) for name in WRITTEN},
        }  # fmt: skip
        (directory / "shop").mkdir()
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
        said = subprocess.run(
            [sys.executable, "people.py"], cwd=directory, env=self.environment, check=True,
            stdout=subprocess.PIPE, timeout=60,
        ).stdout  # fmt: skip
        self.sessions: dict[str, str] = json.loads(said)
        self.app = Acked("shop", broker=self.environment["ACKED_BROKER_URL"], clock=Past())
        self.shop = Shop(self.app)
        self.url = ""

    def browser(self, name: str) -> requests.Session:
        session = requests.Session()
        session.headers.update(SAME)
        if name in self.sessions:
            session.cookies.set("sessionid", self.sessions[name])
        return session


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    directory = tmp_path_factory.mktemp("django")
    project = Project(directory)
    try:
        if request.param == "wsgi":
            with serving("shop.wsgi:application", directory, project.environment) as project.url:
                yield project
            return
        port = free_port()
        project.url = f"http://127.0.0.1:{port}"
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "shop.asgi:application", "--port", str(port),
             "--log-level", "warning"], cwd=directory, env=project.environment,
        )  # fmt: skip
        try:
            until(lambda: answers(port), what="uvicorn to answer")
            yield project
        finally:
            server.terminate()
            server.wait(20)
    finally:
        project.app.close()


def test_the_rest_of_the_site_is_as_it_was(project: Project) -> None:
    assert requests.get(f"{project.url}/", timeout=20).text == "the shop"


@pytest.mark.parametrize("who", ["anonymous", "customer"])
def test_nobody_but_staff_sees_anything(project: Project, who: str) -> None:
    answer = project.browser(who).get(f"{project.url}/ops/", timeout=20)
    assert answer.status_code == 403
    assert "shop" not in re.sub(r"<[^>]*>", "", answer.text)


@pytest.mark.parametrize(
    ("who", "retried", "code"), [("staff", False, 403), ("retrier", True, 200)]
)
def test_staff_look_and_do_what_each_was_permitted(
    project: Project, who: str, retried: bool, code: int
) -> None:
    failed = project.shop.failed("shop.scan", "u", failure=Failure("ValueError", "x"))
    session = project.browser(who)
    page = session.get(f"{project.url}/ops/task", params={"id": failed}, timeout=20)
    assert page.status_code == 200
    assert ("/confirm/retry" in page.text) is retried
    assert "/confirm/discard" not in page.text
    # The cookie that forms belong to comes with the first page.
    page = session.get(f"{project.url}/ops/confirm/retry", params={"selected": failed}, timeout=20)
    fields = {"selected": failed, "queue": "default", "token": "0" * 64}
    if retried:
        fields["token"] = token_of(page.text)
    for deed in ("discard", "purge"):
        refused = session.post(f"{project.url}/ops/do/{deed}", data=fields, timeout=20)
        assert refused.status_code == 403
    done = session.post(f"{project.url}/ops/do/retry", data=fields, timeout=20)
    assert done.status_code == code
    record = project.app.records.get(failed)
    assert record is not None
    assert (record.state is State.QUEUED) is retried
