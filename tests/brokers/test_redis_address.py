"""What a Redis URL says, and that an error about it shows no password."""

from __future__ import annotations

import pytest

from acked.brokers import open_broker
from acked.brokers.redis.address import parse
from acked.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis://:secret@host:port", "where a host and a port belong"),
        ("redis://:secret@/0", "where a host and a port belong"),
        ("redis://:secret@host/zero", "database's number"),
        ("redis://:secret@host/0/1", "database's number"),
        ("redis://:secret@host?prefix=", "the prefix ''"),
        ("redis://:secret@host?prefix={a}", "with braces"),
        ("redis://:secret@host?wait_replicas=two", "no number"),
        ("redis://:secret@host?color=red", "unknown option 'color'"),
        ("redis+sentinel://:secret@host", "names no primary"),
        ("sentinel://:secret@host:26379/0", "names no primary.*host:26379/mymaster"),
        ("redis+cluster://:secret@host/3", "only one"),
    ],
)
def test_a_url_that_names_no_server_is_refused(url: str, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what) as refusal:
        open_broker(url)

    assert "secret" not in str(refusal.value)


def test_every_form_of_url_is_understood() -> None:
    def address(url: str) -> tuple[str, bool, list[str], str, int]:
        parts = parse(url)
        return parts.kind, parts.tls, [*map(str, parts.nodes)], parts.name, parts.database

    assert address("redis://host") == ("server", False, ["host:6379"], "", 0)
    assert address("redis://") == ("server", False, ["localhost:6379"], "", 0)
    assert address("redis:///1?prefix=shop") == ("server", False, ["localhost:6379"], "", 1)
    assert address("valkeys://u:p@[::1]:7000/2") == ("server", True, ["[::1]:7000"], "", 2)
    assert address("rediss+cluster://a:1,b:2") == ("cluster", True, ["a:1", "b:2"], "", 0)
    assert address("valkeys+cluster://a") == address("rediss+cluster://a")
    assert address("valkey+sentinel://a/primary") == address("redis+sentinel://a/primary")
    assert address("redis+sentinel://u:p@h1:26379,h2/mymaster/3") == (
        "sentinel", False, ["h1:26379", "h2:26379"], "mymaster", 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:sec/ret@host:6379/0",
        "redis://user:123/ret@host:6379/0",
        "redis://user:sec#ret@host",
        "redis://user:sec?ret@host",
        "redis://user:sec?ret=9@host",
        "redis://user:123?prefix=ret@host",
        "redis+cluster://user:123/0@ret",
        "redis+sentinel://user:123/ret@host:26379/0",
        "redis+sentinel://user:123/ret/0#@host:26379",
    ],
)
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write / # \? @ .* %2F %23 %3F %40") as refusal:
        open_broker(url)

    assert not any(part in str(refusal.value) for part in ("user", "sec", "123", "ret"))


@pytest.mark.parametrize("text", ["sec", "host:sec", "host:sec:1"])
def test_what_stands_in_the_place_of_a_host_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="where a host and a port belong") as refusal:
        open_broker(f"redis+cluster://{text},:sec")

    assert "sec" not in str(refusal.value)


def test_a_password_of_any_characters_is_understood_once_it_is_escaped() -> None:
    address = parse("redis://us%40er:s%2Fe%23c%3Fr%40e;t@host:6379/0?prefix=a%40b")

    assert (address.user, address.password) == ("us@er", "s/e#c?r@e;t")
    assert (address.prefix, [*map(str, address.nodes)]) == ("a@b", ["host:6379"])
    assert address.masked == "redis://us%40er:***@host:6379/0?prefix=a%40b"


@pytest.mark.parametrize("option", ["ssl_cert_reqs=required", "ssl_ca_certs=/etc/ca.pem"])
def test_celerys_options_of_tls_are_refused_with_what_to_do_instead(option: str) -> None:
    with pytest.raises(ConfigurationError, match="Leave it out: the certificate.*SSL_CERT_FILE"):
        parse(f"rediss://host:6379/0?{option}")


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://h1:26379;sentinel://h2:26379/mymaster",
        "sentinel://:secret@h1:26379;sentinel://:secret@h2:26379/0",
        "sentinel://:secret@h1:26379/0;sentinel://:secret@h2:26379/0",
        "redis+sentinel://:secret@h1:26379;h2:26379/mymaster",
    ],
)
def test_celerys_form_of_several_sentinels_is_refused_with_that_of_acked(url: str) -> None:
    with pytest.raises(ConfigurationError, match="@host:26379,host:26379/mymaster") as refusal:
        parse(url)

    assert "secret" not in str(refusal.value)
