"""What a RabbitMQ's URL says, and what is warned of; and what acked makes of queues' names."""

from __future__ import annotations

import ssl

import pytest

from acked.brokers import open_broker
from acked.brokers.rabbitmq.address import parse
from acked.brokers.rabbitmq.topology import BANDS, again, delay, line, lines, place_of, queue_of
from acked.errors import ConfigurationError
from acked.message import PRIORITIES


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "vhost"),
    [
        ("amqp://", "localhost", 5672, "guest", "guest", "/"),
        ("amqp://mq", "mq", 5672, "guest", "guest", "/"),
        ("amqp://mq/", "mq", 5672, "guest", "guest", "/"),
        ("pyamqp://me:hush@mq:1234/shop", "mq", 1234, "me", "hush", "shop"),
        ("amqp://m%40e:h%2Fush@mq/%2Fshop", "mq", 5672, "m@e", "h/ush", "/shop"),
        ("amqps://me:hush@mq/shop", "mq", 5671, "me", "hush", "shop"),
        ("amqp://me:@[::1]:5673//", "::1", 5673, "me", "", "/"),
    ],
)
def test_a_url_names_server_user_and_virtual_host(
    url: str, host: str, port: int, user: str, password: str, vhost: str
) -> None:
    address = parse(url)

    assert (address.host, address.port, address.user) == (host, port, user)
    assert (address.password, address.vhost, address.url) == (password, vhost, url)


def test_the_password_is_not_shown() -> None:
    address = parse("amqps://me:hush@mq/shop")

    assert address.masked == "amqps://me:***@mq:5671/shop"
    assert "hush" not in address.identity + address.masked


@pytest.mark.parametrize(
    "url",
    [
        "amqp://me:ha#sh@mq/",
        "amqp://me:hush@mq:99999/",
        "amqp://me:hush@mq:x/",
        "amqp://me:hush@mq/?heartbeat=1",
        "amqps://me:hush@mq/?verify=perhaps",
        "amqps://me:hush@mq/?cafile=/absent/ca.pem",
    ],
)
def test_a_url_that_cannot_be_understood_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(url)

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://me:123/hush@mq",
        "amqp://me:ha/hush@mq/",
        "amqp://me:ha?hush@mq",
        "amqp://me:123?hush=1@mq",
        "amqp://me:ha#hush@mq/",
        "amqps://me:123?cafile=hush@mq",
    ],
)
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write / # \? @ .* %2F %23 %3F %40") as caught:
        parse(url)

    assert not any(part in str(caught.value) for part in ("hush", "123"))


def test_tls_checks_the_servers_certificate_unless_told_not_to() -> None:
    strict, lax = parse("amqps://mq/").tls, parse("amqps://mq/?verify=none").tls

    assert strict is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert lax is not None
    assert lax.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("url", "subjects"),
    [
        ("amqp://localhost/", []),
        ("amqp://127.0.0.1/", []),
        ("amqp://[::1]/", []),
        ("amqp://mq/", ["encryption", "credentials"]),
        ("amqp://me:hush@10.0.0.7/", ["encryption"]),
        ("amqps://me:hush@mq/", []),
        ("amqps://me:hush@mq/?verify=none", ["encryption"]),
        ("amqps://mq/", ["credentials"]),
    ],
)
def test_an_unsafe_way_to_another_host_is_warned_of(url: str, subjects: list[str]) -> None:
    conditions = parse(url).conditions()

    assert [each.subject for each in conditions] == subjects
    assert all(each.level == "warn" and each.remedy for each in conditions)


def test_rabbitmq_without_a_place_for_records_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="results="):
        open_broker("amqp://mq/")


@pytest.mark.parametrize("url", ["amqp://me:hush@mq/", "amqps://me:hush@mq/", "pyamqp://elsewhere"])
def test_rabbitmq_is_refused_as_the_place_for_its_records(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = url.partition(":")[0]
    said = rf"={scheme}://...: RabbitMQ cannot keep the records. Name redis://, postgresql://"
    with pytest.raises(ConfigurationError, match=f"^results{said}"):
        open_broker("amqp://me:hush@mq/", results=url)

    monkeypatch.setenv("ACKED_RESULTS_URL", url)
    with pytest.raises(ConfigurationError, match=f"^ACKED_RESULTS_URL{said}") as refused:
        open_broker("amqp://me:hush@mq/")
    assert "hush" not in str(refused.value)


def test_a_broker_names_the_place_of_its_records() -> None:
    broker = open_broker("amqp://me:hush@mq/", results="redis://me:hush@redis/0")

    assert broker.records_url == "redis://me:***@redis/0"


def test_every_priority_has_a_line_and_larger_ones_none_below() -> None:
    order = list(lines("mail"))
    places = [order.index(line("mail", priority)) for priority in PRIORITIES]

    assert places == sorted(places)
    assert set(places) == set(range(len(BANDS)))
    assert again("mail") == order[len(BANDS)]


@pytest.mark.parametrize("queue", ["default", "a.b.0", "a\nb\r", "%0A", "ü ☃"])
def test_a_line_tells_its_queue(queue: str) -> None:
    assert {queue_of(name) for name in lines(queue)} == {queue}
    assert not any(break_ in name for name in lines(queue) for break_ in "\r\n")


def test_a_queue_with_too_long_a_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="250 bytes"):
        line("x" * 250, 0)


@pytest.mark.parametrize("seconds", [0.001, 0.0639, 0.064, 0.1, 1, 3, 59, 3600, 86_400, 10.0**8])
def test_a_delay_is_never_longer_than_the_wait_but_for_the_shortest(seconds: float) -> None:
    milliseconds = int(delay(seconds).rpartition(".")[2])

    assert milliseconds <= max(seconds * 1000, 64)
    assert milliseconds * 2 > seconds * 1000 or milliseconds == 2**31


def test_no_version_of_rabbitmq_drops_what_was_delivered_often() -> None:
    name = line("mail", 0)

    assert "x-delivery-limit" not in place_of(name, 3).arguments  # There is no limit then.
    assert place_of(name, 4).arguments["x-delivery-limit"] == -1
    assert place_of(name, 4).arguments["x-dead-letter-exchange"] == "acked.dead"


def test_a_user_without_a_password_is_not_taken_for_guest() -> None:
    with pytest.raises(ConfigurationError, match="names the user 'shop' and no password.*PASSWORD"):
        parse("amqp://shop@rabbitmq/shop")
