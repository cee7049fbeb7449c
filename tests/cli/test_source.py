"""Where a command's tasks are: what is given, and what is refused."""

from __future__ import annotations

import time

import pytest

from acked.broker import Engine
from tests.cli.conftest import Acked
from tests.cli.scenario import fill


def test_without_app_and_broker_the_remedy_is_named(
    acked: Acked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACKED_BROKER_URL")
    ended = acked("status")
    assert ended.code == 2
    assert "ACKED_APP" in ended.err


def test_a_broker_is_given_before_or_after_the_command(acked: Acked, store: Engine) -> None:
    fill(store, time.time() - 10)
    url = store.url
    assert acked("--broker", url, "list").out == acked("list", "-b", url).out


def test_app_and_broker_together_are_refused(acked: Acked, store: Engine) -> None:
    assert acked("-A", "shop:app", "status", "--broker", store.url).code == 2


def test_a_file_that_does_not_exist_is_not_made(acked: Acked, path: object) -> None:
    ended = acked("status", "--broker", f"sqlite:///{path}.slip")
    assert ended.code == 3
    assert "there is no file" in ended.err


def test_the_file_of_rabbitmqs_records_is_not_made_either(
    acked: Acked, path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACKED_RESULTS_URL", f"sqlite:///{path}.slip")
    ended = acked("status", "--broker", "amqp://127.0.0.1:1")
    assert ended.code == 3
    assert f"there is no file {path}.slip" in ended.err


def test_tasks_inside_another_process_cannot_be_seen(acked: Acked) -> None:
    assert acked("status", "--broker", "memory://").code == 2


def test_records_inside_another_process_are_what_cannot_be_seen(
    acked: Acked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACKED_RESULTS_URL", "memory://")
    ended = acked("status", "--broker", "amqp://127.0.0.1:1")
    assert ended.code == 2
    assert "the tasks of memory:// live inside one process" in ended.err


def test_an_unknown_kind_of_broker_is_a_usage_error(acked: Acked) -> None:
    ended = acked("status", "--broker", "carrier://user:canary@pigeon")
    assert ended.code == 2
    assert "canary" not in ended.err


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("amqp://shop@127.0.0.1/shop", "Write amqp://shop:PASSWORD@127.0.0.1/..."),
        ("carrier://pigeon", "amqp://user:password@host/vhost with results="),
        ("postgresql://me:canary@h/d?x=1", "Write postgresql://user:password@host:5432/database."),
    ],
)
def test_a_remedy_says_where_the_password_belongs(
    acked: Acked, monkeypatch: pytest.MonkeyPatch, url: str, remedy: str
) -> None:
    monkeypatch.setenv("ACKED_RESULTS_URL", "memory://")
    ended = acked("status", "--broker", url)
    assert ended.code == 2
    assert remedy in ended.err
    assert "canary" not in ended.err


def test_a_damaged_file_is_a_broker_that_failed(
    acked: Acked, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("damaged") / "a.db"
    file.write_bytes(b"this is no database" * 1000)
    file.chmod(0o600)
    ended = acked("status", "--broker", f"sqlite:///{file}")
    assert ended.code == 3
    assert len(ended.err.splitlines()) == 1
