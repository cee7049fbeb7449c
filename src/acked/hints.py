"""Which annotations change how a value travels.

A *rich* annotation names a type that JSON does not have (`datetime`, `UUID`, a dataclass), alone or
inside a container; such a value is converted back in the worker. A plain one (`int`, `dict`, `Any`)
is left alone even where it is wrong, so that a sloppy annotation does not break a task.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

_RICH_TYPES = (
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID,
    decimal.Decimal, bytes, bytearray, memoryview, set, frozenset, tuple,
    collections.abc.Set, collections.abc.MutableSet,
)  # fmt: skip
_STR_KEYS = (str, Any, object)

# What `type X = ...` makes, from Python 3.12 on.
_ALIAS: type | tuple[()] = getattr(typing, "TypeAliasType", ())


def resolve(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The annotations of *function* that can be resolved, each by itself, and the text of those
    that cannot.

    A name that exists for type checkers alone (``if TYPE_CHECKING:``) makes its own annotation
    unknown and no other.
    """
    target = inspect.unwrap(function)
    target = getattr(target, "__func__", target)
    try:
        written = dict(target.__annotations__)
    except (AttributeError, NameError):
        return {}, {}
    names = getattr(target, "__globals__", {})
    found: dict[str, Any] = {}
    unresolved: dict[str, str] = {}
    for name, annotation in written.items():
        # One annotation at a time: get_type_hints fails as a whole.
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found.update(typing.get_type_hints(holder, globalns=names, include_extras=True))
        except Exception:  # unresolved means not converted, which needs no report by itself
            unresolved[name] = annotation if isinstance(annotation, str) else text(annotation)
    return found, unresolved


def is_rich(annotation: Any) -> bool:
    """Whether values of *annotation* are converted in the worker."""
    return _is_rich(annotation, frozenset())


def _is_rich(annotation: Any, inside: frozenset[Any]) -> bool:
    if isinstance(annotation, typing.NewType):
        return _is_rich(annotation.__supertype__, inside)
    if isinstance(annotation, _ALIAS):
        return _is_rich(getattr(annotation, "__value__", None), inside)
    origin = typing.get_origin(annotation)
    if origin is None:
        return isinstance(annotation, type) and _is_rich_class(annotation, inside)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return False
    if origin is typing.Annotated:
        return _is_rich(arguments[0], inside)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        if arguments and arguments[0] not in _STR_KEYS:
            return True
    elif isinstance(origin, type) and _is_rich_class(origin, inside):
        return True
    return any(_is_rich(argument, inside) for argument in arguments)


def _is_rich_class(kind: type, inside: frozenset[Any]) -> bool:
    if kind in _RICH_TYPES or issubclass(kind, enum.Enum | msgspec.Struct):
        return True
    if typing.is_typeddict(kind):
        # A plain dict, unless it holds something rich; converting it would drop other keys.
        if kind in inside:
            return False
        fields = typing.get_type_hints(kind)
        return any(_is_rich(field, inside | {kind}) for field in fields.values())
    return (
        dataclasses.is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )


def unsupported(annotation: Any) -> str | None:
    """Why values of this rich *annotation* cannot be converted, or None when they can."""
    try:
        msgspec.json.Decoder(annotation)
    except Exception as error:
        return str(error)
    return None


def text(annotation: Any) -> str:
    """*annotation* as one writes it."""
    return inspect.formatannotation(annotation)
