"""`Task`: what ``@app.task`` makes of a function. Names and meanings are Celery's."""

from __future__ import annotations

import asyncio
import difflib
import inspect
import types
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Never, ParamSpec, TypeVar, cast

import msgspec

from acked import exact
from acked import message as messages
from acked.arguments import Arguments
from acked.calling import call_options
from acked.errors import (
    BrokerError,
    MaxRetriesExceededError,
    NotSendable,
    SoftTimeLimitExceeded,
)
from acked.instead import OF_A_TASK, missing
from acked.message import Message
from acked.options import (
    MEANINGLESS_OPTIONS,
    OPTION_NAMES,
    TaskOptions,
    policy_of,
    task_options,
    with_overrides,
)
from acked.outcome import TaskPolicy
from acked.rate import Rate
from acked.request import Request, current
from acked.result import AsyncResult as Result
from acked.running import RunningTask
from acked.sending import AT_ONCE, Application, make_messages, publish_in_parts
from acked.signatures import Signature

P = ParamSpec("P")
R = TypeVar("R")

HOOKS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")

_NOTHING: Mapping[str, Any] = {}
_UNSET = msgspec.UNSET


class Task(RunningTask, Generic[P, R]):
    """A function that can be sent.

    Subclass it for hooks and defaults of your own, and name the class in ``@app.task(base=...)``:
    its class attributes that are named like options are the defaults of its tasks.

    Attributes:
        name: Registered name.
        app: The application it belongs to.
        run: The function, with the task bound to it where ``bind=True``.
        is_async: The function is an ``async def``.
        options: What the decorator was given; each is also an attribute, by Celery's name.
        policy: What follows from the options when an attempt ends.
    """

    name: str
    app: Application
    bind: bool
    function: Callable[..., Any]
    run: Callable[..., Any]
    is_async: bool
    has_hooks: bool
    options: TaskOptions
    policy: TaskPolicy
    rate: Rate | None
    arguments: Arguments

    acks_late: bool
    reject_on_worker_lost: bool
    max_losses: int
    autoretry_for: tuple[type[BaseException], ...]
    dont_autoretry_for: tuple[type[BaseException], ...]
    throws: tuple[type[BaseException], ...]
    max_retries: int | None
    default_retry_delay: float
    retry_backoff: bool | float
    retry_backoff_max: float
    retry_jitter: bool | float
    retry_for: float | None
    retry_for_result: Callable[[Any], bool] | None
    soft_time_limit: float | None
    time_limit: float | None
    ignore_result: bool
    queue: str | None
    priority: int
    expires: float | None
    rate_limit: str | float | None
    track_started: bool

    def __init__(
        self, app: Application, function: Callable[..., Any], *, name: str, bind: bool = False,
        options: Mapping[str, Any] = _NOTHING,
    ) -> None:  # fmt: skip
        checked = task_options(name, options, app.settings, inherited=self._class_options())
        kind = type(self)
        decided = msgspec.structs.asdict(checked) | {
            "name": name,
            "app": app,
            "bind": bind,
            "function": function,
            "run": types.MethodType(function, self) if bind else function,
            "is_async": inspect.iscoroutinefunction(function),
            "options": checked,
            "policy": policy_of(checked),
            "rate": Rate.parse(checked.rate_limit),
            "arguments": Arguments(name, function, bound=bind),
        }
        # Past __setattr__, which keeps what is decided here as it is.
        vars(self).update(decided, _decided=frozenset(decided))
        self._calls_itself = kind.__call__ not in (Task.__call__, AsyncTask.__call__)
        self.has_hooks = any(getattr(kind, hook) is not getattr(Task, hook) for hook in HOOKS)
        self.__name__ = getattr(function, "__name__", name)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    @classmethod
    def _class_options(cls) -> list[dict[str, Any]]:
        """Options that each subclass sets as class attributes, the most derived last."""
        levels: list[dict[str, Any]] = []
        for kind in reversed(cls.__mro__):
            if not issubclass(kind, Task) or kind.__module__ == __name__:
                continue
            levels.append(found := {})
            for name, value in vars(kind).items():
                if name in OPTION_NAMES or name in MEANINGLESS_OPTIONS:
                    found[name] = value
                elif not name.startswith("_") and not hasattr(Task, name):
                    _warn_if_misspelt(kind, name)
        return levels

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self).get("_decided", ()):
            raise AttributeError(
                f"{self.name}.{name} is set by @app.task and shared by every run. For one call "
                f"use apply_async(...), for one run keep it in a local variable or self.save()."
            )
        super().__setattr__(name, value)
        if name in HOOKS:
            super().__setattr__("has_hooks", True)

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name: str) -> Never:
            raise missing("a task", self, name, OF_A_TASK)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now, as a function: no message, no retry."""
        outer = current.get()
        if outer.entering and outer.task == self.name:
            # A subclass overrides __call__ and came here with super(): this is the run itself.
            outer.entering = False
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]  # typed by P and R
        direct = Request(sender=outer.sender)
        if self.is_async:
            return _awaited_as(direct, self.run(*args, **kwargs))  # type: ignore[return-value]  # AsyncTask types it
        token = current.set(direct)
        try:
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]  # typed by P and R
        finally:
            current.reset(token)

    # -- sending -----------------------------------------------------------------------------------

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send a call. It is durable when this returns.

        Raises:
            NotSendable: The arguments do not fit the function, or would not arrive as they are.
            BrokerError: It is not stored, or may not be: the text says which, and names its id.
        """
        return self._send(args, kwargs, _NOTHING)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result[R]:
        """`delay` with options.

        Args:
            args, kwargs: Arguments of the task.
            options: ``countdown`` (seconds), ``eta`` (datetime with a time zone; wins over
                countdown), ``expires`` (seconds or datetime), ``queue``, ``priority`` (larger runs
                sooner), ``task_id``, ``max_retries``, ``soft_time_limit``, ``time_limit``
                (seconds; 0 switches it off), ``ignore_result``, ``headers``. None inherits.
                ``using`` is a connection of yours to the broker's own PostgreSQL database, one of
                psycopg's or what wraps it (``django.db.connection``): the task is sent with the
                commit of the transaction that is open there, and never if that is rolled back.

        Raises:
            NotSendable: As `delay`; or an option is not known or cannot work.
            BrokerError: It is not stored, or may not be: the text says which, and names its id.
        """
        return self._send(args, kwargs, options)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """`delay` for coroutines: many that send at once share one durable write."""
        return await self._asend(args, kwargs, _NOTHING)

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result[R]:
        """`apply_async` for coroutines."""
        return await self._asend(args, kwargs, options)

    def delay_many(self, calls: Iterable[Sequence[Any]], **options: Any) -> list[Result[R]]:
        """Send many calls: ``resize.delay_many([(1,), (2,)])``. Celery's ``group(...)()``, without
        the group.

        Up to 5,000 of them are one durable write, so this is many times as fast as a loop over
        `delay`. All are checked before the first is stored. For keyword arguments, or calls that
        type checkers check, use ``app.send_many(resize.si(n) for n in ...)``.

        Args:
            calls: The positional arguments of each call.
            options: Those of `apply_async`, for all of them.

        Raises:
            NotSendable: One of them cannot be sent; nothing is stored.
            BrokerError: All or none of up to 5,000 calls are stored, and of more those whose ids
                are in its `stored_ids`, perhaps also those in `unsure_ids`. These are the first
                calls, in order; what comes after them was not sent.
        """
        if "task_id" in options:
            raise NotSendable(f"cannot send {self.name}: many calls cannot share one task_id.")
        using = options.pop("using", None)
        dump, limit = self.arguments.dump, self.app.settings.max_message_size
        pairs = [dump(args, _NOTHING, limit=limit) for args in calls]
        if self.app.settings.task_always_eager:
            return [self.app.run_eagerly(self, each) for each in self._messages(pairs, options)]
        parts = (
            self._messages(pairs[start : start + AT_ONCE], options)
            for start in range(0, len(pairs), AT_ONCE)
        )
        return [self._result(each) for each in publish_in_parts(self.app, parts, using=using)]

    async def adelay_many(self, calls: Iterable[Sequence[Any]], **options: Any) -> list[Result[R]]:
        """`delay_many` for coroutines. A transaction (``using``) is not for them."""
        if options.get("using") is not None:
            raise NotSendable(
                f"cannot send {self.name}: a transaction is one thread's, and coroutines send in "
                "another. Call delay_many(..., using=...) where the transaction is."
            )
        return await asyncio.to_thread(self.delay_many, calls, **options)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        throw: bool = False,
        **options: Any,
    ) -> Result[R]:
        """Run the task here and now, retries and all, without waiting between them.

        Hooks and signals fire as in a worker; time limits do not apply.

        Args:
            args, kwargs: Arguments of the task.
            throw: Raise what it ended with.
            options: Those of `apply_async`.

        Returns:
            An `EagerResult`.
        """
        result = self.app.run_eagerly(self, self.message(args, kwargs, options))
        if throw:
            result.get(disable_sync_subtasks=False)
        return result

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """A signature; it may lack arguments that are added when it is sent."""
        return Signature(self, args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """A complete signature: it takes no further arguments."""
        return Signature(self, args, kwargs, immutable=True)

    def signature(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **options: Any,
    ) -> Signature[R]:
        """A signature with the options of `apply_async`."""
        return Signature(self, args or (), kwargs, options, immutable=immutable)

    def AsyncResult(self, task_id: str) -> Result[R]:  # noqa: N802 - Celery's name
        """The result of a call of this task that was sent before, by its id."""
        return self._result(task_id)

    def _send(
        self,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> Result[R]:
        using = None
        if "using" in options:
            options = dict(options)
            using = options.pop("using")
        if self.app.settings.task_always_eager:
            return self.app.run_eagerly(self, self.message(args, kwargs, options))
        if not self.app.is_open:
            self._open(options)
        message = self.message(args, kwargs, options)
        self.app.publish([message], using=using)
        return self._result(message.id)

    async def _asend(
        self,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> Result[R]:
        if self.app.settings.task_always_eager:
            message = self.message(args, kwargs, options)
            return await asyncio.to_thread(self.app.run_eagerly, self, message)
        if not self.app.is_open:
            await asyncio.to_thread(self._open, options)
        message = self.message(args, kwargs, options)
        await self.app.apublish([message])
        return self._result(message.id)

    def _open(self, options: Mapping[str, Any]) -> None:
        """Open the broker, whose clock the message of a call with *options* is made by."""
        try:
            self.app.open()
        except BrokerError as error:
            task_id = options.get("task_id")
            raise error.about(f"{self.name}[{task_id}]" if task_id else self.name) from error

    def _result(self, task_id: str) -> Result[R]:
        return Result(task_id, self.app, self.name)

    def message(
        self,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> Message:
        """The message of one call, checked and not sent."""
        limit = self.app.settings.max_message_size
        args = () if args is None else args
        kwargs = {} if kwargs is None else kwargs
        return self._messages([self.arguments.dump(args, kwargs, limit=limit)], options)[0]

    def _messages(
        self, pairs: Sequence[tuple[bytes, bytes]], options: Mapping[str, Any]
    ) -> list[Message]:
        now = self.app.clock.now()
        fields = call_options(self.name, options, self.policy, now=now) if options else options
        if self.expires is not None and "expires" not in fields:
            fields = {"expires": now + self.expires, **fields}
        queue = self.queue or self.app.settings.task_default_queue
        return make_messages(
            self.name, pairs, queue=queue, priority=self.priority, now=now, fields=fields
        )

    # -- hooks, to be overridden -------------------------------------------------------------------

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """The function is about to be called."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """It returned *retval*."""

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """The task ended as FAILURE."""

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """The attempt ended and another will follow; that one is not scheduled yet."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """The task ended, as *status*; *retval* is what it returned or raised."""

    # -- for the worker ----------------------------------------------------------------------------

    def policy_for(self, message: Message) -> TaskPolicy:
        """`policy` with what *message* says otherwise."""
        if (
            message.max_retries is _UNSET
            and message.soft_time_limit is _UNSET
            and message.time_limit is _UNSET
            and message.ignore_result is _UNSET
        ):
            return self.policy
        return with_overrides(self.policy, message)

    def load_arguments(self, message: Message) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of *message* as the function wants them.

        Raises:
            MessageUnreadable: They cannot be decoded.
            TypeError: They do not fit the function.
            msgspec.ValidationError: One does not fit its annotation.
        """
        return self.arguments.load(*messages.decode_arguments(message))

    def invoke(self, request: Request, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the function for *request*, which the caller has made `current`; the coroutine of
        an ``async def`` task is returned, to be awaited in that same context."""
        if self._calls_itself:
            request.entering = True
            return cast("Callable[..., Any]", self)(*args, **kwargs)
        return self.run(*args, **kwargs)

    def dump_result(self, value: Any) -> bytes:
        """The JSON of a return value.

        Raises:
            NotSendable: Something in it has no JSON form, or it is larger than `max_result_size`.
        """
        limit = self.app.settings.max_result_size
        return exact.dump_text(f"the result of {self.name}", value, limit=limit)

    def wants_retry_for(self, value: Any) -> bool:
        """Whether `retry_for_result` refuses this return value."""
        return self.retry_for_result is not None and bool(self.retry_for_result(value))

    def covers(self, error: BaseException) -> bool:
        """Whether `autoretry_for` covers *error*."""
        if not self.autoretry_for or isinstance(error, self.dont_autoretry_for):
            return False
        if isinstance(error, MaxRetriesExceededError):
            return MaxRetriesExceededError in self.autoretry_for
        if isinstance(error, SoftTimeLimitExceeded):
            # A BaseException here and an Exception in Celery, where (Exception,) covers it.
            return any(issubclass(SoftTimeLimitExceeded, kind) or issubclass(Exception, kind)
                       for kind in self.autoretry_for)  # fmt: skip
        return isinstance(error, self.autoretry_for)

    def expects(self, error: BaseException) -> bool:
        """Whether *error* is one of `throws`: reported without a traceback."""
        return isinstance(error, self.throws)

    def __repr__(self) -> str:
        return f"<Task: {self.name}>"


class AsyncTask(Task[P, R]):
    """A task made of an ``async def``: called directly it gives the coroutine, and its result is
    what that returns."""

    def __call__(  # type: ignore[override]  # an async function's call is its coroutine
        self, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        return super().__call__(*args, **kwargs)  # type: ignore[return-value]  # as above


def _warn_if_misspelt(kind: type, name: str) -> None:
    # It may be an attribute of the user's own, so it is no error.
    if near := difflib.get_close_matches(name, OPTION_NAMES, n=1, cutoff=0.8):
        warnings.warn(
            f"{kind.__name__}.{name} is not an option of a task. Did you mean {near[0]!r}?",
            stacklevel=6,
        )


async def _awaited_as(request: Request, coroutine: Coroutine[Any, Any, R]) -> R:
    """Await *coroutine* as a direct call of its own."""
    token = current.set(request)
    try:
        return await coroutine
    finally:
        current.reset(token)
