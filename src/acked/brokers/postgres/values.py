"""Values as PostgreSQL's binary protocol has them: parameters out, rows in.

Batches travel as arrays, one for each column. Packed here with one call of `struct` for a column,
they cost a tenth of what a general adapter takes for a value at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

BOOL, BYTEA, INT8, INT2, TEXT, FLOAT8 = 16, 17, 20, 21, 25, 701
"""Numbers of PostgreSQL's types (pg_type.oid)."""

_NULL = struct.pack(">i", -1)
_int8, _int4, _int2, _float8 = (struct.Struct(f">{each}") for each in "qihd")
_head = struct.Struct(">iiIii")
_no_items = struct.Struct(">iiI")


def int8(value: int) -> bytes:
    """A bigint."""
    return _int8.pack(value)


def int4(value: int) -> bytes:
    """An integer."""
    return _int4.pack(value)


def int2(value: int) -> bytes:
    """A smallint."""
    return _int2.pack(value)


def float8(value: float | None) -> bytes | None:
    """A double precision."""
    return None if value is None else _float8.pack(value)


def text(value: str) -> bytes:
    """Characters as bytea. Half a character, which has no UTF-8, becomes a question mark."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="replace")


def int8s(values: Sequence[int]) -> bytes:
    """A bigint[]."""
    return _numbers(INT8, "q", 8, values)


def int4s(values: Sequence[int]) -> bytes:
    """An integer[]."""
    return _numbers(23, "i", 4, values)


def int2s(values: Sequence[int | None]) -> bytes:
    """A smallint[]."""
    return _numbers_or_nulls(INT2, "h", 2, _int2, values)


def float8s(values: Sequence[float | None]) -> bytes:
    """A double precision[]."""
    return _numbers_or_nulls(FLOAT8, "d", 8, _float8, values)


def bools(values: Sequence[bool]) -> bytes:
    """A boolean[]."""
    return _numbers(BOOL, "?", 1, values)


def blobs(values: Sequence[bytes | None], kind: int = BYTEA) -> bytes:
    """A bytea[], or an array of another *kind* whose items are bytes."""
    parts = [_header(kind, len(values))]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (_int4.pack(len(value)), value)
    return b"".join(parts)


def texts(values: Sequence[str]) -> bytes:
    """Characters as a bytea[]."""
    return blobs([text(each) for each in values])


def words(values: Sequence[str]) -> bytes:
    """A text[], of our own words."""
    return blobs([each.encode() for each in values], TEXT)


def _header(kind: int, count: int) -> bytes:
    # Dimensions, whether there are NULLs (which nobody reads), type; length, first index.
    return _head.pack(1, 1, kind, count, 1) if count else _no_items.pack(0, 0, kind)


@lru_cache(maxsize=2048)
def _items(code: str, count: int) -> struct.Struct:
    return struct.Struct(">" + f"i{code}" * count)


def _numbers(kind: int, code: str, size: int, values: Sequence[Any]) -> bytes:
    count = len(values)
    items: list[Any] = [size] * (2 * count)
    items[1::2] = values
    return _header(kind, count) + _items(code, count).pack(*items)


def _numbers_or_nulls(
    kind: int, code: str, size: int, item: struct.Struct, values: Sequence[Any]
) -> bytes:
    if None not in values:
        return _numbers(kind, code, size, values)
    return blobs([None if each is None else item.pack(each) for each in values], kind)


# Rows

Reader = Callable[[bytes], Any]


def readable(raw: bytes) -> str:
    """Characters from bytea, whatever another program wrote there."""
    return raw.decode(errors="replace")


def _array(read: Reader) -> Reader:
    def read_array(raw: bytes) -> list[Any]:
        if not _int4.unpack_from(raw)[0]:
            return []
        items: list[Any] = []
        count, at = _int4.unpack_from(raw, 12)[0], 20
        for _ in range(count):
            size = _int4.unpack_from(raw, at)[0]
            at += 4
            if size < 0:
                items.append(None)
                continue
            items.append(read(raw[at : at + size]))
            at += size
        return items

    return read_array


def _int8_in(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


READERS: dict[str, Reader] = {
    "q": _int8_in,
    "d": lambda raw: _float8.unpack(raw)[0],
    "b": bytes,
    "t": readable,
    "?": lambda raw: raw == b"\x01",
    "Q": _array(_int8_in),
    "T": _array(readable),
}
"""By a letter for each column of a statement: integer of any size, double, bytea, characters, bool;
arrays in capitals."""
