"""Where an application lives: its directory, its modules' names, and how it is found by name."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from acked.errors import ConfigurationError

MARKERS = ("pyproject.toml", "manage.py", "setup.py", ".git")
"""What makes a directory a project's."""


def project_dir(file: Path) -> Path:
    """The directory of the project that *file* belongs to: its nearest ancestor with one of
    `MARKERS`; else the directory of its outermost package, or its own."""
    for directory in file.parents:
        if any((directory / marker).exists() for marker in MARKERS):
            return directory
    return outermost_package(file) or file.parent


def outermost_package(file: Path) -> Path | None:
    """The directory of the outermost package around *file*, or None for a module on its own."""
    found = None
    for directory in file.parents:
        if not (directory / "__init__.py").exists():
            return found
        found = directory
    return found


def default_broker_url(name: str, file: str | None) -> str:
    """The address of the SQLite file of application *name*, made in *file*.

    Never below the current directory by accident: a worker and a web server started in two
    directories would then have two queues.

    Raises:
        ConfigurationError: There is no file, as in an interactive session, or the name is no
            file's name.
    """
    remedy = f'Say where its tasks are kept: Acked({name!r}, broker="sqlite:////path/to/it.db").'
    if file is None or not Path(file).exists():
        raise ConfigurationError(f"the application {name!r} is made outside of any file. {remedy}")
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigurationError(f"{name!r} cannot be part of a file's name. {remedy}")
    path = project_dir(Path(file).resolve()) / f"{name}.acked.db"
    return f"sqlite:///{quote(str(path))}"


def module_name(function: Any) -> str:
    """The module of *function* as others import it: a script, which Python calls ``__main__``,
    by its file's name, so that ``python shop.py`` and ``acked worker shop`` agree."""
    name: str = function.__module__
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m shop.tasks, or python -m shop
        return str(spec.name).removesuffix(".__main__")
    written = getattr(main, "__file__", None)
    if written is None:
        return name
    file = Path(written).resolve()
    package = outermost_package(file)
    parts = file.relative_to(package.parent).parts if package else (file.name,)
    return ".".join(parts).removesuffix(".py").removesuffix(".__main__")


def find_module(name: str) -> ModuleType:
    """Import module *name*, from the current directory as well.

    Raises:
        ConfigurationError: There is no such module. What goes wrong inside it is raised as it is.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(
            f"{name!r} is not the name of a module: name the application as Python imports it, "
            "module:app, and not as a file."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only where the module itself is missing, not where an import inside it fails.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"no module named {error.name!r}, looked for from {here}. Name the application "
                "as Python imports it, module:app, and start in the directory that holds it."
            ) from None
        raise
