"""A broker URL of PostgreSQL: what libpq is told, and what people may see of it."""

from __future__ import annotations

import os
import random
import re
import ssl
import zlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from acked.errors import ConfigurationError
from acked.hosts import is_loopback, resolve
from acked.redaction import MASK

DEFAULT_SCHEMA = "acked"
PORT = 5432
OWN_OPTIONS = frozenset({"schema"})
SECRET_OPTIONS = frozenset({"password", "sslpassword", "oauth_client_secret"})
PLAIN = frozenset({"disable", "allow", "prefer"})
"""Values of ``sslmode`` under which a connection may be plain text."""

SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker's tables are.

    Args:
        complete: The URL as it was given.
        shown: The same with passwords masked.
        identity: What tells it from other places, without passwords.
        conninfo: What libpq is given.
        schema: The schema of the tables.
        encrypted: Whether nothing is ever sent in plain text.
        remote: Whether it is reached over a network that others may listen to.
    """

    complete: str
    shown: str
    identity: str
    conninfo: str
    schema: str
    encrypted: bool
    remote: bool

    @property
    def quoted_schema(self) -> str:
        """The schema as SQL names it."""
        return f'"{self.schema}"'

    def places(self, deadline: float) -> list[str]:
        """`conninfo` for each address of each host, in the order in which they are to be tried.

        libpq is given one at a time, as it would wait for the first for ever; and the address
        beside the name, as it would ask the resolver without a limit. The name stays, as the
        certificate is for that.

        Raises:
            TimeoutError: No name server has answered by *deadline*, monotonic.
            OSError: None of the hosts is known.
        """
        settings = conninfo_to_dict(self.conninfo)
        hosts = _listed(settings, "host", "PGHOST")
        given = _listed(settings, "hostaddr", "PGHOSTADDR")
        ports = _listed(settings, "port", "PGPORT")
        count = max(len(hosts), len(given))
        hosts, given = (each if any(each) else [""] * count for each in (hosts, given))
        if len(ports) == 1:
            ports *= count
        if not len(hosts) == len(given) == len(ports):
            return [self.conninfo]  # libpq says what is wrong with it
        if count == 1 and (given[0] or _is_path(hosts[0])):
            return [self.conninfo]
        found: list[tuple[str, str, str]] = []
        failure: OSError | None = None
        for host, address, port in zip(hosts, given, ports, strict=True):
            if address or _is_path(host):
                found.append((host, address, port))
                continue
            try:
                known = resolve(host, int(port) if port.isdecimal() else PORT, deadline)
            except TimeoutError:
                raise
            except OSError as error:
                failure = error
                continue
            found += [(host, str(where[0]), port) for *_, where in known]
        if not found and failure is not None:
            raise failure
        if _listed(settings, "load_balance_hosts", "PGLOADBALANCEHOSTS") == ["random"]:
            random.SystemRandom().shuffle(found)
        return [
            make_conninfo(self.conninfo, host=host, hostaddr=address, port=port or str(PORT))
            for host, address, port in found
        ]

    @property
    def lock_space(self) -> int:
        """First half of the keys of our advisory locks in that database."""
        return signed(f"acked.{self.schema}")


def signed(name: str) -> int:
    """A hash of *name* that fits PostgreSQL's integer."""
    number = zlib.crc32(name.encode(errors="replace"))
    return number - (1 << 32 if number >= 1 << 31 else 0)


def parse(url: str, *, timeout: float) -> Address:
    """What *url* says.

    Args:
        url: As libpq takes it; ``schema=`` is our own.
        timeout: Seconds after which a silent network counts as broken.

    Raises:
        ConfigurationError: libpq does not know such a URL, the schema has no plain name, or it is
            not plain where the password ends.
    """
    place = url.partition("://")[2]
    authority = re.split("[/?#]", place)[0]
    if "#" in place or "@" in place.removeprefix(authority):
        # Not quoted: what stands there is a part of the password, probably.
        raise ConfigurationError(
            "the broker URL postgresql://… has an @ behind its host, or a #. "
            "Write / # ? @ in a password or an option as %2F %23 %3F %40."
        )
    base, _, query = url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    own = {name: value for name, value in options if name in OWN_OPTIONS}
    schema = own.get("schema", DEFAULT_SCHEMA)
    if not SCHEMA_NAME.fullmatch(schema):
        raise ConfigurationError(
            f"schema={schema!r} must be a name of letters, digits and underscores, "
            "as in postgresql://host/database?schema=acked."
        )
    rest = [(name, value) for name, value in options if name not in OWN_OPTIONS]
    shown = _masked(base, options)
    if authority.count("@") > 1:
        raise ConfigurationError(
            f"broker URL {shown} has two @ before its host. Write the one in a password as %40."
        )
    try:
        given = conninfo_to_dict(f"{base}?{urlencode(rest, quote_via=quote)}")
    except (psycopg.Error, ValueError) as error:
        raise ConfigurationError(
            f"broker URL {shown} is none that PostgreSQL knows{_reason(error, rest)}. "
            "Write postgresql://user:password@host:5432/database."
        ) from None
    hosts = _hosts(given)
    remote = not all(map(_is_local, hosts))
    settings = {
        "application_name": "acked",
        "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
        "tcp_user_timeout": int(timeout * 1000),
        **_encryption(given, remote),
        **given,
    }  # fmt: skip
    database = given.get("dbname") or os.environ.get("PGDATABASE") or ""
    return Address(
        complete=url,
        shown=shown,
        identity="|".join(
            (*hosts, str(given.get("port", "")), str(given.get("user", "")), str(database), schema)
        ),
        conninfo=make_conninfo("", **settings),
        schema=schema,
        encrypted=str(settings.get("sslmode") or os.environ.get("PGSSLMODE", "prefer"))
        not in PLAIN,
        remote=remote,
    )


def _hosts(given: Mapping[str, object]) -> list[str]:
    named = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST") or ""
    return str(named).split(",")


def _is_local(host: str) -> bool:
    return _is_path(host) or is_loopback(host)


def _is_path(host: str) -> bool:
    """Whether *host* is a socket of this host in the file system; the default one, if empty."""
    return not host or host.startswith(("/", "@"))


def _listed(settings: Mapping[str, object], name: str, variable: str) -> list[str]:
    """The values of an option that may have one for each host."""
    return str(settings.get(name) or os.environ.get(variable) or "").split(",")


def _encryption(given: Mapping[str, object], remote: bool) -> dict[str, str]:
    """TLS with a checked certificate, unless the URL or the environment says otherwise or nothing
    leaves this host."""
    if not remote or "sslmode" in given or "PGSSLMODE" in os.environ:
        return {}
    settings = {"sslmode": "verify-full"}
    if "sslrootcert" not in given and "PGSSLROOTCERT" not in os.environ:
        known = ssl.get_default_verify_paths().cafile
        settings["sslrootcert"] = known if known and Path(known).exists() else "system"
    return settings


def _masked(base: str, options: list[tuple[str, str]]) -> str:
    scheme, _, place = base.partition("://")
    authority, slash, path = place.partition("/")
    login, at, host = authority.rpartition("@")
    user, colon, _ = login.partition(":")
    masked = f"{user}:{MASK}" if colon else login
    query = "&".join(
        f"{name}={MASK if name in SECRET_OPTIONS else quote(value, safe='/')}"
        for name, value in options
    )
    return f"{scheme}://{masked}{at}{host}{slash}{path}{'?' if query else ''}{query}"


def _reason(error: Exception, options: list[tuple[str, str]]) -> str:
    """What libpq says of an option; of the rest it might say a part of the password."""
    text = str(error).strip().partition("\n")[0]
    return f" ({text})" if any(f'"{name}"' in text for name, _ in options) else ""
