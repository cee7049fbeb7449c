"""One AMQP connection, with what acked asks of it as coroutines. The driver, pika, stays in here.

Measured against the alternatives on two cores of a small machine, RabbitMQ 3.10 beside the client,
quorum queue, messages of 150 bytes, published 100 at a time with one wait for their confirms, and
consumed with one acknowledgement for each 100; two runs in turn, messages per second:

    ==================  ===============  ======================
    driver              published        consumed, acknowledged
    ==================  ===============  ======================
    pika 1.4.4          20,400  19,700   64,500  69,700
    py-amqp 5.4.2       14,200  18,400   26,600  27,900
    aio-pika 10.2.1      8,100   8,400   15,200  15,700
    ==================  ===============  ======================

A link that fails in any way is closed and never used again; whoever waits for an answer on it is
told. A server that answers nothing is found out by its heartbeats, or sooner by the time limit of
whoever waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError
from pika.spec import Basic

from acked.brokers.rabbitmq.address import Address
from acked.brokers.rabbitmq.meaning import (
    NOT_FOUND,
    PRECONDITION_FAILED,
    ChannelRefused,
    LinkLost,
    meaning,
    said,
    why_closed,
)
from acked.brokers.rabbitmq.topology import Place
from acked.errors import BrokerError
from acked.hosts import resolving

T = TypeVar("T")

# The driver logs a traceback for each connection that fails. We raise or log what it means.
logging.getLogger("pika").setLevel(logging.CRITICAL)

HEARTBEAT = 3
"""Seconds: RabbitMQ notices a host that vanished after two or three of them, and so do we. Before
its lease of 10 s has run out: what it held is sent again then, and RabbitMQ would give half of that
to the one that is gone."""


class Link:
    """A connection and its channel. Used from its event loop's thread alone.

    Args:
        address: Where to.
        name: What RabbitMQ shows for it.
    """

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        self.name = name
        self.channel: Any = None
        self.blocked = ""
        self.lost: BrokerError | None = None
        self.on_blocked: Callable[[str], None] = _ignore
        self.on_lost: Callable[[BrokerError], None] = _ignore
        self._connection: Any = None
        self._side: Any = None
        self._waiting: set[asyncio.Future[Any]] = set()

    @classmethod
    async def open(cls, address: Address, name: str, timeout: float) -> Self:
        """A link that is up.

        Raises:
            BrokerUnavailable: There is nobody.
            BrokerError: The server refuses the credentials or the virtual host.
        """
        await _know(address, timeout)
        link = cls(address, name)
        opened = link._expect()
        link._connection = AsyncioConnection(
            link._parameters(timeout),
            on_open_callback=lambda _: _answer(opened, None),
            on_open_error_callback=lambda _, error: link._end(error),
            on_close_callback=lambda _, error: link._end(error),
            custom_ioloop=asyncio.get_running_loop(),
        )
        try:
            await link._wait(opened)
            connection = link._connection
            connection.add_on_connection_blocked_callback(link._on_blocked)
            connection.add_on_connection_unblocked_callback(link._on_unblocked)
            link.channel = await link._open_channel()
            link.channel.add_on_close_callback(lambda _, error: link._end(error))
        except BaseException:
            link.abort()
            raise
        return link

    @property
    def version(self) -> int:
        """RabbitMQ's major version; 3 where it does not say."""
        said = str(self.server.get("version", "3"))
        major = said.partition(".")[0]
        return int(major) if major.isdigit() else 3

    @property
    def server(self) -> dict[str, Any]:
        """What the server says of itself."""
        return dict(self._connection.server_properties or {})

    def check(self) -> None:
        """See that it is up. Whatever was waited for, it may have ended in the meantime, and the
        driver then raises errors of its own.

        Raises:
            BrokerError: It has ended.
        """
        if self.lost is not None:
            raise self.lost

    async def ask(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call *method* of a channel, and wait for RabbitMQ's answer.

        Raises:
            LinkLost: The connection or the channel ended first.
        """
        answer = self._expect()
        try:
            method(*args, callback=lambda frame: _answer(answer, frame), **options)
        except AMQPError as error:
            self._waiting.discard(answer)
            raise self.lost or LinkLost(said(error)) from error
        return await self._wait(answer)

    async def make(self, place: Place, announce: Callable[[], Awaitable[None]]) -> None:
        """Make *place*, unless it is there, however it was made. *announce* is done before."""
        if not await self._has(place.name):
            await announce()
            await self._declare(place)
        if place.exchange:
            channel = await self._side_channel()
            await self.ask(channel.exchange_declare, place.name, "fanout", durable=True)
            await self.ask(channel.queue_bind, place.name, place.name, "")

    async def _declare(self, place: Place) -> None:
        channel = await self._side_channel()
        try:
            await self.ask(
                channel.queue_declare, place.name, durable=True, arguments=place.arguments
            )
        except ChannelRefused as refusal:
            # Another version of acked may have made it in the meantime. Or there is no room for it:
            # the virtual host has all the queues that it may have.
            if refusal.code != PRECONDITION_FAILED or not await self._has(place.name):
                raise

    async def _has(self, name: str) -> bool:
        channel = await self._side_channel()
        try:
            await self.ask(channel.queue_declare, name, passive=True)
        except ChannelRefused as refusal:
            if refusal.code != NOT_FOUND:
                raise
            return False
        return True

    async def delete(self, name: str) -> None:
        """Delete the queue *name*, with what is in it."""
        channel = await self._side_channel()
        await self.ask(channel.queue_delete, name)

    async def ready(self, name: str) -> int:
        """How many messages lie in the queue *name*; 0 where there is none."""
        channel = await self._side_channel()
        try:
            frame = await self.ask(channel.queue_declare, name, passive=True)
        except ChannelRefused as refusal:
            if refusal.code != NOT_FOUND:
                raise
            return 0
        return int(frame.method.message_count)

    async def purge(self, name: str) -> None:
        """Empty the queue *name*, if there is one."""
        channel = await self._side_channel()
        try:
            await self.ask(channel.queue_purge, name)
        except ChannelRefused as refusal:
            if refusal.code != NOT_FOUND:
                raise

    async def head(self, name: str) -> float | None:
        """Since when the first message in the queue *name* has been there, wall-clock seconds;
        None when nothing lies there."""
        channel = await self._open_channel()
        found: asyncio.Future[float | None] = self._expect()
        closed: asyncio.Future[None] = self._expect()
        closed.add_done_callback(lambda late: late.cancelled() or late.exception())

        def got(_: Any, __: Any, properties: Any, ___: bytes) -> None:
            _answer(found, float(properties.timestamp or 0))

        def on_close(_: Any, error: Exception) -> None:
            _refuse(found, why_closed(error))
            _answer(closed, None)

        # The driver reports an empty queue to whoever asked for that answer.
        channel.add_callback(lambda _: _answer(found, None), [Basic.GetEmpty], one_shot=True)
        channel.add_on_close_callback(on_close)
        try:
            channel.basic_get(name, got)
            since = await self._wait(found)
            # Then it is the first again. Given back, it would be the last (seen with 3.10.8).
            channel.close()
            await self._wait(closed)
        except ChannelRefused as refusal:
            if refusal.code != NOT_FOUND:
                raise
            return None
        except AMQPError as error:
            raise self.lost or LinkLost(said(error)) from error
        finally:
            self._waiting -= {found, closed}
        return since

    async def close(self) -> None:
        """End it in good order."""
        if self.lost is None:
            self.lost = LinkLost("the connection was closed")
            with contextlib.suppress(AMQPError):
                self._connection.close()
            # The driver says goodbye on its own; what is left after that is cut.
            for _ in range(20):
                if self._connection.is_closed:
                    return
                await asyncio.sleep(0.01)
        self.abort()

    def abort(self, reason: BrokerError | None = None) -> None:
        """Cut it. Whoever waits for an answer is told *reason*."""
        self._end(reason or LinkLost("the connection was cut"))
        # There is no public way to end a connection whose server does not answer.
        transport = getattr(self._connection, "_transport", None)
        if transport is not None:
            with contextlib.suppress(Exception):
                transport.abort()

    def _parameters(self, timeout: float) -> pika.ConnectionParameters:
        address = self.address
        tls = address.tls
        return pika.ConnectionParameters(
            host=address.host,
            port=address.port,
            virtual_host=address.vhost,
            credentials=pika.PlainCredentials(address.user, address.password),
            ssl_options=None if tls is None else pika.SSLOptions(tls, address.host),
            heartbeat=HEARTBEAT,
            connection_attempts=1,
            socket_timeout=timeout,
            stack_timeout=timeout,
            client_properties={"connection_name": self.name, "product": "acked"},
        )

    async def _open_channel(self) -> Any:
        opened = self._expect()
        try:
            self._connection.channel(on_open_callback=lambda channel: _answer(opened, channel))
        except AMQPError as error:
            self._waiting.discard(opened)
            raise self.lost or LinkLost(said(error)) from error
        return await self._wait(opened)

    async def _side_channel(self) -> Any:
        """A channel for questions. RabbitMQ closes it to say no."""
        if self._side is None:
            self._side = side = await self._open_channel()
            side.add_on_close_callback(self._on_side_closed)
        return self._side

    def _on_side_closed(self, channel: Any, error: Exception) -> None:
        if self._side is channel:
            self._side = None
        refusal = why_closed(error)
        for waiting in tuple(self._waiting):
            _refuse(waiting, refusal)

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason or "resource alarm")
        self.on_blocked(self.blocked)

    def _on_unblocked(self, *_: Any) -> None:
        self.blocked = ""

    def _expect(self) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.add(answer)
        return answer

    async def _wait(self, answer: asyncio.Future[T]) -> T:
        try:
            if self.lost is not None and not answer.done():
                raise self.lost
            return await answer
        finally:
            self._waiting.discard(answer)

    def _end(self, error: BaseException) -> None:
        if self.lost is not None:
            return
        self.lost = lost = meaning(error, self.address)
        for waiting in tuple(self._waiting):
            _refuse(waiting, lost)
        self.on_lost(lost)
        # A closed channel leaves the connection open.
        with contextlib.suppress(AMQPError, AttributeError):
            self._connection.close()


async def _know(address: Address, timeout: float) -> None:
    """See that the host's name has an address. The driver asks in a thread for which the end of
    the process would wait, and where no name server answers that is half a minute.

    Raises:
        LinkLost: It has none, or nobody says so in time.
    """
    known = asyncio.wrap_future(resolving(address.host, address.port))
    known.add_done_callback(lambda late: late.cancelled() or late.exception())
    try:
        await asyncio.wait_for(asyncio.shield(known), timeout)
    except TimeoutError:
        raise LinkLost(
            f"RabbitMQ at {address.masked} cannot be reached (no name server said in time where "
            "it is)"
        ) from None
    except OSError as error:
        raise meaning(error, address) from None


def _answer(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _refuse(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _ignore(_: Any) -> None:
    """Nobody has asked to be told."""
