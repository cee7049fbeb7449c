"""What may not be shown is not, and what may is."""

from __future__ import annotations

import copy
import re

import pytest

from acked.failure import failure_of
from acked.redaction import SECRET_KEYS, is_secret, redact, redact_positional, redact_text


@pytest.mark.parametrize("word", SECRET_KEYS)
def test_a_key_that_contains_a_secret_word_is_secret_in_any_case(word: str) -> None:
    assert is_secret(word)
    assert is_secret(f"db_{word.upper()}_2")
    assert redact({f"My{word.title()}": "canary"}) == {f"My{word.title()}": "***"}


@pytest.mark.parametrize("key", ["api-key", "apiKey", "X-API-KEY", "x_api_key", "ApiKey"])
def test_separators_and_case_do_not_hide_an_api_key(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize("key", ["user", "path", "keyboard", "apikerf", ""])
def test_other_keys_are_not_secret(key: str) -> None:
    assert not is_secret(key)
    assert redact({key: "value"}) == {key: "value"}


def test_secrets_are_found_at_any_depth_and_the_data_itself_is_left_alone() -> None:
    data = {"a": [{"b": {"password": "canary", "n": 1}}], "headers": {"Cookie": ["canary"]}}
    before = copy.deepcopy(data)
    assert redact(data) == {"a": [{"b": {"password": "***", "n": 1}}], "headers": {"Cookie": "***"}}
    assert data == before


def test_whatever_a_secret_key_holds_is_hidden() -> None:
    assert redact({"token": {"inner": ["canary"]}, "dsn": None}) == {"token": "***", "dsn": "***"}


def test_data_nested_too_deep_is_cut_and_does_not_overflow() -> None:
    data: object = "canary"
    for _ in range(900):
        data = [data]
    assert "canary" not in repr(redact(data))


def test_a_positional_argument_is_hidden_by_its_parameters_name() -> None:
    assert redact_positional(["bob", "canary", 3], ["user", "password"]) == ["bob", "***", 3]


def test_positional_arguments_of_unknown_names_are_searched_for_keys() -> None:
    assert redact_positional([{"secret": "canary"}], []) == [{"secret": "***"}]


@pytest.mark.parametrize(
    "text",
    [
        "password=canary",
        "PASSWORD = 'canary'",
        'password: "canary with spaces"',
        "{'api_key': 'canary'}",
        '{"db_password": "a\\"canary"}',
        '{\\"session\\": \\"canary\\"}',
        "{'session': {'id': 'canary', 'x': [1]}}",
        "{'token': b'canary'}",
        "Login(user='x', passwd='canary')",
        "token == canary",
        "token := 'canary'",
        "secret => canary",
        "Authorization: Bearer canary",
        "authorization: Basic canary",
        "Set-Cookie: id=1; other=canary",
        "{'Authorization': 'Bearer canary'}",
        "https://host/path?user=1&access_token=canary&x=2",
        "postgres://user:canary@host/db",
        "redis://:canary@host:6379/0",
        "amqp://u:p@canary@host//",
        "amqp://user:password@host:canary@mq/vhost",
        "amqp://shop:PASSWORD@canary@mq/...",
        "target_password=canary",
        "target_session=canary",
        "client_secret=canary;",
        "X-Api-Key: canary",
    ],
)
def test_a_secret_in_running_text_is_hidden(text: str) -> None:
    shown = redact_text(f"before {text}")
    assert "canary" not in shown
    assert shown.startswith("before ")
    assert "***" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://shop:PASSWORD@mq/vhost", "amqp://shop:***@mq/vhost"),
        ("amqp://user:password@mq/vhost", "amqp://user:***@mq/vhost"),
        ("amqp://user:password@host.example/vhost", "amqp://user:***@host.example/vhost"),
        ("amqp://shop:password@host/vhost", "amqp://shop:***@host/vhost"),
    ],
)
def test_a_password_that_is_the_word_of_a_placeholder_is_hidden(url: str, shown: str) -> None:
    assert redact_text(f"{url} is away") == f"{shown} is away"


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: 3 is too small",
        "https://host:8080/a@b?x=y",
        "the session has ended",
        "passwords differ",
        'File "/srv/shop/token.py", line 3, in refresh',
        "Write amqp://shop:PASSWORD@127.0.0.1/...",
        "Known are amqp://user:password@host/vhost with results=",
        "Write postgresql://user:password@host:5432/database.",
        "Write redis+sentinel://user:password@host:26379,host:26379/mymaster",
        "several hosts and target_session_attrs=read-write.",
        "",
    ],
)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


def test_text_around_a_secret_stays_readable() -> None:
    assert redact_text("login(user='bob', password='x', retries=3)") == (
        "login(user='bob', password=***, retries=3)"
    )
    assert redact_text("redis://user:x@host:6379/0") == "redis://user:***@host:6379/0"


def test_redacting_twice_is_redacting_once() -> None:
    once = redact_text("password=canary; Cookie: a=b; postgres://u:p@h/d")
    assert redact_text(once) == once


@pytest.mark.parametrize(
    "piece", ["a", "token", "token=", "token='", "://", "://a:", "cookie: ", "\\", "password\\\\"]
)
@pytest.mark.timeout(30)
def test_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    # Not a measurement: where a pattern backtracks, this takes hours.
    redact_text((piece * 300_000)[:300_000])


URL = " cannot connect to postgresql://shop:S3CRETPASSWORD@db/shop"


@pytest.mark.parametrize("length", range(900, 1000, 3))
def test_a_password_is_not_shown_for_being_cut_in_two(length: int) -> None:
    for text, cut in ("x" * length + URL, 1_000), ("x" * (length + 1_000) + URL, 2_000):
        assert "S3C" not in redact_text(text[:cut])
    for n in range(4_000 + length - 900, 4_120, 33):
        head, tail = "x" * n + URL + "y" * 9_000, "y" * 9_000 + URL + "x" * n
        for text in head, tail:
            assert not re.search("S3C|WORD", redact_text(failure_of(ValueError(text)).message))


def test_a_port_is_no_password() -> None:
    for text in "see http://host:8080", "http://[::1]:80", "amqp://h:5672\n":
        assert redact_text(text) == text
