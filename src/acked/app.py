"""`Acked`: an application, with its settings, its tasks and its broker."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Never,
    ParamSpec,
    TypeVar,
    Unpack,
    overload,
)

from acked import eager, signals
from acked.broker import Engine, Transactional
from acked.brokers import open_broker
from acked.clock import Clock, SystemClock
from acked.config import BROKER_URL_VARIABLE, SET_ONCE, Settings, make_settings
from acked.errors import BrokerError, ConfigurationError, NotSendable
from acked.instead import OF_AN_APPLICATION, missing
from acked.message import Message
from acked.options import GivenOptions
from acked.project import default_broker_url, module_name
from acked.publisher import Publisher
from acked.registration import (
    BoundDecorator,
    Decorator,
    check_base,
    check_function,
    check_name,
    check_signature,
    elsewhere,
    place_of,
    same_function,
)
from acked.request import current
from acked.result import AsyncResult as Result
from acked.sending import AT_ONCE, announce, as_celery_tells, named, publish_in_parts
from acked.shield import shielded
from acked.signatures import Signature
from acked.task import AsyncTask, Task

logger = logging.getLogger("acked.app")

_HOST = SystemClock()

P = ParamSpec("P")
R = TypeVar("R")


class Acked:
    """An application.

    Args:
        name: Names it, and its SQLite file.
        broker: Where its tasks are kept: an address (``sqlite:///relative.db``,
            ``sqlite:////absolute.db``, ``memory://``) or a broker. Left out, the environment's
            ``ACKED_BROKER_URL`` says; else it is ``<name>.acked.db`` in the project's directory:
            the nearest one above the calling file that holds a pyproject.toml, manage.py,
            setup.py or .git.
        clock: Where it reads the time; for tests.
        settings: Those of `Settings`.

    Raises:
        ConfigurationError: A setting is not known or cannot work, or there is no place for the
            SQLite file.

    Attributes:
        tasks: Its tasks by name.
    """

    def __init__(
        self,
        name: str,
        *,
        broker: str | Engine | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.name = name
        self._clock = clock
        self.tasks: dict[str, Task[..., Any]] = {}
        self._broker = broker if not isinstance(broker, str) else None
        self._given_broker = self._broker
        self._publisher: Publisher | None = None
        self._opening = threading.Lock()
        self._warned = False
        url = self._broker.address if self._broker is not None else broker
        if url is not None and settings.get("broker_url", url) != url:
            raise ConfigurationError("broker= and broker_url= say different things. Keep broker=.")
        if url is None and not settings.get("broker_url"):
            frame = inspect.currentframe()
            caller = frame.f_back.f_globals if frame and frame.f_back else {}
            url = os.environ.get(BROKER_URL_VARIABLE) or default_broker_url(
                name, caller.get("__file__")
            )
        if url is not None:
            settings["broker_url"] = url
        self.settings = make_settings(settings)

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name: str) -> Never:
            raise missing("an application", self, name, OF_AN_APPLICATION)

    @property
    def conf(self) -> Settings:
        """Celery's name for `settings`."""
        return self.settings

    def configure(self, **settings: Any) -> None:
        """Change settings. Those that are defaults of tasks count for tasks defined afterwards;
        the broker's are set once, when the application is made."""
        if fixed := SET_ONCE & settings.keys():
            raise ConfigurationError(f"{min(fixed)} is set once: Acked({self.name!r}, broker=...).")
        self.settings = make_settings(settings, base=self.settings)

    # -- tasks -------------------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        bind: Literal[True],
        name: str | None = None,
        base: type[Task[..., Any]] | None = None,
        **options: Unpack[GivenOptions],
    ) -> BoundDecorator: ...
    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        bind: Literal[False] = False,
        name: str | None = None,
        base: type[Task[..., Any]] | None = None,
        **options: Unpack[GivenOptions],
    ) -> Decorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        bind: bool = False,
        name: str | None = None,
        base: type[Task[..., Any]] | None = None,
        **options: Any,
    ) -> Any:
        """Make a function a task: ``@app.task`` or ``@app.task(bind=True, max_retries=None)``.

        Args:
            bind: The function's first parameter is the task itself, usually called ``self``.
            name: What it is called in messages; ``module.function`` if left out.
            base: A subclass of `Task` with hooks or defaults.
            options: Those of `TaskOptions`.

        Raises:
            ConfigurationError: An option is not known or cannot work, the name is taken, or the
                function cannot be a task.
        """
        if function is None:
            return lambda given: self._register(given, bind, name, base, options)
        return self._register(function, bind, name, base, options)

    def _register(
        self, function: Callable[..., Any], bind: bool, name: str | None,
        base: type[Task[..., Any]] | None, options: Mapping[str, Any],
    ) -> Task[..., Any]:  # fmt: skip
        check_function(function, bind=bind)
        check_base(base)
        if name is None:
            name = f"{module_name(function)}.{function.__name__}"
        kind = base or (AsyncTask if inspect.iscoroutinefunction(function) else Task)
        known = self.tasks.get(name)
        if known is not None and not same_function(known.function, function):
            raise ConfigurationError(
                f"two functions are registered as {name!r}: {place_of(known.function)} and "
                f"{place_of(function)}. Give one of them another name: @app.task(name=...)."
            )
        task = kind(self, function, name=name, bind=bind, options=options)
        self.tasks[name] = task
        return task

    def _named(self, name: str) -> Task[..., Any]:
        """The task of that name; one that is registered elsewhere takes any arguments."""
        return self.tasks.get(check_name(name)) or Task(self, elsewhere, name=name)

    # -- sending -----------------------------------------------------------------------------------

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result[Any]:
        """Send a call of a task by name, whether or not it is registered in this process."""
        return self._named(name).apply_async(args, kwargs, **options)

    async def asend_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result[Any]:
        """`send_task` for coroutines."""
        return await self._named(name).aapply_async(args, kwargs, **options)

    def signature(
        self,
        task: str | Mapping[str, Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **options: Any,
    ) -> Signature[Any]:
        """A signature by the task's name, or made again from `Signature.as_dict`."""
        if not isinstance(task, Mapping):
            return Signature(self._named(task), args, kwargs, options, immutable=immutable)
        return Signature(
            self._named(task["task"]), task.get("args", ()), task.get("kwargs"),
            task.get("options"), immutable=task.get("immutable", False),
        )  # fmt: skip

    def send_many(
        self, signatures: Iterable[Signature[R]], *, using: object = None
    ) -> list[Result[R]]:
        """Send calls of any tasks, up to 5,000 of them in one durable write.

        All are checked before the first is stored. What a failure leaves: see `Task.delay_many`.

        Args:
            signatures: The calls.
            using: Your own connection, to send them all with the commit of the transaction that is
                open on it. See `Task.apply_async`.
        """
        made = [
            (task := self._named(each.task), task.message(each.args, each.kwargs, each.options))
            for each in map(check_signature, signatures)
        ]
        if self.settings.task_always_eager:
            return [self.run_eagerly(task, message) for task, message in made]
        messages = [message for _, message in made]
        parts = (messages[at : at + AT_ONCE] for at in range(0, len(messages), AT_ONCE))
        publish_in_parts(self, parts, using=using)
        return [task.AsyncResult(message.id) for task, message in made]

    async def asend_many(self, signatures: Iterable[Signature[R]]) -> list[Result[R]]:
        """`send_many` for coroutines. A transaction (``using``) is not for them."""
        return await asyncio.to_thread(self.send_many, list(signatures))

    def AsyncResult(self, task_id: str) -> Result[Any]:  # noqa: N802 - Celery's name
        """The result of a task that was sent before, by its id."""
        return Result(task_id, self)

    def load_result(self, task: str, value: Any) -> Any:
        """A decoded return value of the task of that name as its annotation says."""
        known = self.tasks.get(task)
        return value if known is None else known.arguments.load_result(value)

    def publish(self, messages: Sequence[Message], *, using: object = None) -> None:
        """Store *messages*: all or none, durable when it returns; or, with a connection in
        *using*, inside the transaction that is open on it.

        Raises:
            NotSendable: The broker cannot do that on that connection.
            BrokerError: They are not stored, or may not be: the text says which, and names them.
        """
        if signals.before_task_publish.receivers or signals.after_task_publish.receivers:
            messages = [announce(message) for message in messages]
        try:
            if using is None:
                self.publisher.send(messages)
            else:
                self._send_within(using, messages)
        except BrokerError as error:
            raise error.about(named(messages), (each.id for each in messages)) from error
        if signals.after_task_publish.receivers:
            for message in messages:
                signals.after_task_publish.send(message.task, **as_celery_tells(message))

    def _send_within(self, connection: object, messages: Sequence[Message]) -> None:
        broker = self.broker
        if not isinstance(broker, Transactional) or not broker.capabilities.transactional:
            raise NotSendable(
                f"using= sends inside a transaction of a PostgreSQL database that is the broker "
                f"as well; {broker.url} is none. Leave it out and send after your commit."
            )
        with shielded():
            broker.send_within(connection, messages)

    async def apublish(self, messages: Sequence[Message]) -> None:
        """`publish` for coroutines."""
        if signals.before_task_publish.receivers or signals.after_task_publish.receivers:
            messages = [announce(message) for message in messages]
        try:
            await self.publisher.asend(messages)
        except BrokerError as error:
            raise error.about(named(messages), (each.id for each in messages)) from error
        if signals.after_task_publish.receivers:
            for message in messages:
                signals.after_task_publish.send(message.task, **as_celery_tells(message))

    def run_eagerly(self, task: Task[..., Any], message: Message) -> Result[Any]:
        """Run *message* here and now."""
        result = eager.run(self, task, message)
        if self.settings.task_eager_propagates:
            result.get(disable_sync_subtasks=False)
        return result

    # -- the broker --------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """What its times are read from: the broker's once that is open, so that a countdown is
        counted by the broker's clock."""
        if self._clock is not None:
            return self._clock
        return _HOST if self._broker is None else self._broker.clock

    @property
    def is_open(self) -> bool:
        """Whether its broker is open."""
        return self._broker is not None

    def open(self) -> None:
        """Open the broker now, and not with the first task: at the start of a web server, say.

        Raises:
            BrokerError: It cannot be reached, or refuses.
            ConfigurationError: It cannot work as it is set up.
        """
        assert self.broker is not None

    @property
    def broker_url(self) -> str:
        """Where its tasks are kept."""
        return self.settings.broker_url

    @property
    def broker(self) -> Engine:
        """Its broker, opened and set up at first use."""
        if self._broker is None:
            with self._opening:
                if self._broker is None:
                    broker = self.unprepared_broker()
                    try:
                        broker.setup()
                    except BrokerError as error:
                        error.nothing_stored = True
                        raise
                    self._broker = broker
        return self._broker

    def unprepared_broker(self) -> Engine:
        """Its broker without `Broker.setup`, for what must be done before that: migrations. The
        caller closes it."""
        if self._given_broker is not None:
            return self._given_broker
        return open_broker(
            self.broker_url, results=self.settings.results, clock=self._clock,
            timeout=self.settings.send_timeout,
        )  # fmt: skip

    @property
    def records(self) -> Engine:
        """Where tasks are looked up and operated on."""
        return self.broker

    @property
    def publisher(self) -> Publisher:
        """What gathers the sends of many threads and coroutines."""
        if self._publisher is None:
            broker = self.broker
            with self._opening:
                if self._publisher is None:
                    self._warn_of_the_way(broker)
                    self._publisher = Publisher(broker)
        return self._publisher

    def _warn_of_the_way(self, broker: Engine) -> None:
        """Once for each program that sends: what others could read on the way. A task that sends
        is in a worker, which has said it at its start."""
        if self._warned or current.get().sender is not None:
            return
        self._warned = True
        for each in broker.connection_conditions():
            if each.level == "warn":
                logger.warning("%s: %s. %s", broker.url, each.text.rstrip("."), each.remedy)

    def close(self) -> None:
        """Let go of the broker; it is opened again at the next use."""
        with self._opening:
            publisher, self._publisher = self._publisher, None
            broker, self._broker = self._broker, self._given_broker
        if publisher is not None:
            publisher.close()
        if broker is not None:
            broker.close()

    def __repr__(self) -> str:
        return f"<Acked: {self.name}>"
