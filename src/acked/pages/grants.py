"""The token in a link: what its holder may do with a task, or several, until when. Signed, not
stored.

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

LONGEST_TOKEN = 7_000
"""Characters of a token: it stands in an address, and servers take lines of 8 KiB."""

LONGEST_LABEL = 120

DAY = 86_400.0

_ONE, _MANY = 1, 2
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


class ManyGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token for several tasks says: the same for each, but for its name.

    Args:
        task_ids: The tasks, in the order of the page.
        labels: What the page calls each of them.
        expires, actions: As for one.
        label: What the page calls them together.
    """

    task_ids: tuple[str, ...]
    labels: tuple[str, ...]
    expires: float
    actions: frozenset[Action] = frozenset({Action.VIEW})
    label: str = ""

    def each(self) -> list[Grant]:
        """What it says of each of its tasks."""
        return [
            Grant(task_id=task_id, expires=self.expires, actions=self.actions, label=label)
            for task_id, label in zip(self.task_ids, self.labels, strict=True)
        ]


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

    def sign(self, grant: Grant | ManyGrant) -> str:
        """The token that says *grant*.

        Raises:
            ConfigurationError: It would be too long for an address.
        """
        rights = sorted(grant.actions)
        label = _shown(grant.label)
        if isinstance(grant, Grant):
            said = [_ONE, grant.task_id, grant.expires, rights, label]
        else:
            labels = [_shown(each) for each in grant.labels]
            said = [_MANY, grant.task_ids, grant.expires, rights, label, labels]
        token = self._serializer.dumps(said)
        if len(token) > LONGEST_TOKEN:
            raise ConfigurationError(
                f"the link would be {len(token)} characters long, and browsers and proxies take "
                f"{LONGEST_TOKEN}: give several links, or shorter labels."
            )
        return token

    def verify(self, token: str, *, now: float) -> Grant | ManyGrant | None:
        """What *token* says; None where it is not ours, changed, or too old at *now*."""
        if len(token) > LONGEST_TOKEN or not token.isascii():
            return None
        try:
            version, ids, expires, actions, label, *labels = self._serializer.loads(token)
        except (BadData, ValueError, TypeError):
            return None
        if version not in {_ONE, _MANY} or now >= expires:
            return None
        rights = frozenset(Action(each) for each in actions)
        if version == _ONE:
            return Grant(task_id=ids, expires=expires, actions=rights, label=label)
        return ManyGrant(
            task_ids=tuple(ids), labels=tuple(labels[0]), expires=expires, actions=rights,
            label=label,
        )  # fmt: skip


def _shown(label: str) -> str:
    return plain(label)[:LONGEST_LABEL]


_REMEDY = "Make one with: python -c 'import secrets; print(secrets.token_hex(32))'"
