"""The facts without which a figure means nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import apsw

_PACKAGES = (
    "acked", "apsw", "msgspec", "redis", "hiredis", "psycopg", "amqp", "celery", "kombu",
    "billiard", "huey", "dramatiq", "pika", "taskiq", "taskiq-redis", "pgqueuer", "asyncpg",
    "uvloop", "procrastinate",
)  # fmt: skip


def facts(directory: Path) -> dict[str, str]:
    """What this machine is, and what is measured on it; *directory* holds the databases."""
    return {
        "processor": f"{len(os.sched_getaffinity(0))} cores, {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"Linux {platform.release()}, load {os.getloadavg()[0]:.2f} at the start",
        "file system": f"{file_system(directory)} at {directory}",
        "Python": platform.python_version(),
        "SQLite": f"{apsw.sqlite_lib_version()} (acked, engine), {sqlite3.sqlite_version} (huey)",
        "servers": ", ".join(_servers()),
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


def _servers() -> Iterator[str]:
    """Those that are installed, where Debian puts them."""
    if (redis := shutil.which("redis-server")) is not None:
        words = subprocess.run([redis, "--version"], capture_output=True, text=True, check=True)
        yield f"Redis {words.stdout.split('v=')[-1].split()[0]}"
    for program in Path("/usr/lib/postgresql").glob("*/bin/postgres"):
        words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        yield f"PostgreSQL {words.stdout.split()[2]}"
    # Its own command takes seconds to say it.
    for directory in Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"):
        yield f"RabbitMQ {directory.name.removeprefix('rabbitmq_server-')}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown processor"
