"""What an error of SQLite means to whoever asked for something, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import apsw

from acked.errors import BrokerError, BrokerUnavailable

SPOILED = (apsw.CantOpenError, apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError)
"""Errors after which another connection may do better."""


def meaning(error: apsw.Error | OSError, path: Path, timeout: float) -> BrokerError:
    """*error* in terms of the broker.

    Args:
        path: The database.
        timeout: Seconds that were waited for its lock.
    """
    what = _name(error)
    match error:
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            return BrokerUnavailable(
                f"{path} was locked by another program for {timeout:g} s. Try again; "
                "`fuser` names the programs that have it open.",
                nothing_stored=True,
            )
        case apsw.FullError():
            return BrokerError(
                f"no room left for {path}. Free space on its disk.", nothing_stored=True
            )
        case apsw.IOError():
            return BrokerError(
                f"the disk failed under {path} ({what}). The system's log says more."
            )
        case apsw.CorruptError() | apsw.NotADBError():
            return BrokerError(
                f"{path} is damaged or no SQLite database ({what}). With everything stopped that "
                "uses it, restore it from a backup, or move it away to start anew; the files "
                f"{path.name}-wal and {path.name}-shm go with it."
            )
        case apsw.CantOpenError() | apsw.ReadOnlyError() | apsw.PermissionsError() | OSError():
            return BrokerError(
                f"{path} cannot be written ({what}). This process must have the right to "
                "write to it and to its directory.",
                nothing_stored=True,
            )
        case _:
            return BrokerError(f"{path} refused the operation ({what})", nothing_stored=True)


def _name(error: apsw.Error | OSError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    code = getattr(error, "extendedresult", 0)
    return str(error) or str(apsw.mapping_extended_result_codes.get(code, code))
