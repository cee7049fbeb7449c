"""What ``@app.task`` is: its types, what it and the sending of tasks take, and when two functions
are one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from acked.errors import ConfigurationError, NotSendable, UnknownTask
from acked.message import MAX_NAME_LENGTH
from acked.signatures import Signature
from acked.task import AsyncTask, Task

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """``@app.task(...)``."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BoundDecorator(Protocol):
    """``@app.task(bind=True, ...)``: the function's first parameter is the task."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


def elsewhere(*args: Any, **kwargs: Any) -> Any:
    """Stands for the function of a task that this process does not have."""
    del args, kwargs
    raise UnknownTask("this task is not registered in this process: import the module it is in")


def check_function(function: object, *, bind: bool) -> None:
    """Whether *function* can be a task.

    Raises:
        ConfigurationError: It cannot; says why.
    """
    if not callable(function) or isinstance(function, type | Task | Signature):
        raise ConfigurationError(
            f"a task is made from a function, got {function!r}. Options are keywords: "
            "@app.task(queue=...)."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"{place_of(function)} is a generator: a task runs to its end and returns one value. "
            "Use self.progress() or self.save() for what it has to say on the way."
        )
    if bind and not inspect.signature(function).parameters:
        raise ConfigurationError(
            f"{place_of(function)} has bind=True and no first parameter. Write "
            f"def {_name(function)}(self), or leave bind out."
        )


def check_base(base: object) -> None:
    """Whether *base* can be the class of a task; None is `Task` itself.

    Raises:
        ConfigurationError: It cannot.
    """
    if base is not None and not (isinstance(base, type) and issubclass(base, Task)):
        raise ConfigurationError(f"base must be a subclass of acked.Task, got {base!r}.")


def check_name(name: object) -> str:
    """*name* as that of a task that is to be sent.

    Raises:
        NotSendable: It is none.
    """
    if not isinstance(name, str):
        raise NotSendable(
            f"a task is sent by its name, a str, got {name!r}. "
            "A task itself has apply_async() and s()."
        )
    if len(name) > MAX_NAME_LENGTH or name != name.encode(errors="replace").decode():
        raise NotSendable(
            f"a task's name is text of at most {MAX_NAME_LENGTH} characters, got {name!r:.100}."
        )
    return name


def check_signature(call: object) -> Signature[Any]:
    """*call* as one of several that are to be sent.

    Raises:
        NotSendable: It is none.
    """
    if isinstance(call, Signature):
        return call
    raise NotSendable(f"send_many() takes signatures, got {call!r}. task.s(...) makes one.")


def _name(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))


def place_of(function: Any) -> str:
    """Where *function* is written, for people."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return repr(function)
    return f"{_name(function)} ({code.co_filename}:{code.co_firstlineno})"


def same_function(known: Any, function: Any) -> bool:
    """Whether *function* is *known* defined once more: its module was reloaded, or its cell in an
    interactive session run again."""
    if known is function:
        return True
    if "<locals>" in _name(function) or _name(known) != _name(function):
        return False
    if known.__module__ != function.__module__:
        return False
    if function.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        return True
    return place_of(known) == place_of(function)
