"""What `acked worker` makes of its arguments, before a worker starts."""

from __future__ import annotations

import socket
from typing import Any

import click
import pytest

from acked.cli.source import Source
from acked.cli.worker import worker
from tests.cli.conftest import Acked


def parsed(*args: str) -> dict[str, Any]:
    context = worker.make_context("worker", list(args), obj=Source())
    return {name: value for name, value in context.params.items() if value is not None}


def refused(*args: str) -> str:
    with pytest.raises(click.UsageError) as error:
        parsed(*args)
    return error.value.format_message()


def test_without_options_everything_is_left_to_the_defaults() -> None:
    assert parsed("shop:app") == {"target": "shop:app"}


def test_celerys_options_are_taken() -> None:
    assert parsed(
        "-Q", "mails,default", "-c", "8", "-l", "info", "-P", "prefork", "-n", "w1",
        "--max-tasks-per-child", "100",
    ) == {
        "queues": ("mails", "default"), "concurrency": 8, "loglevel": "INFO", "hostname": "w1",
        "max_tasks_per_child": 100,
    }  # fmt: skip


def test_queues_can_be_repeated_and_each_counts_once() -> None:
    assert parsed("-Q", "b, a", "-Q", "a,c")["queues"] == ("b", "a", "c")


@pytest.mark.parametrize(
    ("size", "kib"),
    [
        ("300000", 300_000),
        ("300MB", 300 * 1024),
        ("300m", 300 * 1024),
        ("1.5 GiB", 1536 * 1024),
        ("2G", 2 * 1024**2),
        ("512k", 512),
    ],
)
def test_a_memory_size_is_kib_or_has_a_unit(size: str, kib: int) -> None:
    assert parsed("--max-memory-per-child", size)["max_memory_per_child"] == kib


@pytest.mark.parametrize("size", ["", "much", "-3", "0", "3 bananas", "1e9"])
def test_what_is_no_memory_size_is_refused_by_name(size: str) -> None:
    assert repr(size) in refused("--max-memory-per-child", size)


def test_a_hostname_may_hold_celerys_abbreviations() -> None:
    host = socket.gethostname()
    assert parsed("-n", "w1@%h")["hostname"] == f"w1@{host}"
    assert parsed("-n", "%n")["hostname"] == host.partition(".")[0]


def test_a_hostname_with_a_slash_is_refused() -> None:
    assert "'a/b'" in refused("-n", "a/b")


@pytest.mark.parametrize(
    ("pool", "instead"),
    [
        ("threads", "--threads"),
        ("solo", "-c 1"),
        ("gevent", "async def"),
        ("eventlet", "async def"),
    ],
)
def test_celerys_other_pools_are_refused_with_what_to_do_instead(pool: str, instead: str) -> None:
    assert instead in refused("-P", pool)


@pytest.mark.parametrize(
    "args",
    [
        ("-c", "0"),
        ("--threads", "-1"),
        ("--coroutines", "0"),
        ("--grace", "-1"),
        ("--max-tasks-per-child", "0"),
        ("-l", "LOUD"),
        ("--log-format", "xml"),
        ("a:b", "c:d"),
    ],
)
def test_values_that_cannot_work_are_refused(args: tuple[str, ...]) -> None:
    assert refused(*args)


def test_a_worker_without_an_app_is_refused(acked: Acked) -> None:
    ended = acked("worker")
    assert ended.code == 2
    assert (
        ended.err
        == "acked: no app given: acked worker MODULE:APP, as in shop:app: see acked worker --help\n"
    )


def test_a_worker_takes_no_broker_from_the_command_line(acked: Acked) -> None:
    ended = acked("--broker", "memory://", "worker", "shop:app")
    assert ended.code == 2
    assert "ACKED_BROKER_URL" in ended.err


def test_two_apps_are_refused(acked: Acked) -> None:
    ended = acked("-A", "shop:app", "worker", "other:app")
    assert ended.code == 2
    assert "shop:app and other:app" in ended.err
