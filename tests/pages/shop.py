"""The application of the browser tests: tasks that wait to be told to go on, and their pages."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from acked import Acked, Task
from acked.pages import Limits, TaskPages

SECRET = "only-tests-know-it-" * 3

app = Acked(
    "pages", broker=os.environ["PAGES_BROKER"], results=os.environ.get("PAGES_RESULTS") or None
)


def allowed(gate: str) -> int:
    """How many steps the test has allowed so far."""
    try:
        return int(Path(gate).read_text() or 0)
    except FileNotFoundError:
        return 0


def wait_for(gate: str, step: int) -> None:
    while allowed(gate) < step:
        time.sleep(0.01)


@app.task(bind=True)
def work(self: Task[..., Any], gate: str, items: int, message: str = "Packing") -> str:
    for done in range(items):
        if message:
            self.progress(done, items, message)
        wait_for(gate, done + 1)
    return message


@app.task(bind=True, max_retries=4)
def flaky(self: Task[..., Any], gate: str) -> str:
    if self.request.retries == 0:
        raise self.retry(countdown=5, exc=ValueError("the-inner-reason"))
    wait_for(gate, 1)
    return "at last"


@app.task
def fails(text: str) -> None:
    raise ValueError(text)


pages = TaskPages(
    app,
    secrets=[SECRET],
    path="/tasks",
    show_result=lambda result: str(result.get()),
    result_link=lambda result: f"/files/{result.id}",
    safe_errors={"ConnectionError": "The warehouse does not answer. Order again tomorrow."},
    limits=Limits(
        lifetime=float(os.environ.get("PAGES_LIFETIME", "600")),
        streams_per_address=1_000,  # all pages of a test are opened from one
    ),
)


POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "require-trusted-types-for 'script'"
)


async def several(request: Request) -> Response:
    """One page with a widget for each token of the query, under a strict policy of its own."""
    widgets = "".join(
        f'<acked-task token="{token}"></acked-task>' for token in request.query_params.getlist("t")
    )
    return HTMLResponse(
        '<!doctype html><html lang="en"><title>Orders</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/shop.css">'
        '<script type="module" src="/tasks/acked-task.js"></script>'
        f"<main><h1>Orders</h1>{widgets}</main>",
        headers={"content-security-policy": POLICY},
    )


async def together(request: Request) -> Response:
    """A page with the widget of several tasks, and one of a single task where the query has one."""
    tokens = request.query_params
    single = f'<acked-task token="{tokens["one"]}"></acked-task>' if "one" in tokens else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><title>Orders</title>'
        '<script type="module" src="/tasks/acked-task.js"></script><h1>Orders</h1>'
        f'<acked-tasks token="{tokens["t"]}"></acked-tasks>{single}',
        headers={"content-security-policy": POLICY},
    )


async def style(_: Request) -> Response:
    return Response(
        ":root { color-scheme: light dark; font-family: system-ui, sans-serif; }"
        "body { margin: 0; } main { max-width: 36rem; margin: 0 auto; padding: 1rem; }"
        "acked-task { display: block; margin-block: 1rem; }",
        media_type="text/css",
    )


async def elsewhere(_: Request) -> Response:
    return Response("the result")


site = Starlette(
    routes=[
        Route("/several", several),
        Route("/together", together),
        Route("/shop.css", style),
        Route("/files/{task_id}", elsewhere),
        Mount("/tasks", pages),
    ]
)
