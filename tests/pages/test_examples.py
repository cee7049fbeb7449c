"""The examples of docs/progress-page.md and examples/progress run as written, in a browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.harness.workers import ROOT, Worker, until
from tests.pages.conftest import TOLD, Open, answers
from tests.servers.server import free_port

PACKED = 12_000
"""Milliseconds that an order of the examples is packed for, at most."""

BIN = Path(sys.executable).parent


def of_the_page() -> str:
    page = (ROOT / "docs" / "progress-page.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(# orders\.py\n.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def of_the_directory() -> str:
    return (ROOT / "examples" / "progress" / "shop.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("source", [of_the_page, of_the_directory])
def test_the_example_shows_an_order_until_it_is_done(
    source: Callable[[], str], tmp_path: Path, visit: Open
) -> None:
    (tmp_path / "orders.py").write_text(source(), encoding="utf-8")
    environment = {
        "ACKED_BROKER_URL": f"sqlite:///{tmp_path}/orders.db",
        "ACKED_RUNTIME_DIR": str(tmp_path),
        "ACKED_TEST_PATH": str(tmp_path),
    }
    port = free_port()
    with ExitStack() as stack:
        site = subprocess.Popen(
            [BIN / "uvicorn", "orders:site", "--port", str(port), "--log-level", "warning"],
            cwd=tmp_path, env={**os.environ, **environment},
        )  # fmt: skip
        stack.callback(lambda: site.wait(10))
        stack.callback(site.kill)
        worker = Worker(
            "orders:app", "-c", "1", environment=environment, log=tmp_path / "worker.log",
            directory=tmp_path,
        )  # fmt: skip
        stack.enter_context(worker).ready()
        until(lambda: answers(port), what="the site to answer")
        page = visit(f"http://127.0.0.1:{port}")
        order(page)
        expect(page.locator("acked-task")).to_contain_text("Packing", timeout=TOLD)
        expect(page).to_have_title(re.compile(r"^Order \d+: Working$"))
        card = page.locator("acked-task").locator("css=div.acked:visible")
        expect(card).to_have_attribute("data-phase", "done", timeout=PACKED + TOLD)
        expect(card.locator(".headline")).to_have_text("Done")
        expect(card.locator(".check")).to_have_css("opacity", "1")
        expect(card.locator(".check")).to_have_css("stroke-dashoffset", "0px")
        expect(page).to_have_title(re.compile(r"^Order \d+: Done$"))


def order(page: Page) -> None:
    button = page.get_by_role("button", name="Order something")
    if button.count():
        button.click()
