"""Draw the pictures of docs/dashboard.md: ``python -m tests.dashboard.screenshots``.

Every state of `tests.dashboard.scenes` in light, in dark and on a narrow screen; names of states
draw those alone. Inter stands for the font of the reader's system: `fonts-inter` in Debian.
`pngquant` keeps the pictures small.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from acked import Acked
from acked.dashboard import Dashboard, hash_password
from acked.dashboard.query import Query
from tests.dashboard import shop as tasks
from tests.dashboard.scenes import Scene, scenes, served, without_a_broker
from tests.dashboard.staging import Past, Shop, open_shop
from tests.harness.workers import ROOT
from tests.pages.conftest import ARGUMENTS, CHROMIUM
from tests.pages.screenshots import shrink, with_inter

PICTURES = ROOT / "docs" / "images" / "dashboard"
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light"},
}
CUT = {"tasks", "day", "go-on"}
"""Those of which a wide screen's first page says enough."""

BROKER = "sqlite:////srv/shop/shop.acked.db"
PASSWORD = "correct horse battery"  # noqa: S105 - of a user who exists while this runs


def states(url: str, away: str, shop: Shop) -> dict[str, Scene]:
    """All states of a busy shop."""

    def newest(limit: int = 1, **query: str | tuple[str, ...]) -> str:
        wanted = Query(**query).filter(now=0.0)  # type: ignore[arg-type]  # states or a name
        return shop.app.records.search(wanted, limit=limit)[-1].id

    return scenes(
        url, away, shop, running=newest(2, state=("RUNNING",)),
        failed=newest(task="shop.scan", state=("FAILURE",)),
        again=newest(task="shop.scan", state=("SCHEDULED",)),
    )  # fmt: skip


def enter(browser: Browser, url: str, look: str) -> Page:
    """A page of somebody who has logged in, after a picture of the login."""
    context = browser.new_context(**LOOKS[look])
    context.route("**/dashboard.css", with_inter)
    page = context.new_page()
    page.goto(f"{url}/")
    page.screenshot(path=PICTURES / f"login-{look}.png")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("h1:text('Overview')")
    return page


def draw(url: str, away: str, shop: Shop, names: set[str]) -> list[Path]:
    drawn: list[Path] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        pages = {look: enter(browser, url, look) for look in LOOKS}
        # Each in all looks before the next, which may change what there is to see.
        for name, show in states(url, away, shop).items():
            if names and name not in names:
                continue
            for look, page in pages.items():
                shop.beat("box-1.77.a", "default", "mails", lease=9.0)
                shop.beat("box-2.90.b", "default", lease=9.0)
                show(page)
                page.wait_for_timeout(100)
                page.evaluate(
                    """(broker) => {
                        const shown = document.querySelector(".broker");
                        if (shown) shown.textContent = broker;
                    }""",
                    BROKER,
                )
                whole = look == "narrow" or name not in CUT
                drawn.append(PICTURES / f"{name}-{look}.png")
                page.screenshot(path=drawn[-1], full_page=whole)
        browser.close()
    return drawn


if __name__ == "__main__":
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        app = Acked("shop", broker=f"sqlite:///{directory}/shop.db", clock=Past())
        app.tasks.update(tasks.app.tasks)
        shop = open_shop(app)
        users = {"ada": hash_password(PASSWORD)}
        dashboard = Dashboard(app, users=users, roles={"ada": "operator"})
        with served(dashboard) as url, without_a_broker() as away:
            drawn = draw(url, away, shop, set(sys.argv[1:]))
        app.close()
    shrink(drawn)
