"""The facts without which a figure means nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

import apsw

from benchmarks.redis_server import redis_version

_PACKAGES = ("acked", "celery", "kombu", "billiard", "redis", "hiredis", "huey", "msgspec", "apsw")


def facts(directory: Path) -> dict[str, str]:
    """What this machine is, and what is measured on it; *directory* holds the databases."""
    return {
        "processor": f"{len(os.sched_getaffinity(0))} cores, {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"Linux {platform.release()}, load {os.getloadavg()[0]:.2f} at the start",
        "file system": f"{file_system(directory)} at {directory}",
        "Python": platform.python_version(),
        "SQLite": f"{apsw.sqlite_lib_version()} (acked, engine), {sqlite3.sqlite_version} (huey)",
        "Redis": redis_version() or "not installed",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def file_system(directory: Path) -> str:
    """Type of the file system *directory* is on: that of the longest mount point above it."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, this_kind, *_ = line.split()
        if directory.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind = point, this_kind
    return kind


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown processor"
