"""Running a task by hand: JSON that somebody typed, checked against the task's signature.

Who runs a task again with other arguments sees the old ones redacted. Where he leaves a value as it
was shown, the real one is sent; he need not know it, and does not get to.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

from acked.arguments import Arguments
from acked.errors import AckedError
from acked.redaction import MASK

LONGEST = 1_000_000
"""Characters of one field that are read."""


class WrongInput(AckedError):
    """What was typed is no call of the task. The text says why."""


def parse(text: str, name: str, kind: type[list[Any] | dict[str, Any]]) -> Any:
    """The JSON array or object in *text*.

    Raises:
        WrongInput: It is neither, or says a key twice.
    """
    if len(text) > LONGEST:
        raise WrongInput(f"{name}: more than {LONGEST} characters.")
    try:
        value = json.loads(
            text.strip() or ("[]" if kind is list else "{}"),
            object_pairs_hook=_once, parse_constant=_no_constant,
        )  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise WrongInput(f"{name}: this is not JSON ({error}).") from None
    if not isinstance(value, kind):
        form = '[1, "two"]' if kind is list else '{"name": 1}'
        raise WrongInput(f"{name}: expected a JSON {'array' if kind is list else 'object'}: {form}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def restored(edited: Any, shown: Any, real: Any, place: str = "") -> Any:
    """*edited* with the real value wherever it is still as it was shown.

    Raises:
        WrongInput: A mask stands where it does not tell which secret is meant.
    """
    if type(edited) is type(shown) and edited == shown:
        return real
    if isinstance(edited, dict):
        return {
            key: restored(value, _at(shown, key), _at(real, key), f"{place}[{key!r}]")
            for key, value in edited.items()
        }
    if isinstance(edited, list):
        return [
            restored(value, _at(shown, index), _at(real, index), f"{place}[{index}]")
            for index, value in enumerate(edited)
        ]
    if isinstance(edited, str) and MASK in edited:
        raise WrongInput(
            f"{place or 'the value'}: {MASK} stands for a secret that is not shown. Leave it where "
            "it was and as it was, or type the value."
        )
    return edited


class _Nothing:
    """What is at a place that is not there: equal to no JSON value."""


def _at(container: Any, key: Any) -> Any:
    if isinstance(container, dict):
        return container.get(key, _Nothing)
    if isinstance(container, list) and isinstance(key, int) and key < len(container):
        return container[key]
    return _Nothing


def blank_call(arguments: Arguments) -> dict[str, Any]:
    """Keyword arguments to begin with: those that must be given."""
    wanted = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: None
        for name, parameter in arguments.signature.parameters.items()
        if parameter.kind in wanted and parameter.default is inspect.Parameter.empty
    }
