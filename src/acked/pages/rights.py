"""Who may see and do what: the token, and what the developer says of its holder."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request

from acked.pages.grants import Action, Grant, ManyGrant, Secrets

logger = logging.getLogger("acked.pages")

Permission = Callable[[Request, str, Action], Awaitable[bool | str]]
"""Whether the sender of the request may do that with the task of that id: True, or his name for the
audit, where he may."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What one token shows to one visitor.

    Args:
        grants: One for each of its tasks, with what he may do; None for one he may not see.
        label: What the page calls several tasks together.
        tokens: For several tasks, the token of each alone.
        names: Who the visitor is, where `Permission` says so.
    """

    grants: tuple[Grant | None, ...]
    label: str = ""
    tokens: tuple[str, ...] | None = None
    names: frozenset[str] = frozenset()

    @property
    def task_ids(self) -> frozenset[str]:
        """The tasks he may see."""
        return frozenset(grant.task_id for grant in self.grants if grant is not None)


class Rights:
    """Decides what a visitor may.

    Args:
        secrets: What tokens are signed with.
        permission: Asked besides.
    """

    def __init__(self, secrets: Secrets, permission: Permission | None) -> None:
        self._secrets = secrets
        self._permission = permission

    def signed(self, token: str) -> Grant | None:
        """What *token* says of one task, whoever sends it; None where it is not good, or for
        several."""
        grant = self._secrets.verify(token, now=time.time())
        return grant if isinstance(grant, Grant) else None

    async def who(self, request: Request, grant: Grant, action: Action) -> str | None:
        """The name of the sender, empty where it is not known; None where he may not do that."""
        if action not in grant.actions:
            return None
        if await self._ask(request, grant.task_id, Action.VIEW) is None:
            return None
        return await self._ask(request, grant.task_id, action)

    async def to_one(self, request: Request, token: str) -> Grant | None:
        """What the sender may do with the task of *token*, all conditions taken together; None
        where that is nothing, or the token is for several."""
        grant = self.signed(token)
        if grant is None:
            return None
        allowed, _ = await self._of(request, grant)
        return allowed

    async def to_any(self, request: Request, token: str) -> Shown | None:
        """What the sender may do with the one or the several tasks of *token*; None where he may
        see none."""
        grant = self._secrets.verify(token, now=time.time())
        if grant is None:
            return None
        wanted = [grant] if isinstance(grant, Grant) else grant.each()
        asked = [await self._of(request, each) for each in wanted]
        if all(allowed is None for allowed, _ in asked):
            return None
        return Shown(
            grants=tuple(allowed for allowed, _ in asked),
            names=frozenset(name for _, name in asked if name),
            label=grant.label,
            tokens=tuple(self._secrets.sign(each) for each in wanted)
            if isinstance(grant, ManyGrant)
            else None,
        )

    async def _of(self, request: Request, grant: Grant) -> tuple[Grant | None, str]:
        """What is left of *grant*, and the name of its holder."""
        name = await self._ask(request, grant.task_id, Action.VIEW)
        if name is None:
            return None, ""
        actions = [
            action
            for action in sorted(grant.actions)
            if action is Action.VIEW or await self._ask(request, grant.task_id, action) is not None
        ]
        return msgspec.structs.replace(grant, actions=frozenset(actions)), name

    async def _ask(self, request: Request, task_id: str, action: Action) -> str | None:
        """The name of who may, empty where it is not known; None for who may not."""
        if self._permission is None:
            return ""
        try:
            said = await self._permission(request, task_id, action)
        except Exception:
            # Who cannot be asked does not permit.
            logger.exception("permission to %s task %s could not be asked for", action, task_id)
            return None
        if isinstance(said, str):
            return said or None
        return "" if said is True else None
