"""Whether a value survives JSON as it is, and if not, what in it does not and what to do.

The cheap test is ``decode(encode(x)) == x``; only when it fails is the value walked.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from acked.errors import NotSendable

MAX_DEPTH = 100
"""Containers inside each other that a value may have."""

JSON_TYPES = (dict, list, str, int, float, bool, type(None))
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What encoding or decoding may raise for a value; msgspec's errors are ValueErrors."""


def _plain(value: object) -> str | int | float:
    """What a subclass of one of JSON's types is to JSON: Django's SafeString is its text."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
encode = _encoder.encode
decode = msgspec.json.Decoder().decode

_TEXT_TYPES = (
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID
)  # fmt: skip


class Trouble(msgspec.Struct, frozen=True):
    """What keeps a value from surviving.

    Args:
        place: Where in the value, ``["when"][0]``; empty for the value itself.
        kind: Its type, for people.
        why: What JSON would make of it.
        remedy: What to do, without a capital.
        annotation: The annotation that would carry it, or empty.
    """

    place: str
    kind: str
    why: str
    remedy: str
    annotation: str = ""


def survives(value: Any) -> bool:
    """Whether JSON gives back a value equal to *value*, and not too deep."""
    try:
        raw = encode(value)
        return decode(raw) == value and not too_deep(raw, value)
    except UNENCODABLE:
        return False


def too_deep(raw: bytes, value: Any) -> bool:
    """Whether *value*, whose JSON is *raw*, nests deeper than `MAX_DEPTH`."""
    # Fewer brackets than that cannot nest deeper; counting them is close to free.
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _containers_in(outer)]
        if not level:
            return False
    return True


def _containers_in(value: Any) -> Iterable[Any]:
    inner = value.values() if isinstance(value, dict) else value
    return [each for each in inner if isinstance(each, dict | list | tuple)]


def kind_of(value: Any) -> str:
    """The type of *value* for people: ``a datetime``, ``a shop.models.Order``."""
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ not in {"builtins", "datetime", "decimal", "uuid"}:
        name = f"{kind.__module__}.{name}"
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"{article} {name}"


def find_trouble(value: Any, place: str = "", depth: int = 0) -> Trouble | None:
    """The first thing in *value* that JSON would lose or change; tuples become lists, and that
    is fine."""
    if depth >= MAX_DEPTH and isinstance(value, dict | list | tuple):
        return Trouble(
            "", f"nested deeper than {MAX_DEPTH}", "which cannot be read back safely",
            "store the data and send where it is",
        )  # fmt: skip
    if isinstance(value, dict):
        return _trouble_in_dict(value, place, depth)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        for index, item in enumerate(value):
            if found := find_trouble(item, f"{place}[{index}]", depth + 1):
                return found
        return None
    return _trouble_with(value, place)


def _trouble_in_dict(value: dict[Any, Any], place: str, depth: int) -> Trouble | None:
    for key, item in value.items():
        inside = f"{place}[{key!r:.80}]"
        if not isinstance(key, str):
            kind = type(key).__name__
            return Trouble(
                place, f"a dict with the {kind} key {key!r:.80}", "which would arrive as text",
                "use str keys", f"dict[{kind}, ...]" if isinstance(key, int) else "",
            )  # fmt: skip
        if found := _trouble_with(key, inside) or find_trouble(item, inside, depth + 1):
            return found
    return None


def _trouble_with(value: Any, place: str) -> Trouble | None:
    kind, name = kind_of(value), type(value).__name__
    if isinstance(value, float) and not math.isfinite(value):
        return Trouble(place, str(value), "which JSON does not have", "send None or a str")
    if isinstance(value, _TEXT_TYPES):
        return Trouble(place, kind, "which would arrive as text", "send a str", name)
    if isinstance(value, bytes | bytearray | memoryview):
        return Trouble(place, kind, "which would arrive as base64 text", "send a str", "bytes")
    if isinstance(value, set | frozenset):
        return Trouble(place, kind, "which would arrive as a list", "send a list", name)
    try:
        if decode(encode(value)) == value:
            return None
    except UnicodeEncodeError:
        return Trouble(
            place, "a str with a lone surrogate", "which is no text", "decode it with an encoding"
        )
    except UNENCODABLE:
        return Trouble(
            place, kind, "which JSON cannot carry",
            "send what it is made from, or its id, and load it in the task",
        )  # fmt: skip
    if isinstance(value, enum.Enum):
        return Trouble(place, kind, "which would arrive as its value", "send its value", name)
    return Trouble(place, kind, "which would arrive as a dict or list", "send a dict", name)


def find_nan(value: Any) -> Trouble | None:
    """The first NaN or infinity inside *value*, which JSON would turn into null."""
    return _find_nan(msgspec.to_builtins(value, str_keys=True), "")


def _find_nan(value: Any, place: str) -> Trouble | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else _trouble_with(value, place)
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    for key, item in pairs:
        if found := _find_nan(item, f"{place}[{key!r:.80}]"):
            return found
    return None


def dump_exact(what: str, value: Any, *, limit: int) -> bytes:
    """The JSON of *value*, which must come back as it is.

    Args:
        what: What it is, for the error: ``self.save(value)``.
        limit: Largest size in bytes.

    Raises:
        NotSendable: It would not, or is too large.
    """
    if not survives(value) and (trouble := find_trouble(value)) is not None:
        raise NotSendable(
            f"{what}: the value{trouble.place} is {trouble.kind}, {trouble.why}; {trouble.remedy}."
        )
    return within(what, encode(value), limit)


def dump_text(what: str, value: Any, *, limit: int) -> bytes:
    """The JSON of *value*, where types that JSON lacks become what is nearest: text for a
    `datetime`, a list for a set, null for NaN.

    Raises:
        NotSendable: Something in it has no such form, or it is too large. Names type and place.
    """
    try:
        raw = encode(value)
    except UNENCODABLE as error:
        place, culprit = _find_unencodable(value, "", 0)
        raise NotSendable(
            f"{what}{place} is {kind_of(culprit)}, which cannot be stored as JSON ({error})."
        ) from None
    return within(what, raw, limit)


def _find_unencodable(value: Any, place: str, depth: int) -> tuple[str, Any]:
    """The innermost part of *value* that cannot be encoded, and where it is."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    for key, item in pairs:
        try:
            encode(item)
        except UNENCODABLE:
            if depth < MAX_DEPTH:
                return _find_unencodable(item, f"{place}[{key!r:.80}]", depth + 1)
    return place, value


def within(what: str, raw: bytes, limit: int) -> bytes:
    """*raw*, if it is no larger than *limit* bytes."""
    if len(raw) > limit:
        raise NotSendable(
            f"{what} is {len(raw)} bytes of JSON, more than the limit of {limit}. Store the data "
            "elsewhere and keep where it is."
        )
    return raw
