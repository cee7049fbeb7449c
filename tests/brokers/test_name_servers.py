"""A broker's name where no name server answers: the time limit holds all the same.

Each call runs on a host of its own, in namespaces of network and files, whose only name server
takes questions and says nothing. Needs root, as namespaces do.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from acked.brokers.postgres.address import parse
from acked.hosts import resolve

CALL = """
import socket, sys, time
from acked.brokers import open_broker
from acked.errors import BrokerUnavailable
from acked.testing.timeline import message

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
url, results = sys.argv[1:]
broker = open_broker(url, results=results or None, timeout=1.0)
for call in (lambda: broker.send([message("a")]), broker.setup if not results else None):
    if call is None:
        continue
    began = time.monotonic()
    try:
        call()
    except BrokerUnavailable as error:
        took = time.monotonic() - began
        assert error.nothing_stored, error
        assert "broker.example.org" in str(error), error
        assert took < 3.0, f"{took:.1f} s: {error}"
        asked = silent.recv(512)
        assert b"broker" in asked
    else:
        raise AssertionError("nobody can have answered")
print("in time")
"""


@pytest.mark.parametrize(
    ("url", "results"),
    [
        ("redis://broker.example.org", ""),
        ("redis+sentinel://broker.example.org/mymaster", ""),
        ("postgresql://shop@broker.example.org/shop", ""),
        ("amqp://broker.example.org", "memory://"),
    ],
)
def test_no_call_outlasts_its_time_limit(tmp_path: Path, url: str, results: str) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("namespaces need root and unshare (util-linux)")
    settings = tmp_path / "resolv.conf"
    settings.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
    script = tmp_path / "call.py"
    script.write_text(CALL)
    shell = 'mount --bind "$1" /etc/resolv.conf && ip link set lo up && shift && exec "$@"'
    done = subprocess.run(
        [
            "unshare", "--net", "--mount", "sh", "-c", shell, "sh", str(settings),
            sys.executable, str(script), url, results,
        ],
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "in time\n", done.stderr


def test_a_name_has_the_addresses_that_the_system_knows() -> None:
    found = resolve("localhost", 6379, time.monotonic() + 5)

    assert set(found) == set(socket.getaddrinfo("localhost", 6379, type=socket.SOCK_STREAM))
    assert not [each for each in threading.enumerate() if each.name == "acked-resolving"]


def test_a_name_that_nobody_has_is_an_error_of_its_own() -> None:
    with pytest.raises(OSError, match=r".") as refusal:
        resolve("no such host", 6379, time.monotonic() + 5)
    assert not isinstance(refusal.value, TimeoutError)


def told(url: str) -> list[tuple[str, str, str]]:
    """Host, address and port of each place that libpq is told of, one after the other."""
    places = map(conninfo_to_dict, parse(url, timeout=5).places(time.monotonic() + 5))
    return [
        tuple(str(each.get(name, "")) for name in ("host", "hostaddr", "port")) for each in places
    ]


def test_postgresql_is_told_the_address_beside_the_name_that_the_certificate_is_for() -> None:
    found = told("postgresql://shop@localhost:5433,10.0.0.7:5434/shop")

    assert [each for each in found if each != ("localhost", "::1", "5433")] == [
        ("localhost", "127.0.0.1", "5433"), ("10.0.0.7", "10.0.0.7", "5434"),
    ]  # fmt: skip


def test_postgresql_is_told_no_address_of_a_socket_or_of_one_that_has_its_address() -> None:
    for url in (
        "postgresql:///shop?host=/run/postgresql",
        "postgresql://db/shop?hostaddr=10.0.0.7",
    ):
        address = parse(url, timeout=5)
        assert address.places(time.monotonic() + 5) == [address.conninfo]


def test_postgresql_is_told_of_one_place_at_a_time_however_they_are_named() -> None:
    assert told("postgresql:///shop?host=/run/a,/run/b&port=5433") == [
        ("/run/a", "", "5433"), ("/run/b", "", "5433"),
    ]  # fmt: skip
    assert told("postgresql:///shop?hostaddr=10.0.0.7,10.0.0.8") == [
        ("", "10.0.0.7", "5432"), ("", "10.0.0.8", "5432"),
    ]  # fmt: skip
    assert told("postgresql://a,b/shop?hostaddr=10.0.0.7,10.0.0.8") == [
        ("a", "10.0.0.7", "5432"), ("b", "10.0.0.8", "5432"),
    ]  # fmt: skip


def test_postgresql_is_told_of_its_places_in_any_order_if_asked_to_balance_them() -> None:
    url = "postgresql:///shop?hostaddr=10.0.0.7,10.0.0.8&load_balance_hosts=random"

    assert len({tuple(told(url)) for _ in range(100)}) == 2
