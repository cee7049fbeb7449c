"""Draw the pictures of docs/dashboard.md: ``python -m tests.dashboard.screenshots``.

Every page in light, in dark and on a narrow screen. Inter stands for the font of the reader's
system: `fonts-inter` in Debian. `pngquant` keeps the pictures small.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

import uvicorn
from playwright.sync_api import Route, sync_playwright

from acked import Acked
from acked.dashboard import Dashboard, hash_password
from acked.dashboard.query import Query
from tests.dashboard import shop as tasks
from tests.dashboard.staging import Past, Shop, open_shop
from tests.harness.workers import ROOT
from tests.pages.conftest import ARGUMENTS, CHROMIUM
from tests.servers.server import free_port

PICTURES = ROOT / "docs" / "images" / "dashboard"
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light"},
}
BROKER = "sqlite:////srv/shop/shop.acked.db"
PASSWORD = "correct horse battery"  # noqa: S105 - of a user who exists while this runs


@contextlib.contextmanager
def served(site: Dashboard) -> Iterator[str]:
    """The address of *site* while it is served."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(site, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def pages(shop: Shop) -> dict[str, str]:
    """The pages by the names of their pictures."""
    finder = shop.app.records
    failed = finder.search(Query(task="shop.scan", state=("FAILURE",)).filter(now=0.0), limit=1)
    again = finder.search(Query(task="shop.scan", state=("SCHEDULED",)).filter(now=0.0), limit=1)
    running = finder.search(Query(state=("RUNNING",)).filter(now=0.0), limit=2)
    return {
        "overview": "/",
        "day": "/?span=day",
        "tasks": "/tasks",
        "search": "/tasks?state=FAILURE&error=did+not+answer&since=2h",
        "task": f"/task?id={again[0].id}",
        "running": f"/task?id={running[-1].id}",
        "failures": "/failures",
        "dead": "/dead",
        "waiting": "/waiting",
        "queues": "/queues",
        "workers": "/workers",
        "registered": "/registered",
        "run": f"/run?again={failed[0].id}",
        "confirm": "/confirm/retry?matching=1&state=FAILURE&task=shop.scan",
        "audit": "/audit",
    }


def with_inter(route: Route) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, body=answer.text().replace("system-ui", "Inter, system-ui"))


def draw(url: str, shop: Shop, names: set[str]) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        for look, options in LOOKS.items():
            context = browser.new_context(**options)
            context.route("**/dashboard.css", with_inter)
            page = context.new_page()
            page.goto(f"{url}/")
            page.screenshot(path=PICTURES / f"login-{look}.png")
            page.get_by_label("Name").fill("ada")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_selector("h1")
            for name, path in pages(shop).items():
                if names and name not in names:
                    continue
                for worker, queues in (
                    ("box-1.77.a", ("default", "mails")),
                    ("box-2.90.b", ("default",)),
                ):
                    shop.beat(worker, *queues, lease=9.0)
                page.goto(f"{url}{path}")
                page.wait_for_timeout(100)
                page.evaluate(f"document.querySelector('.broker').textContent = '{BROKER}'")
                whole = look != "narrow" and name not in {"tasks", "day"}
                page.screenshot(path=PICTURES / f"{name}-{look}.png", full_page=whole)
            context.close()
        browser.close()


if __name__ == "__main__":
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        app = Acked("shop", broker=f"sqlite:///{directory}/shop.db", clock=Past())
        app.tasks.update(tasks.app.tasks)
        shop = open_shop(app)
        users = {"ada": hash_password(PASSWORD)}
        with served(Dashboard(app, users=users, roles={"ada": "operator"})) as url:
            draw(url, shop, set(sys.argv[1:]))
        app.close()
    if quant := shutil.which("pngquant"):
        drawn = sorted(map(str, PICTURES.glob("*.png")))
        subprocess.run(
            [quant, "--ext", ".png", "--force", "128", "--speed", "1", *drawn], check=True
        )
