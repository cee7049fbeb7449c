"""Where an acked database may live, and with which SQLite: checked before it is opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import apsw

from acked.errors import ConfigurationError

NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs",
    "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs",
})  # fmt: skip
"""Types of file systems that other hosts share: their locks and mapped memory do not hold what
SQLite's WAL needs of them."""

WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))
"""First and last SQLite with the WAL-reset bug (https://sqlite.org/wal.html#walresetbug)."""

WAL_RESET_BUG_MENDED = frozenset({(3, 44, 6), (3, 50, 7)})
"""Releases in between that have its repair."""

MOUNTS = Path("/proc/self/mountinfo")


def check_sqlite(version: str | None = None) -> None:
    """Refuse an SQLite in which two processes that write at once can damage the file.

    Args:
        version: Of the library; of the one in use by default, which need not be the one that
            apsw was built with.

    Raises:
        ConfigurationError: It is one of those.
    """
    version = version or apsw.sqlite_lib_version()
    numbers = tuple(int(part) for part in version.split(".")[:3])
    first, last = WAL_RESET_BUG
    if first <= numbers <= last and numbers not in WAL_RESET_BUG_MENDED:
        raise ConfigurationError(
            f"SQLite {version} has the WAL-reset bug and can lose tasks; acked needs 3.51.3 or "
            "newer. Install apsw with the SQLite it brings: pip install --upgrade apsw"
        )


def check_path(path: Path, mounts: Path = MOUNTS) -> None:
    """Refuse a place where others could read, replace or break the database.

    Args:
        path: The database.
        mounts: As `file_system_of`.

    Raises:
        ConfigurationError: The directory does not exist or anyone may write to it, the file is a
            symbolic link, or another host may have the file system mounted.
    """
    directory = path.parent
    try:
        about = directory.stat()
    except OSError as error:
        raise ConfigurationError(
            f"no database can be made in {directory}: {error.strerror}. "
            "Create the directory, or name another place in the broker's URL."
        ) from None
    if about.st_mode & stat.S_IWOTH and not about.st_mode & stat.S_ISVTX:
        raise ConfigurationError(
            f"anyone may replace files in {directory}, so no database is kept there. "
            f"Take that right away: chmod o-w {directory}"
        )
    if path.is_symlink():
        raise ConfigurationError(
            f"{path} is a symbolic link to {path.readlink()}. "
            "Name the file itself in the broker's URL."
        )
    if about.st_mode & stat.S_IWOTH:
        check_owner(path)
    kind = file_system_of(directory, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigurationError(
            f"{directory} is on a network file system ({kind}), on which SQLite loses data. "
            "Use a local disk, or a broker that hosts can share."
        )


def check_directory(directory: Path) -> None:
    """Refuse a directory beside the database that somebody else could write to.

    Raises:
        ConfigurationError: It is not there, a symbolic link, another user's, or open to all.
    """
    try:
        about = directory.lstat()
    except OSError as error:
        raise ConfigurationError(
            f"{directory} cannot be made: {error.strerror}. "
            "The database's directory must let this process write to it."
        ) from None
    if not stat.S_ISDIR(about.st_mode) or about.st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"{directory} must be a directory that only its owner can write to. Remove it."
        )
    check_owner(directory)


def check_owner(path: Path) -> None:
    """Refuse what another user made where anyone can make files.

    Raises:
        ConfigurationError: It belongs neither to this user nor to root.
    """
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return
    if owner not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"{path} belongs to another user (uid {owner}). Name a place of your own in the "
            "broker's URL."
        )


def file_system_of(directory: Path, mounts: Path) -> str:
    """The type of the file system that holds *directory*, or ``""`` where it cannot be told.

    Args:
        mounts: The kernel's list of mounts (proc(5)).
    """
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with mounts.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                fields, _, source = line.partition(" - ")
                if fields.split()[2] == wanted:
                    return source.split()[0]
    except (OSError, IndexError):
        pass
    return ""
