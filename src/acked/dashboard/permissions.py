"""What may be done in the dashboard, and which role may do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from acked.errors import ConfigurationError


class Action(StrEnum):
    """What a visitor may be allowed to do. Everything but `VIEW` changes something."""

    VIEW = "view"
    RETRY = "retry"
    CANCEL = "cancel"  # Revoke a task, and stop it where it runs.
    DISCARD = "discard"  # Delete finished or waiting tasks.
    PAUSE = "pause"  # Pause and resume a queue.
    PURGE = "purge"  # Delete every waiting task of a queue.
    SEND = "send"  # Run a task by hand, or again with other arguments.


ROLES: Mapping[str, frozenset[Action]] = {
    "viewer": frozenset({Action.VIEW}),
    "operator": frozenset(Action),
}
"""The roles there are without any being made."""

Rights = str | Iterable[str]
"""A role by its name, or the actions one by one."""


def actions_of(rights: Rights, *, whose: str) -> frozenset[Action]:
    """The actions that *rights* stand for; seeing is part of every one.

    Args:
        whose: The user they are for, for the error.

    Raises:
        ConfigurationError: There is no such role or action.
    """
    if isinstance(rights, str):
        if rights in ROLES:
            return ROLES[rights]
        raise ConfigurationError(
            f"the role {rights!r} of {whose!r} is not known: it is one of {', '.join(ROLES)}, or a "
            f"list of actions out of {', '.join(Action)}."
        )
    try:
        return frozenset({Action.VIEW, *(Action(each) for each in rights)})
    except ValueError as error:
        raise ConfigurationError(
            f"the rights of {whose!r} are wrong ({error}): actions are {', '.join(Action)}."
        ) from None
