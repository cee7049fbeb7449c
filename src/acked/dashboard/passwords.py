"""Passwords as scrypt hashes: ``scrypt$N$r$p$salt$hash``, the last two in URL-safe base64."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import threading

from acked.errors import ConfigurationError

SHORTEST = 10
"""Characters that a password needs."""

LONGEST = 1_000
"""Characters of a password that are looked at."""

_N, _R, _P = 2**15, 8, 1  # 32 MiB and about a tenth of a second
_MOST_MEMORY = 128 * 1024 * 1024
_AT_ONCE = threading.BoundedSemaphore(2)  # so that a flood of logins costs two cores at most


def hash_password(password: str) -> str:
    """What to keep instead of *password*.

    Raises:
        ConfigurationError: It is too short to withstand guessing.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigurationError(
            f"a password has {SHORTEST} to {LONGEST} characters, and this one has {len(password)}."
        )
    salt = os.urandom(16)
    return f"scrypt${_N}${_R}${_P}${_text(salt)}${_text(_scrypt(password, salt, _N, _R, _P))}"


def is_hash(text: str) -> bool:
    """Whether *text* has the form that `hash_password` gives."""
    return _parts(text) is not None


def verify(password: str, kept: str | None) -> bool:
    """Whether *kept* was made of *password*. It takes as long where nothing is kept, so that the
    time does not tell which users there are."""
    parts = _parts(kept or _NOBODY)
    if parts is None or len(password) > LONGEST:
        return False
    n, r, p, salt, wanted = parts
    with _AT_ONCE:
        found = _scrypt(password, salt, n, r, p)
    return hmac.compare_digest(found, wanted) and kept is not None


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    secret = password.encode(errors="surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=32)


def _parts(text: str) -> tuple[int, int, int, bytes, bytes] | None:
    try:
        name, n, r, p, salt, digest = text.split("$")
        parts = int(n), int(r), int(p), _bytes(salt), _bytes(digest)
    except (ValueError, binascii.Error):
        return None
    cost = 128 * parts[0] * parts[1]
    if name != "scrypt" or parts[0] < 2**14 or cost >= _MOST_MEMORY or len(parts[4]) != 32:
        return None
    return parts


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


_NOBODY = f"scrypt${_N}${_R}${_P}${_text(bytes(16))}${_text(bytes(32))}"
