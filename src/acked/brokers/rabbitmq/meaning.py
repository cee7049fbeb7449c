"""What an error of RabbitMQ means to whoever asked for something, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from acked.brokers.rabbitmq.address import Address
from acked.errors import BrokerError, BrokerRefused, BrokerUnavailable

NOT_FOUND, PRECONDITION_FAILED = 404, 406

MOST_WRAPPINGS = 10
"""Errors within errors that are looked through for the cause."""


class LinkLost(BrokerUnavailable):
    """The connection ended while an answer was waited for.

    Attributes:
        code: AMQP's, where RabbitMQ ended it; else 0.
    """

    code = 0


class ChannelRefused(BrokerError):
    """RabbitMQ closed a channel to refuse what was asked on it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"RabbitMQ refused: {text} ({code})")
        self.code = code


def meaning(error: BaseException, address: Address) -> BrokerError:
    """What *error* of the driver means to whoever asked for something."""
    if isinstance(error, BrokerError):
        return error
    cause = _cause(error)
    text = said(cause)
    if isinstance(cause, ProbableAuthenticationError) or "Login was refused" in text:
        return BrokerRefused(
            f"RabbitMQ at {address.masked} refused the user {address.user!r} with that password "
            f"({text}). `rabbitmqctl authenticate_user {address.user} PASSWORD` tells whether it "
            "is right."
        )
    if isinstance(cause, ProbableAccessDeniedError) or (
        isinstance(cause, ConnectionClosedByBroker | ChannelClosedByBroker)
        and cause.reply_code in (403, 530)
    ):
        return BrokerRefused(
            f"RabbitMQ at {address.masked} refused the user {address.user!r} in the virtual host "
            f"{address.vhost!r} ({text}). See `rabbitmqctl list_permissions --vhost "
            f"{address.vhost}`."
        )
    if isinstance(cause, ConnectionClosedByBroker | ChannelClosedByBroker):
        lost = LinkLost(f"RabbitMQ at {address.masked} closed the connection: {cause.reply_text}")
        lost.code = cause.reply_code
        return lost
    return LinkLost(
        f"RabbitMQ at {address.masked} cannot be reached ({text}). Is it running there?"
    )


def why_closed(error: Exception) -> BrokerError:
    """What the end of a channel means to whoever has asked something on it."""
    if isinstance(error, ChannelClosedByBroker):
        return ChannelRefused(error.reply_code, error.reply_text)
    return LinkLost(said(error))


def said(error: BaseException) -> str:
    """Its text, or its name where it has none."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _cause(error: BaseException) -> BaseException:
    """The first error below the driver's wrappings."""
    for _ in range(MOST_WRAPPINGS):
        inner: Any = None
        if isinstance(error, AMQPConnectorException):
            several: Sequence[BaseException] = getattr(error, "exceptions", ())
            inner = several[-1] if several else getattr(error, "exception", None)
        elif error.args and isinstance(error.args[0], BaseException):
            inner = error.args[0]
        if inner is None:
            break
        error = inner
    return error
