"""The files beside pages: scripts, style sheets, icons."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def asset(package: str, name: str) -> Callable[[Request], Awaitable[Response]]:
    """What answers with the file *name* in the folder ``static`` of *package*. Asked for again each
    time, and sent when it changed, so that a page never runs the script of another version."""
    content = (importlib.resources.files(package) / "static" / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    kind = _TYPES[name[name.rindex(".") :]]

    async def answer(request: Request) -> Response:
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return answer
