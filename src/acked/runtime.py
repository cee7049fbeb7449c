"""A directory of this host and user for what the processes that use one server share."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from acked.errors import ConfigurationError

VARIABLE = "ACKED_RUNTIME_DIR"


def runtime_directory(server: str) -> Path:
    """Where workers of this user on this host keep their presence files for *server*.

    Below ``ACKED_RUNTIME_DIR``, else ``XDG_RUNTIME_DIR``, else the directory for temporary files.
    It is made for this user alone. Who uses the same server through another address (another name
    of the host) has another directory, and so notices a dead neighbour by its lease alone.

    Args:
        server: Names the server and the part of it that is used, without any password.

    Raises:
        ConfigurationError: It cannot be made, or belongs to somebody else.
    """
    given = os.environ.get(VARIABLE) or os.environ.get("XDG_RUNTIME_DIR")
    base = Path(given) / "acked" if given else Path(tempfile.gettempdir(), f"acked-{os.geteuid()}")
    directory = base / hashlib.sha256(server.encode()).hexdigest()[:16]
    for each in (base, directory):
        try:
            each.mkdir(mode=0o700, exist_ok=True)
            about = each.lstat()
        except OSError as error:
            raise ConfigurationError(
                f"{each} cannot be made: {error.strerror}. Name a directory of this user's own in "
                f"{VARIABLE}."
            ) from None
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
            raise ConfigurationError(
                f"{each} must be a directory that this user owns and nobody else may write to. "
                f"Remove it, or name another place in {VARIABLE}."
            )
    return directory
