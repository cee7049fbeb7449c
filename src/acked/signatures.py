"""Signatures: a call of a task as a value, to be sent later or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Never, Protocol, TypeVar

from acked.instead import OF_A_SIGNATURE, missing
from acked.result import AsyncResult

R_co = TypeVar("R_co", covariant=True)


class Sendable(Protocol[R_co]):
    """What a signature calls: a task, or a name that stands for one."""

    @property
    def name(self) -> str: ...

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R_co]: ...

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R_co]: ...


class Signature(Generic[R_co]):
    """A task with arguments and options. `Task.s` and `Task.si` make one.

    Arguments given when it is sent come before its own, and keywords are added, unless it is
    `immutable`; then what is added is left out, as in Celery.

    Args:
        target: The task.
        args, kwargs: Arguments it already has.
        options: Those of `Task.apply_async`.
        immutable: It takes no further arguments.
    """

    __slots__ = ("_target", "args", "immutable", "kwargs", "options")

    def __init__(
        self,
        target: Sendable[R_co],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
    ) -> None:
        self._target = target
        self.args = tuple(args)
        self.kwargs: Mapping[str, Any] = MappingProxyType(dict(kwargs or {}))
        self.options: Mapping[str, Any] = MappingProxyType(dict(options or {}))
        self.immutable = immutable

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name: str) -> Never:
            raise missing("a signature", self, name, OF_A_SIGNATURE)

        def __call__(self, *args: object, **kwargs: object) -> Never:
            raise TypeError(
                f"a signature is sent and not called: {self.task}.s(...).delay(), or call the task."
            )

    @property
    def task(self) -> str:
        """The task's name."""
        return self._target.name

    @property
    def target(self) -> Sendable[R_co]:
        """The task itself."""
        return self._target

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult[R_co]:
        """Send it, with further arguments if it takes them."""
        return self.apply_async(args, kwargs)

    async def adelay(self, *args: Any, **kwargs: Any) -> AsyncResult[R_co]:
        """`delay` for coroutines."""
        return await self.aapply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R_co]:
        """Send it, with further arguments if it takes them, and options over its own."""
        full = self.clone(args, kwargs, **options)
        return self._target.apply_async(full.args, full.kwargs, **full.options)

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R_co]:
        """`apply_async` for coroutines."""
        full = self.clone(args, kwargs, **options)
        return await self._target.aapply_async(full.args, full.kwargs, **full.options)

    def clone(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Signature[R_co]:
        """A new signature: this one with further arguments and options."""
        if self.immutable:
            args, kwargs = None, None
        return Signature(
            self._target,
            (*(args or ()), *self.args),
            {**self.kwargs, **(kwargs or {})},
            {**self.options, **options},
            immutable=self.immutable,
        )

    def set(self, **options: Any) -> Signature[R_co]:
        """Change its options, in place as in Celery, and return it. `clone` makes a new one."""
        self.options = MappingProxyType({**self.options, **options})
        return self

    def as_dict(self) -> dict[str, Any]:
        """It as Celery's dictionary form, for JSON. `Acked.signature` makes it from that again."""
        return {
            "task": self.task,
            "args": list(self.args),
            "kwargs": dict(self.kwargs),
            "options": dict(self.options),
            "immutable": self.immutable,
        }

    def __or__(self, other: object) -> Never:
        raise TypeError(
            "signatures cannot be chained yet: let the first task send the second when it is done."
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # its arguments may be lists

    def __repr__(self) -> str:
        shown = [repr(each) for each in self.args]
        shown += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.task}({', '.join(shown)})"
