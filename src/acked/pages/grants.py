"""The token in a link: what its holder may do with one task, until when. Signed, not stored.

The link alone is the right to see the task, so it cannot be guessed or changed: HMAC-SHA-256 over
version, task id, end, rights and label. Its text is readable by who holds it and tells nothing
that the page would not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum

import msgspec
from itsdangerous import BadData, URLSafeSerializer

from acked.errors import ConfigurationError
from acked.escaping import plain

SHORTEST_SECRET = 32
"""Bytes a secret needs: as many as the digest has."""

LONGEST_TOKEN = 2_000
"""Characters of a token that are looked at."""

LONGEST_LABEL = 120

DAY = 86_400.0

_VERSION = 1
# Part of the key, so that no other text signed with the same secret passes for a token.
_PURPOSE = "acked.pages.token"


class Action(StrEnum):
    """What may be done with a task. To see it is part of every token."""

    VIEW = "view"
    CANCEL = "cancel"
    RETRY = "retry"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says.

    Args:
        task_id: The one task it is for.
        expires: Wall-clock seconds; from then on it is worth nothing.
        actions: What its holder may do.
        label: What the page calls the task.
    """

    task_id: str
    expires: float
    actions: frozenset[Action] = frozenset({Action.VIEW})
    label: str = ""


class Secrets:
    """The keys tokens are signed with.

    Args:
        secrets: The first signs; all are accepted. To replace one, put the new one first and leave
            the old one until its tokens have expired.

    Raises:
        ConfigurationError: There is none, or one is too short to be safe.
    """

    def __init__(self, secrets: Sequence[str | bytes]) -> None:
        if isinstance(secrets, str | bytes):
            raise ConfigurationError("secrets= takes a list: secrets=[SECRET].")
        if not secrets:
            raise ConfigurationError(f"secrets=[] signs nothing. {_REMEDY}")
        keys = [each.encode() if isinstance(each, str) else bytes(each) for each in secrets]
        for place, key in enumerate(keys):
            if len(key) < SHORTEST_SECRET:
                raise ConfigurationError(
                    f"secrets[{place}] has {len(key)} bytes and needs at least {SHORTEST_SECRET}: "
                    f"whoever guesses it can see every task. {_REMEDY}"
                )
        self._serializer = URLSafeSerializer(
            keys[::-1],  # the last one signs
            salt=_PURPOSE,
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def sign(self, grant: Grant) -> str:
        """The token that says *grant*."""
        rights = sorted(grant.actions)
        label = plain(grant.label)[:LONGEST_LABEL]
        return self._serializer.dumps([_VERSION, grant.task_id, grant.expires, rights, label])

    def verify(self, token: str, *, now: float) -> Grant | None:
        """What *token* says; None where it is not ours, changed, or too old at *now*."""
        if len(token) > LONGEST_TOKEN or not token.isascii():
            return None
        try:
            said = self._serializer.loads(token)
            version, task_id, expires, actions, label = said
        except (BadData, ValueError, TypeError):
            return None
        if version != _VERSION or now >= expires:
            return None
        return Grant(
            task_id=task_id, expires=expires, label=label,
            actions=frozenset(Action(each) for each in actions),
        )  # fmt: skip


_REMEDY = "Make one with: python -c 'import secrets; print(secrets.token_hex(32))'"
