"""Hosts of a test: network namespaces on a bridge of this machine, each cut off and healed at will.

The machine itself is the broker's host: servers listen on its 127.0.0.1, and a relay on the
bridge's address (`tests.servers.proxy.Proxy`) leads there. Needs root, as namespaces do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from functools import partial
from types import TracebackType
from typing import Self

from tests.harness.privileges import need_root
from tests.harness.workers import until

NETWORK = "10.77.{}.{}"


def ip(*words: str, check: bool = True) -> None:
    """Run ``ip``.

    Raises:
        AssertionError: It failed; the text says with what.
    """
    program = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert program is not None, "ip is not installed; `make test` installs iproute2"
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"ip {' '.join(words)}: {done.stderr.strip()}"


class Host:
    """One host: a namespace with an address of its own.

    Args:
        name: Of the namespace.
        link: The end of its cable that is on the bridge.
        address: Its own.
    """

    def __init__(self, name: str, link: str, address: str) -> None:
        self.name = name
        self.link = link
        self.address = address

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command that runs another one on this host."""
        program = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        return (program or "ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Pull the cable: nothing arrives, and nobody is told."""
        ip("link", "set", self.link, "down")

    def heal(self) -> None:
        """Put it back."""
        ip("link", "set", self.link, "up")


class Network:
    """A bridge with *count* hosts; `address` is that of the machine they are on."""

    def __init__(self, count: int) -> None:
        # Names of interfaces are short, and several tests may run at once.
        mark = f"{os.getpid() % 0xFFFFF:x}"
        part = os.getpid() % 250 + 1
        self.bridge = f"ackbr{mark}"
        self.address = NETWORK.format(part, 1)
        self.hosts = [
            Host(f"acked-{mark}-{n}", f"ack{mark}{n}", NETWORK.format(part, 10 + n))
            for n in range(count)
        ]

    def __enter__(self) -> Self:
        need_root("make network namespaces")
        try:
            ip("link", "add", self.bridge, "type", "bridge")
            ip("addr", "add", f"{self.address}/24", "dev", self.bridge)
            ip("link", "set", self.bridge, "up")
            for host in self.hosts:
                self._add(host)
            self._await_links()
        except BaseException:
            self._remove()
            raise
        return self

    def _add(self, host: Host) -> None:
        ip("netns", "add", host.name)
        ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        ip("link", "set", host.link, "master", self.bridge)
        ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
        ip("-n", host.name, "link", "set", "lo", "up")
        ip("-n", host.name, "link", "set", "eth0", "up")
        host.heal()

    def _await_links(self) -> None:
        """A bridge forwards a moment after its first port is up."""
        for host in self.hosts:
            until(partial(self._reaches, host), f"{host.name} reaches {self.address}")

    def _reaches(self, host: Host) -> bool:
        # Port 9 is closed: an answer that says so is an answer.
        code = (
            "import socket, sys\ntry: socket.create_connection((sys.argv[1], 9), 1)\n"
            "except ConnectionRefusedError: pass"
        )
        done = subprocess.run(
            [*host.prefix, "/usr/bin/env", "python3", "-c", code, self.address],
            capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def _remove(self) -> None:
        for host in self.hosts:
            with contextlib.suppress(AssertionError):
                ip("netns", "del", host.name, check=False)
            ip("link", "del", host.link, check=False)
        ip("link", "del", self.bridge, check=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._remove()
