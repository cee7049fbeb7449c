"""Where a RabbitMQ is, and how far the way to it can be trusted."""

from __future__ import annotations

import ssl
from urllib.parse import unquote, urlsplit

import msgspec

from acked.broker import Condition
from acked.errors import ConfigurationError
from acked.hosts import is_loopback

PORTS = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671}
OPTIONS = frozenset({"cafile", "certfile", "keyfile", "verify"})


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A RabbitMQ, as the URL of a broker names it.

    Args:
        url: As it was given, password and all.
        user, password: The credentials, ``guest`` where neither is given.
        vhost: The virtual host.
        tls: What the connection is wrapped in; None is plain text.
    """

    url: str
    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: ssl.SSLContext | None = None

    @property
    def masked(self) -> str:
        """The URL without the password: for people."""
        scheme = "amqp" if self.tls is None else "amqps"
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = "" if self.vhost == "/" else f"/{self.vhost}"
        return f"{scheme}://{self.user}:***@{host}:{self.port}{vhost}"

    @property
    def identity(self) -> str:
        """Names the server and the virtual host in it."""
        return f"amqp://{self.host}:{self.port}/{self.vhost}"

    def conditions(self) -> list[Condition]:
        """What of the way to it its users should know."""
        if is_loopback(self.host):
            return []
        found = []
        if self.tls is None:
            found.append(
                Condition(
                    subject="encryption", level="warn",
                    text=f"{self.host} is reached in plain text: whoever can listen on the way "
                    "reads the password and every task's arguments.",
                    remedy="Use amqps:// (port 5671).",
                )
            )  # fmt: skip
        elif self.tls.verify_mode is not ssl.CERT_REQUIRED:
            found.append(
                Condition(
                    subject="encryption", level="warn",
                    text="the server's certificate is not checked (verify=none): another server "
                    "could pose as it.",
                    remedy="Leave verify=none out, and name the authority's file in cafile=.",
                )
            )  # fmt: skip
        if self.user == "guest":
            found.append(
                Condition(
                    subject="credentials", level="warn",
                    text="the user is guest, whose password everybody knows.",
                    remedy="Make a user of acked's own with rights to its virtual host alone.",
                )
            )  # fmt: skip
        return found


def parse(url: str) -> Address:
    """The address in *url*: ``amqp[s]://user:password@host:port/vhost``.

    An ``amqps`` URL may say ``cafile``, ``certfile``, ``keyfile``, and ``verify=none``; without
    it the server's certificate is checked.

    Raises:
        ConfigurationError: It names a user without a password, or an option that is not known.
    """
    parts = urlsplit(url)
    # Before anything of it is quoted: it may be a part of the password.
    if "#" in url or "@" in parts.path + parts.query:
        raise ConfigurationError(
            "the broker URL has a '#', or an '@' after its host. Write / # ? @ in a password as "
            "%2F %23 %3F %40."
        )
    try:
        port = parts.port or PORTS[parts.scheme]
    except ValueError:
        raise ConfigurationError("the broker URL's port is no number from 1 to 65535") from None
    path = unquote(parts.path.removeprefix("/"))
    if parts.username and parts.password is None:
        raise ConfigurationError(
            f"the broker URL names the user {unquote(parts.username)!r} and no password. Write "
            f"{parts.scheme}://{parts.username}:PASSWORD@{parts.hostname or 'localhost'}/..."
        )
    options = _options(parts.query, tls=parts.scheme == "amqps")
    return Address(
        url=url,
        host=parts.hostname or "localhost",
        port=port,
        user=unquote(parts.username or "guest"),
        password="guest" if parts.password is None else unquote(parts.password),
        vhost=path or "/",
        tls=_tls(options) if parts.scheme == "amqps" else None,
    )


def _options(query: str, *, tls: bool) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name not in OPTIONS or not tls:
            known = ", ".join(sorted(OPTIONS)) if tls else "none with amqp://"
            raise ConfigurationError(f"the broker URL's option {name!r} is not known ({known})")
        options[name] = unquote(value)
    return options


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("cafile"))
        if "certfile" in options:
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the certificates that the broker URL names cannot be read: {error}"
        ) from None
    if options.get("verify") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif "verify" in options:
        raise ConfigurationError(
            f"verify={options['verify']} in the broker URL is not known; the one value is none"
        )
    return context
