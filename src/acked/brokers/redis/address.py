"""What a Redis URL says.

::

    redis://[user:password@]host[:6379][/0]            one server; redis:// alone is localhost's
    rediss://…                                         over TLS, the certificate checked
    redis+cluster://host:7000,host:7001                a Cluster, by some of its nodes
    redis+sentinel://host:26379,host:26379/name[/0]    the primary that Sentinels know as *name*
    valkey://, valkeys+cluster://, …                   the same

and, after a question mark, ``prefix=`` (what all keys begin with, ``acked``) and
``wait_replicas=`` (how many replicas must have a write before it counts, 0). Which certificates are
trusted is OpenSSL's setting: ``SSL_CERT_FILE`` in the environment names those of an own authority.
"""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from acked.broker import Condition
from acked.errors import ConfigurationError
from acked.hosts import is_loopback

PORT = 6379
SENTINEL_PORT = 26379
DEFAULT_PREFIX = "acked"
MASK = "***"

Kind = Literal["server", "cluster", "sentinel"]

SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "valkey": ("server", False),
    "rediss": ("server", True),
    "valkeys": ("server", True),
    "redis+cluster": ("cluster", False),
    "valkey+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "valkeys+cluster": ("cluster", True),
    "redis+sentinel": ("sentinel", False),
    "valkey+sentinel": ("sentinel", False),
    "sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "valkeys+sentinel": ("sentinel", True),
}
"""What each scheme reaches, and whether over TLS."""

CELERYS_CHECK = frozenset({"ssl_cert_reqs", "ssl_ca_certs", "ssl_check_hostname"})
"""Options with which Celery has a certificate checked."""


class Node(NamedTuple):
    """Where one server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A broker URL, taken apart.

    Args:
        url: As it was given, password and all.
        kind: What `nodes` are: the server, nodes of a Cluster, or Sentinels.
        tls: Whether connections are encrypted.
        name: What the Sentinels call the primary.
        database: Number of the database.
        prefix: What all keys begin with.
        wait_replicas: How many replicas must confirm a write.
    """

    url: str
    kind: Kind
    tls: bool
    nodes: tuple[Node, ...]
    name: str = ""
    user: str = ""
    password: str = ""
    database: int = 0
    prefix: str = DEFAULT_PREFIX
    wait_replicas: int = 0

    @property
    def masked(self) -> str:
        """The URL with the password hidden: for people."""
        scheme, rest = self.url.split("://", 1)
        authority = rest.split("/", 1)[0].split("?", 1)[0]
        if "@" not in authority:
            return self.url
        credentials = f"{quote(self.user)}:{MASK}" if self.password else quote(self.user)
        return f"{scheme}://{credentials}@{rest[authority.rindex('@') + 1 :]}"

    def conditions(self) -> list[Condition]:
        """What of the way to it its users should know."""
        if self.tls or all(is_loopback(node.host) for node in self.nodes):
            return []
        return [
            Condition(
                subject="encryption", level="warn",
                text="Tasks and password cross the network as plain text.",
                remedy="Switch TLS on in the server, and say rediss:// for redis://.",
            )
        ]  # fmt: skip

    @property
    def place(self) -> str:
        """Which tasks these are, without user or password."""
        nodes = ",".join(map(str, self.nodes))
        return f"redis {self.kind} {nodes} {self.name} {self.database} {self.prefix}"

    @property
    def servers(self) -> str:
        """The servers as messages name them."""
        nodes = ", ".join(map(str, self.nodes))
        match self.kind:
            case "server":
                return f"Redis at {nodes}"
            case "cluster":
                return f"the Redis Cluster of {nodes}"
            case "sentinel":
                return f"Redis {self.name!r} of the Sentinels {nodes}"


def parse(url: str) -> Address:
    """The parts of *url*.

    Raises:
        ConfigurationError: It names no server, or says something unknown.
    """
    try:
        parts = urlsplit(url)
        kind, tls = SCHEMES[parts.scheme]
    except (KeyError, ValueError):
        raise ConfigurationError(
            f"this is no URL of a Redis broker. Known are {', '.join(SCHEMES)}."
        ) from None
    credentials, _, hosts = parts.netloc.rpartition("@")
    if kind == "sentinel" and (";" in hosts or f";{parts.scheme}://" in url):
        raise _wrong(
            parts.scheme, "is several URLs, or has ';' between its Sentinels",
            "user:password@host:26379,host:26379/mymaster",
        )  # fmt: skip
    # Before anything of it is quoted: it may be a part of the password.
    if "#" in url or "@" in parts.path + parts.query:
        raise ConfigurationError(
            f"broker URL {parts.scheme}://… has a '#', or an '@' after its host. Write / # ? @ in "
            "a password as %2F %23 %3F %40."
        )
    if kind == "server" and not parts.netloc:
        hosts = "localhost"
    user, _, password = credentials.partition(":")
    default = SENTINEL_PORT if kind == "sentinel" else PORT
    path = [unquote(each) for each in parts.path.strip("/").split("/") if each]
    name = ""
    if kind == "sentinel":
        # Celery has the primary's name elsewhere, and only the database's number here.
        if not path or (len(path) == 1 and path[0].isdecimal()):
            raise _wrong(parts.scheme, "names no primary", "host:26379,host:26379/mymaster")
        name = path.pop(0)
    if len(path) > 1 or not all(each.isdecimal() for each in path):
        raise _wrong(
            parts.scheme, "has more than a database's number after the host", "host:6379/0"
        )
    database = int(path[0]) if path else 0
    if kind == "cluster" and database:
        raise _wrong(parts.scheme, "names a database, and a Cluster has only one", "host:7000")
    prefix, wait_replicas = _options(parts.scheme, parts.query, tls=tls)
    return Address(
        url=url, kind=kind, tls=tls, name=name, database=database, prefix=prefix,
        nodes=tuple(_node(parts.scheme, each, default) for each in hosts.split(",")),
        user=unquote(user), password=unquote(password), wait_replicas=wait_replicas,
    )  # fmt: skip


def _options(scheme: str, query: str, *, tls: bool) -> tuple[str, int]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    prefix = options.pop("prefix", DEFAULT_PREFIX)
    replicas = options.pop("wait_replicas", "0")
    if tls and (checks := CELERYS_CHECK & options.keys()):
        raise ConfigurationError(
            f"broker URL {scheme}://… has the option {min(checks)!r}. Leave it out: the "
            "certificate is always checked; the environment variable SSL_CERT_FILE names your own "
            "CA."
        )
    if options:
        raise _wrong(
            scheme, f"has an unknown option {min(options)!r}", "…?prefix=…&wait_replicas=…"
        )
    if not prefix or {"{", "}"} & set(prefix):
        raise _wrong(scheme, f"has the prefix {prefix!r}, empty or with braces", "…?prefix=shop")
    if not replicas.isdecimal():
        raise _wrong(scheme, f"has wait_replicas={replicas!r}, no number", "…?wait_replicas=1")
    return prefix, int(replicas)


def _node(scheme: str, text: str, default: int) -> Node:
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in text:
        host, _, port = text.partition(":")
    if not host or (port and not port.isdecimal()):
        raise _wrong(scheme, "has something else where a host and a port belong", "host:6379")
    return Node(host, int(port) if port else default)


def _wrong(scheme: str, what: str, example: str) -> ConfigurationError:
    # Never the URL itself: it may carry a password.
    return ConfigurationError(f"broker URL {scheme}://… {what}. Write {scheme}://{example}")
