"""The message: what is sent when a task is called, frozen, and its JSON form.

One message is one JSON object. `args` and `kwargs` stay raw JSON inside it, so that a broker or
a supervisor can read who a message is for without decoding what it carries.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from acked.errors import MessageUnreadable

VERSION = 1
DEFAULT_QUEUE = "default"
MAX_ID_LENGTH = 200
MAX_NAME_LENGTH = 1000
"""Characters of a task's name: more than a module and its function ever have together."""
MAX_QUEUE_LENGTH = 100
PRIORITIES = range(-255, 256)
FURTHEST = 1e12
"""Wall-clock seconds that no time goes beyond, either way: some 30,000 years, where a datetime has
less than 10,000."""

# Another program may have written anything. What an engine has a column or an index for is checked
# here, so that a message is refused before it runs and not when what became of it is written.
Moment = Annotated[float, Meta(ge=-FURTHEST, le=FURTHEST)]
Priority = Annotated[int, Meta(ge=PRIORITIES.start, lt=PRIORITIES.stop)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a task.

    Args:
        id: Names the task for ever; unique in the broker.
        task: Registered name of the function.
        args: Positional arguments, a JSON array.
        kwargs: Keyword arguments, a JSON object.
        queue: Where it waits.
        priority: Larger runs sooner, within a queue, on every broker.
        eta: Wall-clock time in seconds before which it must not start; None starts at once.
        expires: Wall-clock time in seconds from which on it must not start any more.
        sent: Wall-clock time in seconds at which it was sent.
        max_retries: Override of the task's: a number, or None to retry for ever.
        soft_time_limit: Override of the task's, seconds; 0 switches it off.
        time_limit: Override of the task's, seconds; 0 switches it off.
        ignore_result: Override of the task's.
        headers: The caller's own data, seen as `self.request.headers`.
        parent_id: The task that sent this one.
        root_id: The first task of that line.
        v: Version of this form.
    """

    id: Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
    task: Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]
    args: msgspec.Raw = msgspec.Raw(b"[]")
    kwargs: msgspec.Raw = msgspec.Raw(b"{}")
    queue: Annotated[str, Meta(min_length=1, max_length=MAX_QUEUE_LENGTH)] = DEFAULT_QUEUE
    priority: Priority = 0
    eta: Moment | None = None
    expires: Moment | None = None
    sent: Moment = 0.0
    max_retries: int | msgspec.UnsetType | None = msgspec.UNSET
    soft_time_limit: float | msgspec.UnsetType = msgspec.UNSET
    time_limit: float | msgspec.UnsetType = msgspec.UNSET
    ignore_result: bool | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, Any] = {}
    parent_id: str | None = None
    root_id: str | None = None
    v: int = VERSION


_encoder = msgspec.json.Encoder()
encode: Callable[[Message], bytes] = _encoder.encode
"""The JSON form of a message."""
_decoder = msgspec.json.Decoder(Message)
_plain_decoder = msgspec.json.Decoder()


def new_id() -> str:
    """A task id: 48 bits of time in milliseconds, then 128 random bits, in hexadecimal.

    Random enough that no one can guess one, and growing with time, so that the index of
    a million ids is written at its end and not all over.
    """
    return (int(time.time() * 1000).to_bytes(6, "big") + os.urandom(16)).hex()


def new_ids(count: int) -> list[str]:
    """*count* ids at once, for the price of a few."""
    prefix = int(time.time() * 1000).to_bytes(6, "big").hex()
    random = os.urandom(16 * count).hex()
    return [prefix + random[start : start + 32] for start in range(0, 32 * count, 32)]


def decode(body: bytes) -> Message:
    """The message in *body*.

    Raises:
        MessageUnreadable: It is not JSON, not a message, of another version, says something twice,
            or has an id, a name, a queue, a priority or a time that no acked would send.
    """
    try:
        message = _decoder.decode(body)
        if message.v != VERSION:
            raise MessageUnreadable(
                f"message version {message.v} is not known here (known: {VERSION}); "
                "a newer acked may have sent it: upgrade this worker"
            )
        if _encoder.encode(message) != body:
            _refuse_duplicate_keys(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MessageUnreadable(f"not a message: {error}") from None
    return message


def decode_arguments(message: Message) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of *message* as plain JSON values.

    Raises:
        MessageUnreadable: They are not a list and an object, nest too deep, or say a key twice.
    """
    raw_args, raw_kwargs = bytes(message.args), bytes(message.kwargs)
    try:
        args = _plain_decoder.decode(raw_args) if raw_args != b"[]" else []
        kwargs = _plain_decoder.decode(raw_kwargs) if raw_kwargs != b"{}" else {}
        if args and _encoder.encode(args) != raw_args:
            _refuse_duplicate_keys(raw_args)
        if kwargs and _encoder.encode(kwargs) != raw_kwargs:
            _refuse_duplicate_keys(raw_kwargs)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MessageUnreadable(f"arguments are not readable: {error}") from None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise MessageUnreadable("arguments must be a JSON array and a JSON object")
    return args, kwargs


def _refuse_duplicate_keys(text: bytes) -> None:
    """Two parsers may disagree about which of two equal keys counts, so neither does."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise MessageUnreadable("a key appears twice")
        return found

    try:
        json.loads(text, object_pairs_hook=once)
    except ValueError as error:
        raise MessageUnreadable(f"not a message: {error}") from None
