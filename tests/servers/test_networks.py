from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

from tests.harness.workers import until
from tests.servers.networks import Network
from tests.servers.proxy import Proxy

ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.0) as there:
    there.settimeout(1.0)
    print(there.recv(5).decode())
"""


def test_hosts_are_cut_off_one_by_one_and_healed() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Network(2) as network,
        Proxy(server.getsockname()[1], address=network.address) as relay,
    ):

        def reached(number: int) -> bool:
            """Whether a client there hears this server's greeting."""
            client = subprocess.Popen(
                [*network.hosts[number].prefix, sys.executable, "-c", ASK, network.address,
                 str(relay.port)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            server.settimeout(2.0)
            with contextlib.suppress(TimeoutError):
                there, _ = server.accept()
                with there:
                    there.sendall(b"hello")
            output, _ = client.communicate(timeout=10)
            return output == b"hello\n"

        assert reached(0) and reached(1)
        network.hosts[0].cut()
        assert not reached(0)
        assert reached(1)
        network.hosts[0].heal()
        until(lambda: reached(0), what="the host is reached again")
    left = subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    assert network.bridge not in left
