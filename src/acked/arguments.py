"""How the arguments of one task travel: checked at the call, JSON in between, converted in the
worker.

A value arrives as it was sent, or is refused at the call with the remedy. The cheap check is that
it survives JSON, ``decode(encode(x)) == x``; only when it does not is it walked to find out why.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from acked import hints
from acked.errors import NotSendable
from acked.exact import (
    JSON_TYPES,
    UNENCODABLE,
    Trouble,
    decode,
    encode,
    find_nan,
    find_trouble,
    kind_of,
    survives,
    too_deep,
)  # fmt: skip
from acked.redaction import MASK, is_secret, redact_text

_EMPTY_ARGS, _EMPTY_KWARGS = b"[]", b"{}"


class Arguments:
    """What one function takes.

    Args:
        task: The task's name, for errors.
        function: The function.
        bound: Its first parameter is the task itself.
    """

    def __init__(self, task: str, function: Callable[..., Any], *, bound: bool) -> None:
        self.task = task
        self._function = function
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if bound:
            parameters = parameters[1:]
        self.signature = signature.replace(
            parameters=parameters, return_annotation=inspect.Signature.empty
        )
        kinds = inspect.Parameter
        positional = [
            each
            for each in parameters
            if each.kind in {kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD}
        ]
        self._names = tuple(each.name for each in positional)
        self._rest = next((p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL), None)
        self._extra = next((p.name for p in parameters if p.kind is kinds.VAR_KEYWORD), None)
        needs_keywords = any(
            each.kind is kinds.KEYWORD_ONLY and each.default is kinds.empty for each in parameters
        )
        # Positional calls whose length is in this range fit; every other call is bound in full.
        least = sum(each.default is kinds.empty for each in positional)
        most = len(positional) if self._rest is None else 2**31
        self._fits = range(0) if needs_keywords else range(least, most + 1)
        self._rich: dict[str, Any] | None = None
        self._unresolved: dict[str, str] = {}
        self._unsupported: dict[str, str] = {}
        self._result: Any = None

    # -- at the call -------------------------------------------------------------------------------

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Whether the function can be called so.

        Raises:
            NotSendable: An argument is missing, unknown, or given twice.
        """
        if kwargs or len(args) not in self._fits:
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise NotSendable(
                    f"cannot send {self.task}: {error}. It takes {self.shown}."
                ) from None

    def dump(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, limit: int
    ) -> tuple[bytes, bytes]:
        """The JSON array and the JSON object of a call.

        Args:
            limit: Largest size of both together, in bytes.

        Raises:
            NotSendable: They do not fit the function, would not arrive as they are, or are too
                large.
        """
        if not isinstance(args, tuple | list):
            raise NotSendable(
                f"cannot send {self.task}: args must be a list or tuple, got {args!r:.300}: "
                "apply_async((1,)), delay_many([(1,), (2,)])."
            )
        if type(kwargs) is not dict:
            kwargs = self._as_dict(kwargs)
        self.check(args, kwargs)
        raw = None if self.rich else _exact_pair(args, kwargs)
        if raw is None:
            self._check_each(args, kwargs)
            raw = encode(args), encode(kwargs)
        raw_args, raw_kwargs = raw
        size = len(raw_args) + len(raw_kwargs)
        if size > limit:
            raise NotSendable(
                f"cannot send {self.task}: its arguments are {size} bytes of JSON, more than "
                f"max_message_size={limit}. Store the data and send where it is, or raise the "
                "setting."
            )
        if too_deep(raw_args, args) or (kwargs and too_deep(raw_kwargs, kwargs)):
            self._check_each(args, kwargs)
        return raw_args, raw_kwargs

    def _as_dict(self, kwargs: object) -> dict[str, Any]:
        """The keyword arguments of a caller that no type checker has seen, or of a signature, whose
        type the encoder does not know."""
        if not isinstance(kwargs, Mapping):
            raise NotSendable(
                f"cannot send {self.task}: kwargs must be a dict, got {kwargs!r:.300}: "
                'apply_async((), {"name": 1}).'
            )
        return dict(cast("Mapping[str, Any]", kwargs))

    def _check_each(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Find the argument that cannot be sent, if there is one."""
        for name, value in self._named(args, kwargs):
            annotation = self._annotation(name)
            if annotation is None:
                if not survives(value) and (trouble := find_trouble(value)) is not None:
                    raise self._refusal(name, trouble)
            else:
                self._check_rich(name, value, annotation)

    def _refusal(self, name: str, trouble: Trouble) -> NotSendable:
        remedy = trouble.remedy
        if name in self._unsupported:
            remedy = f"its annotation cannot be read back from JSON ({self._unsupported[name]})"
        elif (parameter := self._parameter(name)) in self._unresolved:
            remedy = (
                f"the annotation {self._unresolved[parameter]!r} of {parameter} could not be "
                "resolved: import it outside `if TYPE_CHECKING`"
            )
        elif trouble.annotation:
            # Inside a container the annotation must say so all the way down.
            wanted = trouble.annotation if not trouble.place else f"...{trouble.annotation}..."
            remedy = f"annotate the parameter `{name}: {wanted}`, or {remedy}"
        return NotSendable(
            f"cannot send {self.task}: argument {name}{trouble.place} is {trouble.kind}, "
            f"{trouble.why}; {remedy}."
        )

    def _check_rich(self, name: str, value: Any, annotation: Any) -> None:
        wanted = hints.text(annotation)
        try:
            raw = encode(value)
            arrives = msgspec.convert(decode(raw), annotation, str_keys=True)
        except UNENCODABLE as error:
            raise NotSendable(
                f"cannot send {self.task}: argument {name} is {kind_of(value)} and must be "
                f"{wanted}: {error}."
            ) from None
        if b"null" in raw and (trouble := find_nan(value)) is not None:
            raise self._refusal(name, trouble)
        if arrives == value or (encode(arrives) == raw and _alike(arrives, value)):
            return
        # Given in its JSON form, which the annotation turns into the type. Not a str for bytes:
        # who writes one rarely means base64.
        by_form = type(value) in JSON_TYPES and type(arrives) is not type(value)
        if by_form and not isinstance(arrives, bytes | bytearray | memoryview):
            return
        raise NotSendable(
            f"cannot send {self.task}: argument {name} is {kind_of(value)} and would arrive as "
            f"{arrives!r:.200}, since the parameter is annotated {wanted}. Send what the "
            "annotation says, or correct the annotation."
        )

    # -- in the worker -----------------------------------------------------------------------------

    def load(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Decoded arguments as the function wants them.

        Raises:
            TypeError: They do not fit the function.
            msgspec.ValidationError: One does not fit its annotation.
        """
        if kwargs or len(args) not in self._fits:
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self.shown}: {error}") from None
        if not self.rich:
            return args, kwargs
        return (
            [self._convert(self._name_at(index), value) for index, value in enumerate(args)],
            {name: self._convert(name, value) for name, value in kwargs.items()},
        )

    def _convert(self, name: str, value: Any) -> Any:
        annotation = self._annotation(name)
        if annotation is None:
            return value
        try:
            return msgspec.convert(value, annotation, str_keys=True)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(f"argument {name!r}: {error}") from None

    def load_result(self, value: Any) -> Any:
        """A decoded return value as the return annotation says, or as it is where it does not
        fit: the work is done, and an annotation is no reason to hide its result."""
        if self._rich is None:
            _ = self.rich  # resolves the return annotation as well
        if self._result is None:
            return value
        try:
            return msgspec.convert(value, self._result, str_keys=True)
        except msgspec.ValidationError:
            return value

    @property
    def shown(self) -> str:
        """The task with its parameters as they are written: ``shop.scan(url: str)``."""
        parameters = [
            each.replace(
                annotation=_Bare(each.annotation)
                if isinstance(each.annotation, str)  # from __future__ import annotations
                else each.annotation,
                default=_shown_default(each),
            )
            for each in self.signature.parameters.values()
        ]
        return f"{self.task}{self.signature.replace(parameters=parameters)}"

    # -- names and annotations ---------------------------------------------------------------------

    @property
    def rich(self) -> dict[str, Any]:
        """The parameters whose values are converted, and to what. Resolved at first use, when the
        module that defines the task is complete."""
        if self._rich is None:
            found, self._unresolved = hints.resolve(self._function)
            result = found.pop("return", None)
            if hints.is_rich(result) and not hints.unsupported(result):
                self._result = result
            rich: dict[str, Any] = {}
            for name in self.signature.parameters:
                annotation = found.get(name)
                if not hints.is_rich(annotation):
                    continue
                if (why := hints.unsupported(annotation)) is None:
                    rich[name] = annotation
                else:
                    self._unsupported[name] = why
            self._rich = rich
        return self._rich

    def _parameter(self, name: str) -> str:
        """The parameter that takes the argument called *name*."""
        return name if name in self.signature.parameters else self._extra or name

    def _annotation(self, name: str) -> Any:
        return self.rich.get(self._parameter(name))

    def _name_at(self, index: int) -> str:
        if index < len(self._names):
            return self._names[index]
        return self._rest or str(index)

    def _named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for index, value in enumerate(args):
            yield self._name_at(index), value
        yield from kwargs.items()


def _shown_default(parameter: inspect.Parameter) -> Any:
    """The default of *parameter*, redacted."""
    default = parameter.default
    # Nothing else is compared: what `==` gives for an array or a column of a table has no truth.
    if default is parameter.empty or default is None or (isinstance(default, str) and not default):
        return default
    return _Bare(MASK if is_secret(parameter.name) else redact_text(repr(default)))


class _Bare(str):
    """Text that is shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _exact_pair(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[bytes, bytes] | None:
    """The JSON of both, where it gives them back as they are; None where it may not."""
    try:
        raw_args = encode(args) if args else _EMPTY_ARGS
        raw_kwargs = encode(kwargs) if kwargs else _EMPTY_KWARGS
        if args and decode(raw_args) != list(args):
            return None
        if kwargs and decode(raw_kwargs) != kwargs:
            return None
    except UNENCODABLE:
        return None
    return raw_args, raw_kwargs


def _alike(one: Any, other: Any) -> bool:
    """Of one type, or both plain containers."""
    containers = (list, tuple, set, frozenset)
    return type(one) is type(other) or (
        isinstance(one, containers) and isinstance(other, containers)
    )
