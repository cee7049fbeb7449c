"""The wall clock of a server's host, set while the server runs."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests.servers.server import Server, program

SOURCE = Path(__file__).with_name("shifted_clock.c")


class HostClock:
    """The clock of one server. Make it before the server is started.

    Args:
        server: It reads this clock once it is started.
    """

    def __init__(self, server: Server) -> None:
        self._file = server.directory / "clock"
        self.jump_to(0.0)
        # Readable for whatever user the server runs as.
        self._file.chmod(0o644)
        library = server.directory / "shifted_clock.so"
        subprocess.run(
            [program("cc"), "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-lm"],
            check=True,
        )
        server.surroundings |= {
            "LD_PRELOAD": str(library), "ACKED_TEST_SERVER_CLOCK": str(self._file),
        }  # fmt: skip

    def jump_to(self, seconds: float) -> None:
        """Set the clock to *seconds* after (before) the true time; whole ones count."""
        # In place: the server has this file mapped.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))
