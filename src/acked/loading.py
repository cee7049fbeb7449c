"""Finding an application by what a command line names."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType
from typing import Any

from acked.app import Acked
from acked.errors import ConfigurationError
from acked.project import find_module

LIKELY = ("tasks", "celery", "app")
"""Modules of a package that often hold its application. One that imports the tasks comes first: an
application that is named without them has none."""


def load_app(target: str) -> Acked:
    """The application that *target* names: ``shop:app``, ``shop.tasks:app``, or ``shop``.

    The current directory is searched as well. A module alone stands for its ``app``, or its only
    application; a package also for that of its module ``acked``. Where that of another module may
    be meant, the error names it.

    Raises:
        ConfigurationError: There is no such module or no application in it.
    """
    module_path, colon, path = target.partition(":")
    if not module_path:
        raise ConfigurationError(f"{target!r} names no application. Write module:app.")
    module = find_module(module_path)
    if colon:
        found: Any = module
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, Acked):
            return found
        raise ConfigurationError(f"{module_path} has no application {path!r}. {_hint(module)}")
    apps = _apps_in(module)
    if isinstance(getattr(module, "app", None), Acked):
        return module.app  # type: ignore[no-any-return]  # checked in the line above
    if len(apps) == 1:
        return next(iter(apps.values()))
    if not apps and hasattr(module, "__path__"):
        try:
            return load_app(f"{module_path}.acked")
        except ConfigurationError:
            pass
    raise ConfigurationError(f"{module_path} does not say which application. {_hint(module)}")


def _apps_in(module: ModuleType) -> dict[str, Acked]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Acked)}


def _hint(module: ModuleType) -> str:
    name = module.__name__
    if apps := _apps_in(module):
        return "It has " + ", ".join(f"{name}:{each}" for each in sorted(apps)) + "."
    for each in LIKELY if hasattr(module, "__path__") else ():
        if find_spec(f"{name}.{each}") and (apps := _apps_in(find_module(f"{name}.{each}"))):
            found = "app" if "app" in apps else min(apps)
            return f"It makes none, but {name}.{each} has one: name it, {name}.{each}:{found}."
    return f'It makes none: write `app = Acked("{name.rpartition(".")[2]}")` in it.'
