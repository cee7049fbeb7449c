"""Draw the pictures of docs/progress-page.md: ``python -m tests.pages.screenshots``.

Every phase in light, in dark and on a narrow screen, a page of widgets, and the moments in which
the ring turns into a check mark. Inter stands for the font of the reader's system: `fonts-inter` in
Debian. `pngquant` keeps the pictures small.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, sync_playwright

from acked.pages.view import Phase
from tests.harness.places import Place
from tests.harness.workers import ROOT
from tests.pages.conftest import ARGUMENTS, CHROMIUM, Shop, broker_away

PICTURES = ROOT / "docs" / "images" / "progress"
LOOKS = {
    "light": {"viewport": {"width": 560, "height": 300}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 560, "height": 300}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 300}, "color_scheme": "light"},
}
MARGIN = 20
MOMENTS = (0, 250, 450, 600, 750, 1000, 1300)
"""Milliseconds after the end of a task at which the ring is drawn."""


def with_inter(route: Route) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, body=answer.text().replace("system-ui", "Inter, system-ui"))


def box(page: Page, widget: str = "div.acked") -> dict[str, float]:
    """Where the widget is, with some of the page around it."""
    box = page.locator(f"{widget}:visible").bounding_box()
    assert box is not None
    return {
        "x": max(0, box["x"] - MARGIN), "y": max(0, box["y"] - MARGIN),
        "width": min(page.viewport_size["width"], box["width"] + 2 * MARGIN),
        "height": box["height"] + 2 * MARGIN,
    }  # fmt: skip


def widgets(shop: Shop) -> str:
    """The address of a page of the site's own with widgets."""
    phases = (Phase.WORKING, Phase.TRYING_AGAIN, Phase.WAITING, Phase.DONE)
    tokens = [
        shop.pages.token_for(shop.stage(phase), label=f"Order {number}")
        for number, phase in enumerate(phases, 17)
    ]
    return f"{shop.server.url}/several?" + "&".join(f"t={each}" for each in tokens)


def draw(shop: Shop, away: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        for look, options in LOOKS.items():
            context = browser.new_context(**options, device_scale_factor=1.5)
            context.route("**/*.css", with_inter)
            page = context.new_page()
            for phase in Phase:
                url = f"{shop.server.url}/tasks/task/nonsense"
                if phase is not Phase.REFUSED:
                    url = shop.url(shop.stage(phase), "cancel", "retry")
                page.goto(url)
                page.wait_for_selector(f'div.acked[data-phase="{phase}"]:visible')
                page.wait_for_timeout(150)
                page.screenshot(path=PICTURES / f"{phase}-{look}.png", clip=box(page))
            page.goto(away)
            page.wait_for_selector("div.acked:visible")
            page.wait_for_timeout(150)
            page.screenshot(path=PICTURES / f"unreachable-{look}.png", clip=box(page))
            page.goto(widgets(shop))
            page.wait_for_selector('div.acked[data-phase="done"]:visible')
            page.wait_for_timeout(150)
            page.screenshot(path=PICTURES / f"widgets-{look}.png", full_page=True)
            context.close()
        several(shop, browser)
        film(shop, browser)
        browser.close()


def several(shop: Shop, browser: Browser) -> None:
    """A page of several tasks, while they work and when all are done."""
    phases = [
        Phase.DONE,
        Phase.DONE,
        Phase.WORKING,
        Phase.TRYING_AGAIN,
        Phase.FAILED,
        Phase.WAITING,
    ]
    labels = [f"{name}.csv" for name in ("January", "February", "March", "April", "May", "June")]
    for name, tasks in (
        ("several", [shop.stage(phase) for phase in phases]),
        ("several-done", [shop.stage.done(b'"imported"') for _ in phases[:3]]),
    ):
        for look in ("light", "dark", "narrow"):
            options = {**LOOKS[look], "viewport": {**LOOKS[look]["viewport"], "height": 1000}}
            context = browser.new_context(**options, device_scale_factor=1.5)
            context.route("**/acked-task.css", with_inter)
            page = context.new_page()
            page.goto(
                shop.url_of_many(tasks, label="Importing the files", labels=labels[: len(tasks)])
            )
            page.wait_for_selector("acked-tasks .acked.small:visible")
            page.wait_for_timeout(150)
            page.screenshot(path=PICTURES / f"{name}-{look}.png", clip=box(page, "div.several"))
            context.close()


def film(shop: Shop, browser: Browser) -> None:
    """The ring of a task that ends, at `MOMENTS`, side by side."""
    context = browser.new_context(**LOOKS["light"], device_scale_factor=1.5)
    page = context.new_page()
    task_id = shop.stage.working(total=0)
    page.goto(shop.url(task_id))
    page.wait_for_selector('div.acked[data-phase="working"]:visible')
    shop.stage.finish(task_id)
    page.wait_for_selector('div.acked[data-phase="done"]:visible')
    box = page.locator("acked-task .ring:visible").bounding_box()
    assert box is not None
    pictures = []
    for moment in MOMENTS:
        page.evaluate(
            """(moment) => {
                const root = document.querySelector("acked-task").shadowRoot;
                for (const animation of root.getAnimations()) {
                    animation.pause();
                    animation.currentTime = moment;
                }
            }""",
            moment,
        )
        clip = {"x": box["x"] - 8, "y": box["y"] - 8, "width": 80, "height": 80}
        pictures.append(b64encode(page.screenshot(clip=clip)).decode())
    strip = context.new_page()
    strip.set_content(
        "<style>body { margin: 0; display: flex } img { width: 80px }</style>"
        + "".join(f'<img src="data:image/png;base64,{each}">' for each in pictures)
    )
    size = {"x": 0, "y": 0, "width": 80 * len(MOMENTS), "height": 80}
    strip.set_viewport_size({"width": size["width"], "height": 80})
    strip.screenshot(path=PICTURES / "turning-into-a-check-mark.png", clip=size)


def shrink(pictures: list[Path]) -> None:
    """Fewer colours, where `pngquant` is there."""
    if quant := shutil.which("pngquant"):
        files = sorted(map(str, pictures))
        options = ["--ext", ".png", "--force", "128", "--speed", "1", "--strip"]
        subprocess.run([quant, *options, *files], check=True)


if __name__ == "__main__":
    PICTURES.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        shop = Shop(Path(directory), stack, Place("sqlite", f"sqlite:///{directory}/pages.db"))
        try:
            with broker_away(shop) as away:
                draw(shop, away)
        finally:
            shop.server.stop()
            shop.app.close()
    shrink(list(PICTURES.glob("*.png")))
