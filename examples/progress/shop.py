"""A shop whose customers watch their orders: a page for each, and a list of widgets.

pip install 'acked[dashboard]'
acked worker shop:app            # in one terminal
uvicorn shop:site                # in another; then open http://127.0.0.1:8000
"""

from __future__ import annotations

import html
import os
import secrets
import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from acked import Acked, Task
from acked.pages import TaskPages

app = Acked("shop")


@app.task(bind=True, max_retries=4)
def pack(self: Task[..., Any], order: int, items: int) -> str:
    if order % 3 == 0 and self.request.retries == 0:
        raise self.retry(countdown=5)  # the warehouse does not answer at once
    for _ in self.track(range(items), message="Packing"):
        time.sleep(0.5)
    return f"Parcel {order}"


# A secret of its own in production, the same in every process: links outlive a restart then.
SECRET = os.environ.get("SHOP_SECRET") or secrets.token_hex(32)

pages = TaskPages(
    app,
    secrets=[SECRET],
    path="/tasks",
    show_result=lambda result: f"{result.get()} is on its way.",
)
sent: list[tuple[int, str]] = []  # a real shop asks its database

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/shop.css">
<script type="module" src="/tasks/acked-task.js"></script>"""


async def home(_: Request) -> Response:
    orders = "".join(
        f'<acked-task token="{html.escape(pages.token_for(task, label=f"Order {order}"))}">'
        f"</acked-task>"
        for order, task in reversed(sent[-10:])
    )
    form = '<form method="post" action="/orders"><button>Order something</button></form>'
    return HTMLResponse(f"{HEAD}<main><h1>Shop</h1>{form}{orders}</main>")


async def order(_: Request) -> Response:
    number = len(sent) + 1
    result = await pack.adelay(number, items=12)
    sent.append((number, result.id))
    page = pages.url_for(result, label=f"Order {number}", allow=["cancel", "retry"])
    return RedirectResponse(page, status_code=303)


async def style(_: Request) -> Response:
    return Response(
        ":root { color-scheme: light dark; font-family: system-ui, sans-serif; }"
        "main { max-width: 36rem; margin: 2rem auto; padding: 0 1rem; }"
        "acked-task, form { margin-block: 1rem; }",
        media_type="text/css",
    )


site = Starlette(
    routes=[
        Route("/", home),
        Route("/orders", order, methods=["POST"]),
        Route("/shop.css", style),
        Mount("/tasks", pages),
    ]
)
