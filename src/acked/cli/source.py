"""Where a command's tasks are: ``-A app``, ``--broker URL``, or the environment."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from acked.app import Acked
from acked.broker import Broker, Engine, Records
from acked.brokers import open_broker
from acked.cli.exits import Exit, Stop
from acked.config import BROKER_URL_VARIABLE
from acked.loading import load_app

APP_VARIABLE = "ACKED_APP"

F = TypeVar("F", bound=Callable[..., Any])


class Source:
    """What the command line said about where the tasks are."""

    def __init__(self) -> None:
        self.app: str | None = None
        self.broker: str | None = None

    def app_target(self, argument: str | None = None) -> str | None:
        """The app by option or by *argument*, else by the environment; None for a bare broker.

        Raises:
            click.UsageError: Two apps are named, or an app and a broker.
        """
        if argument is not None and self.app is not None and argument != self.app:
            raise click.UsageError(f"two apps are given, {self.app} and {argument}: give one")
        given = argument or self.app
        if self.broker is not None:
            if given is not None:
                raise click.UsageError(
                    f"both the app {given} and --broker are given: give one; an app has its broker"
                )
            return None
        return given or os.environ.get(APP_VARIABLE) or None

    @contextlib.contextmanager
    def open(self, argument: str | None = None, *, makes: bool = False) -> Generator[Opened]:
        """The broker, and the app where one was given. Closed at the end of the block.

        What is given beats the environment; an app beats a bare URL.

        Args:
            argument: The app, where the command takes it as an argument.
            makes: What an app's broker lacks is made: the command has a use before the first task.

        Raises:
            click.UsageError: Nothing says where the tasks are, or two things do.
            Stop: There is no such SQLite file.
        """
        target = self.app_target(argument)
        if target is not None:
            app = loaded(target)
            try:
                if not makes:
                    with contextlib.closing(app.unprepared_broker()) as unprepared:
                        _check_file(unprepared)
                yield Opened(app.broker, _records(app.broker), app)
            finally:
                app.close()
            return
        broker = open_broker(self._url())
        _check_file(broker)
        try:
            yield Opened(broker, _records(broker), None)
        finally:
            broker.close()

    @contextlib.contextmanager
    def open_unprepared(self, argument: str | None = None) -> Generator[Broker]:
        """The broker as it is before `Broker.setup`. Closed at the end of the block.

        Raises:
            click.UsageError: As `open`.
        """
        target = self.app_target(argument)
        broker = open_broker(self._url()) if target is None else loaded(target).unprepared_broker()
        try:
            yield broker
        finally:
            broker.close()

    def _url(self) -> str:
        url = self.broker or os.environ.get(BROKER_URL_VARIABLE)
        if not url:
            raise click.UsageError(
                f"no app and no broker given: use -A shop:app, {APP_VARIABLE}=shop:app, "
                "or --broker sqlite:////path/shop.acked.db"
            )
        return url


def app_first(source: Source | None, args: list[str]) -> list[str]:
    """*args* of a command that takes ids or names, its app by option: ``shop:app ID`` means
    ``-A shop:app ID`` where nothing else says where the tasks are. An id may hold a colon, too."""
    said = any(each.startswith(("-A", "--app", "-b", "--broker")) for each in args)
    said |= source is not None and (source.app is not None or source.broker is not None)
    said |= any(os.environ.get(name) for name in (APP_VARIABLE, BROKER_URL_VARIABLE))
    if said or not args or args[0].startswith("-") or ":" not in args[0]:
        return args
    return ["-A", *args]


class Opened(NamedTuple):
    """An open broker under both of its interfaces, and the app if one was named."""

    broker: Broker
    records: Records
    app: Acked | None


def loaded(target: str) -> Acked:
    """The app that *target* names. What its modules print while they are imported goes to
    standard error, so that it does not mix with the command's own output."""
    with contextlib.redirect_stdout(sys.stderr):
        return load_app(target)


def _check_file(broker: Engine) -> None:
    """Refuse a SQLite file that is not there: opening would make it, and a slip in its path would
    look like an empty queue."""
    path = broker.records_url.removeprefix("sqlite:///")
    if path != broker.records_url and not Path(path).exists():
        raise Stop(
            f"there is no file {path}: correct the URL, unless nothing was sent there yet",
            Exit.UNAVAILABLE,
        )


def _records(broker: Broker) -> Records:
    if not isinstance(broker, Records):
        raise Stop(f"{broker.url} keeps no records: give the app that says where", Exit.USAGE)
    if not broker.capabilities.shared:
        raise Stop(
            f"the tasks of {broker.records_url} live inside one process and cannot be seen from "
            "here: use a broker that processes share, such as sqlite:////path/tasks.db",
            Exit.USAGE,
        )
    return broker


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        setattr(context.ensure_object(Source), str(parameter.name), value)


def app_option(command: F) -> F:
    """Add ``-A/--app``; its value is kept in the context's `Source`."""
    return click.option(
        "-A", "--app", metavar="MODULE:APP", callback=_remember, expose_value=False,
        help=f"The app, as in shop:app or shop.tasks:app. Default: {APP_VARIABLE}.",
    )(command)  # fmt: skip


def source_options(command: F) -> F:
    """Add ``-A/--app`` and ``-b/--broker``; their values are kept in the context's `Source`."""
    with_broker = click.option(
        "-b", "--broker", metavar="URL", callback=_remember, expose_value=False,
        help="A broker without its app, as in sqlite:////srv/shop.acked.db. "
        f"Default: {BROKER_URL_VARIABLE}, where no app is given.",
    )(command)  # fmt: skip
    return app_option(with_broker)


target_argument = click.argument("target", required=False, metavar="[MODULE:APP]")

json_option = click.option("--json", "as_json", is_flag=True, help="JSON for scripts.")


def split_names(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """The names of an option that is repeatable and takes several, between commas."""
    names = [name.strip() for part in value for name in part.split(",")]
    return tuple(dict.fromkeys(name for name in names if name))


_UNASKED = "Do not ask. Scripts need it: without a terminal, nothing is done otherwise."

yes_option = click.option("-y", "--yes", is_flag=True, help=_UNASKED)

yes_or_force_option = click.option("-y", "--yes", "-f", "--force", is_flag=True, help=_UNASKED)
"""With Celery's name for it as well."""
