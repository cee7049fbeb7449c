"""The files beside the pages: style sheet, script, icon."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

_FILES = importlib.resources.files("acked.dashboard") / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def asset(name: str) -> Callable[[Request], Awaitable[Response]]:
    """What answers with a file of `static`, asked for again each time and sent when it changed, so
    that a page never runs the script of another version."""
    content = (_FILES / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    kind = _TYPES[name[name.rindex(".") :]]

    async def answer(request: Request) -> Response:
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return answer
