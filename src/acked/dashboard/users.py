"""Who may log in: names, password hashes and rights, from a program or a file."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from acked.dashboard.passwords import is_hash, verify
from acked.dashboard.permissions import Action, Rights, actions_of
from acked.errors import ConfigurationError
from acked.escaping import plain

USERS_VARIABLE = "ACKED_DASHBOARD_USERS"
"""Environment variable with the lines of a user file."""

_FORM = "one line for each user, NAME:ROLE:HASH, as `acked dashboard --make-password` prints it"


class User(msgspec.Struct, frozen=True):
    """Somebody who may log in.

    Args:
        name: What he types.
        hash: Of his password: see `hash_password`.
        actions: What he may do.
    """

    name: str
    hash: str
    actions: frozenset[Action]


class Users:
    """Those who may log in.

    Args:
        hashes: The hash of each user's password, by name.
        roles: The role of each, or his actions one by one; viewer where nothing is said.

    Raises:
        ConfigurationError: There are none, a hash is none, or a role is not known.
    """

    def __init__(
        self, hashes: Mapping[str, str], roles: Mapping[str, Rights] | None = None
    ) -> None:
        roles = roles or {}
        if not hashes:
            raise ConfigurationError("users= names nobody who could log in.")
        if strangers := roles.keys() - hashes.keys():
            raise ConfigurationError(f"roles= names {min(strangers)!r}, who is none of users=.")
        self._users: dict[str, User] = {}
        for name, kept in hashes.items():
            if not name or plain(name) != name or ":" in name:
                raise ConfigurationError(f"{name!r} cannot be a user: it is blank, or has a colon.")
            if not is_hash(kept):
                raise ConfigurationError(
                    f"the password of {name!r} is no hash. Make one: acked dashboard "
                    "--make-password, or acked.dashboard.hash_password(...)."
                )
            rights = actions_of(roles.get(name, "viewer"), whose=name)
            self._users[name] = User(name, kept, rights)

    @classmethod
    def of(cls, users: Mapping[str, str] | Users, roles: Mapping[str, Rights] | None) -> Users:
        """*users* as they are, or made of hashes."""
        if isinstance(users, Users):
            if roles:
                raise ConfigurationError("roles= belongs to hashes; these users have theirs.")
            return users
        return cls(users, roles)

    @classmethod
    def parse(cls, text: str, *, source: str) -> Users:
        """Those of a user file: a line each, ``NAME:ROLE:HASH``; ``#`` begins a comment. ROLE may
        be a list of actions, ``view,retry``."""
        hashes: dict[str, str] = {}
        roles: dict[str, Rights] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            fields = line.strip().split(":")
            if len(fields) != 3:
                raise ConfigurationError(f"{source}, line {number}: expected {_FORM}.")
            name, role, kept = fields
            if name in hashes:
                raise ConfigurationError(f"{source}, line {number}: {name!r} is there twice.")
            hashes[name] = kept
            roles[name] = role.split(",") if "," in role or role in set(Action) else role
        if not hashes:
            raise ConfigurationError(f"{source} names nobody: expected {_FORM}.")
        return cls(hashes, roles)

    @classmethod
    def read(cls, path: Path) -> Users:
        """Those of the file *path*, which nobody but its owner may write."""
        try:
            if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigurationError(
                    f"{path} can be written by others, who could let themselves in: chmod 600."
                )
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}.") from None
        return cls.parse(text, source=str(path))

    def find(self, name: str) -> User | None:
        """The user of that name."""
        return self._users.get(name)

    def check(self, name: str, password: str) -> User | None:
        """The user, if that is his password. Takes a tenth of a second, whoever it is."""
        user = self._users.get(name)
        return user if verify(password, user.hash if user else None) else None
