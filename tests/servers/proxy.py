"""A TCP proxy whose network can be spoiled and healed while connections run through it.

It listens on a free port and forwards to a server on 127.0.0.1. An event loop in a thread of its
own does all of it, so that no test waits for it; what a test says to it is done within a second or
raises.

A *black hole* holds bytes back, and the end of a stream with them, instead of dropping them. That
is what TCP makes of a network that is cut: nothing arrives, nobody is told, and once it is healed
the kernel sends again and delivers everything, however late.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
CHUNK, TOLD_WITHIN = 65_536, 5.0
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 seconds: the close sends RST and throws away what was not sent."""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What the network does to every byte. The default is a good one.

    Args:
        latency: Seconds before a piece goes on.
        jitter: Up to this many seconds more or less than `latency`.
        slices: Bytes in a piece; 0 leaves what was read together.
        rate: Bytes per second and direction; 0 is no limit.
        closes_after: Bytes, in both directions together, after which a connection that carries
            them is closed in mid-message; 0 is never.
        black_hole: Nothing passes; connections are taken and stay.
    """

    latency: float = 0.0
    jitter: float = 0.0
    slices: int = 0
    rate: float = 0.0
    closes_after: int = 0
    black_hole: bool = False


class _Connection:
    """One client's way to the server."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        self.carried = 0

    def reset(self) -> None:
        """RST to both sides."""
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            writer.transport.abort()


class Proxy:
    """Forwards `port` of *address* to the port *target* of 127.0.0.1."""

    def __init__(self, target: int, *, address: str = "127.0.0.1") -> None:
        self.port = 0
        self._address = address
        self._target = "127.0.0.1", target
        self._weather = Weather()
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._passable = asyncio.Event()
        self._passable.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._roll = random.Random(1)

    def start(self) -> Self:
        """Listen from now on."""
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, self._address, 0))
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def stop(self) -> None:
        """Reset every connection and listen no more."""
        if self._loop.is_closed():
            return
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TOLD_WITHIN)
        self._loop.close()

    def set(self, **weather: Any) -> None:
        """The weather from now on, for connections there are and those to come."""
        self._do(self._change(Weather(**weather)))

    def heal(self) -> None:
        """Good weather."""
        self.set()

    def reset_all(self) -> int:
        """RST every connection; how many there were."""
        return self._do(self._reset_all())

    @property
    def connections(self) -> int:
        """How many run through it now."""
        return len(self._connections)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.stop()

    # -- in the loop's thread ------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TOLD_WITHIN)

    async def _change(self, weather: Weather) -> None:
        self._weather = weather
        for connection in self._connections:
            connection.carried = 0
        self._passable.set()
        if weather.black_hole:
            self._passable.clear()

    async def _reset_all(self) -> int:
        for connection in self._connections:
            connection.reset()
        return len(self._connections)

    async def _end(self) -> None:
        self._server.close()
        waiting = [task for task in self._tasks if task.cancel()]
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        self._tasks.add(this)
        connection = _Connection(writer)
        try:
            there, thence = await asyncio.open_connection(*self._target)
            connection = _Connection(writer, thence)
            self._connections.add(connection)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, thence, connection))
                both.create_task(self._carry(there, writer, connection))
        except* (OSError, asyncio.CancelledError):
            # One side is gone without a goodbye, so the other hears none either.
            connection.reset()
        finally:
            self._connections.discard(connection)
            self._tasks.discard(this)
            for each in connection.writers:
                each.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: _Connection
    ) -> None:
        while data := await reader.read(CHUNK):
            size = self._weather.slices or len(data)
            for start in range(0, len(data), size):
                await self._carry_piece(data[start : start + size], writer, way)
        await self._passable.wait()
        if writer.can_write_eof():
            writer.write_eof()

    async def _carry_piece(
        self, piece: bytes, writer: asyncio.StreamWriter, way: _Connection
    ) -> None:
        weather = self._weather
        pause = weather.latency + weather.jitter * self._roll.uniform(-1, 1)
        if weather.rate:
            pause += len(piece) / weather.rate
        await asyncio.sleep(max(0.0, pause))
        await self._passable.wait()
        if weather.closes_after:
            left = weather.closes_after - way.carried
            way.carried += len(piece)
            if len(piece) >= left:
                writer.write(piece[: max(0, left)])
                for each in way.writers:
                    each.close()
                raise ConnectionAbortedError
        writer.write(piece)
        await writer.drain()
