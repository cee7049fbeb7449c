"""Templates to responses."""

from __future__ import annotations

import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from acked.dashboard import words
from acked.delivery import State
from acked.escaping import indented, one_line

REFRESH = 3
"""Seconds between two looks of a page that is open."""

NAVIGATION = (
    ("/", "Overview", "o"),
    ("/tasks", "Tasks", "t"),
    ("/failures", "Failures", "f"),
    ("/dead", "Dead letters", "d"),
    ("/waiting", "Scheduled", "s"),
    ("/queues", "Queues", "q"),
    ("/workers", "Workers", "w"),
    ("/registered", "Registered", "r"),
    ("/audit", "Audit", "a"),
)
"""The pages: path, name, and the key that follows ``g``."""


def environment() -> Environment:
    """What renders the pages. Everything is escaped but the templates' own markup."""
    made = Environment(
        loader=PackageLoader("acked.dashboard"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    filters: dict[str, Any] = {
        "number": words.number,
        "size": words.size,
        "span": words.span,
        "relative": words.relative,
        "iso": words.iso,
        "clock": words.clock,
        "data": words.data,
        "counted": words.counted,
        "line": one_line,
        # Escapes what would steer a browser's text direction, and keeps the lines.
        "block": lambda text: indented(text, ""),
        "short_id": short_id,
        "kind": kind_of,
        "key": key_of,
    }
    made.filters.update(filters)
    shared: dict[str, Any] = {
        "navigation": NAVIGATION, "states": [state.value for state in State]
    }  # fmt: skip
    made.globals.update(shared)
    return made


def short_id(task_id: str) -> str:
    """The end of an id, which tells tasks apart; their beginning is the time."""
    return task_id if len(task_id) <= 16 else f"…{task_id[-12:]}"


def kind_of(state: str) -> str:
    """A state as a class of the style sheet."""
    return state.lower() if state in State.__members__ else "unknown"


def key_of(name: str) -> str:
    """An id for an element, out of any text."""
    return hashlib.sha256(name.encode(errors="replace")).hexdigest()[:16]


class Pages:
    """Renders pages by name."""

    def __init__(self) -> None:
        self._environment = environment()

    def response(self, name: str, status: int = 200, **context: Any) -> HTMLResponse:
        """The page *name*."""
        template = self._environment.get_template(f"{name}.html")
        return HTMLResponse(template.render(**context), status_code=status)
