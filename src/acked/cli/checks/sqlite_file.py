"""Checks of a SQLite broker that opening it does not make: what opens has a sound library and a
local disk, but the disk may be full, forgetful, or open to others."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import apsw

from acked.brokers.sqlite.placement import MOUNTS, file_system_of
from acked.cli.checks.finding import Finding, fail, info, ok, warn

FREE_FAIL = 50 * 1024**2
FREE_WARN = 500 * 1024**2


def check_file(path: Path) -> Iterator[Finding]:
    """Everything about the open database at *path*."""
    yield ok("SQLite", f"{apsw.sqlite_lib_version()}, without the WAL-reset bug")
    yield file_system_finding(path, file_system_of(path.parent, MOUNTS))
    yield mode_finding(path, path.stat())
    yield space_finding(path, shutil.disk_usage(path.parent).free)


def file_system_finding(path: Path, kind: str) -> Finding:
    """Whether what is on the type *kind* of file system outlives a restart."""
    if kind in ("tmpfs", "ramfs"):
        return warn(
            "file system",
            f"{path} is on {kind}, which a restart of the host empties",
            "move it to a disk",
        )
    if kind == "overlay":
        return warn(
            "file system",
            f"{path} is inside a container's own layer, which goes with the container",
            "put it on a volume",
        )
    if not kind:
        return info("file system", f"the type of the file system of {path} cannot be told")
    return ok("file system", f"{path} is on {kind}, of this host")


def mode_finding(path: Path, about: os.stat_result) -> Finding:
    """Whether others can read the tasks."""
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o077:
        return fail(
            "file mode", f"{path} has mode {mode:04o}: others can read its tasks",
            f"chmod 600 {path}",
        )  # fmt: skip
    return ok("file mode", f"{mode:04o}")


def space_finding(path: Path, free: int) -> Finding:
    """Whether *free* bytes will do."""
    told = f"{free / 1024**3:.1f} GiB" if free >= 1024**3 else f"{free // 1024**2} MiB"
    remedy = "free some: a send on a full disk raises, and workers cannot settle"
    if free < FREE_FAIL:
        return fail("disk space", f"{told} free for {path}", remedy)
    if free < FREE_WARN:
        return warn("disk space", f"{told} free for {path}", remedy)
    return ok("disk space", f"{told} free")
