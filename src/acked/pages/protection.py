"""What every response says to the browser, and which requests may change something."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from acked.errors import ConfigurationError


def content_policy(frame_ancestors: str) -> str:
    """The Content-Security-Policy of a page that *frame_ancestors* may put into a frame.

    Raises:
        ConfigurationError: It would say something else as well.
    """
    if not frame_ancestors.isascii() or not frame_ancestors.isprintable():
        raise ConfigurationError(f"frame_ancestors={frame_ancestors!r} is not plain text.")
    if ";" in frame_ancestors or "," in frame_ancestors or not frame_ancestors.strip():
        raise ConfigurationError(
            f"frame_ancestors={frame_ancestors!r} must be sources separated by blanks, such as "
            "\"'self' https://shop.example\", or \"'none'\"."
        )
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "form-action 'self'; object-src 'none'; base-uri 'none'; "
        f"frame-ancestors {frame_ancestors}"
    )


ONLY_TLS = {"strict-transport-security": "max-age=31536000"}
"""For answers over TLS: browsers ask this host by nothing else for a year."""


class SafeHeaders:
    """Middleware: the headers of every response. It belongs around the whole site, so that the
    answer to a fault has them as well.

    The referrer goes to this site alone, and not to nobody: with ``no-referrer`` browsers send
    forms with ``Origin: null``, and `is_same_origin` has nothing to go by on plain http.
    """

    def __init__(self, app: ASGIApp, *, policy: str) -> None:
        self._app = app
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        more = ONLY_TLS if scope.get("scheme") == "https" else {}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (self._headers | more).items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def is_same_origin(request: Request) -> bool:
    """Whether a page of this site sent *request*. Browsers say so in one header or the other;
    what says neither is no browser of a visitor."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and host_in(origin) == request.headers.get("host")


def host_in(address: str) -> str | None:
    """Host and port of a URL; None where it is none."""
    try:
        return urlsplit(address).netloc
    except ValueError:
        return None


def address_of(request: Request) -> str:
    """Where *request* came from; ``?`` where the server does not say."""
    if request.client:
        return request.client.host
    # Adapters of WSGI leave `client` out where the server names no port.
    address: str = request.scope.get("wsgi_environ", {}).get("REMOTE_ADDR", "")
    return address or "?"
