from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.harness.workers import until
from tests.servers.proxy import Proxy


class Echo:
    """A server that gives back what it gets, and counts what it got."""

    def __init__(self) -> None:
        self.got = b""
        self.ends: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                there, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(there,), daemon=True).start()

    def _serve(self, there: socket.socket) -> None:
        with there:
            try:
                while data := there.recv(4096):
                    self.got += data
                    there.sendall(data)
                self.ends.append("end")
            except OSError as error:
                self.ends.append(type(error).__name__)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        yield client


def receive(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := client.recv(count - len(data))):
        data += more
    return data


def test_in_good_weather_everything_arrives(client: socket.socket) -> None:
    sent = bytes(range(256)) * 4_000
    threading.Thread(target=client.sendall, args=(sent,), daemon=True).start()
    assert receive(client, len(sent)) == sent


def test_slices_change_nothing_but_the_pieces(proxy: Proxy, client: socket.socket) -> None:
    proxy.set(slices=1)
    client.sendall(b"one byte at a time")
    assert receive(client, 18) == b"one byte at a time"


def test_latency_delays_and_a_rate_limits(proxy: Proxy, client: socket.socket) -> None:
    for weather in ({"latency": 0.1, "jitter": 0.02}, {"rate": 1_000.0}):
        proxy.set(**weather)
        began = time.monotonic()
        client.sendall(b"x" * 100)
        receive(client, 100)
        assert time.monotonic() - began >= 0.15


def test_a_black_hole_is_silent_and_gives_back_what_it_held(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    proxy.set(black_hole=True)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as late:
        for each in (client, late):
            each.sendall(b"late")
            each.settimeout(0.2)
            with pytest.raises(TimeoutError):
                each.recv(1)
        assert echo.got == b""
        proxy.heal()
        for each in (client, late):
            each.settimeout(10)
            assert receive(each, 4) == b"late"


def test_a_black_hole_keeps_the_end_of_a_connection_to_itself(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    client.sendall(b"a")
    receive(client, 1)
    proxy.set(black_hole=True)
    client.sendall(b"b")
    client.close()
    time.sleep(0.2)  # in which the end would have come through
    assert echo.ends == []
    proxy.heal()
    until(lambda: echo.ends)
    assert echo.got == b"ab"


def test_a_reset_is_seen_as_one_by_both_sides(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    client.sendall(b"a")
    receive(client, 1)
    assert proxy.reset_all() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    until(lambda: echo.ends)
    assert echo.ends == ["ConnectionResetError"]
    until(lambda: proxy.connections == 0)


def test_a_connection_is_closed_in_mid_message(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    proxy.set(closes_after=5)
    client.sendall(b"0123456789")
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    until(lambda: echo.ends)
    assert echo.got == b"01234"


def test_a_server_that_is_down_looks_like_one(echo: Echo, proxy: Proxy) -> None:
    echo.close()
    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client,
    ):
        client.recv(1)


def test_stopping_ends_every_connection_and_leaves_no_thread(
    proxy: Proxy, client: socket.socket
) -> None:
    proxy.set(black_hole=True)
    client.sendall(b"never")
    proxy.stop()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert "proxy" not in {thread.name for thread in threading.enumerate()}
