"""A limit of real memory, which the kernel keeps: whoever passes it is killed by the kernel's
out-of-memory killer. It takes a control group, of either version, which root may make on most
machines and nobody in most containers.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Generator
from pathlib import Path

from tests.harness.workers import until

MOUNTS = Path("/proc/self/mountinfo")
GROUPS = Path("/proc/self/cgroup")


class MemoryGroup:
    """A control group whose processes have a limit of memory together.

    Args:
        path: Of the group. A process joins by writing its id to `processes`.
        home: The group of the test itself.
        counter: The file that counts the kernel's kills.
    """

    def __init__(self, path: Path, home: Path, counter: Path) -> None:
        self.processes = path / "cgroup.procs"
        self._path = path
        self._home = home
        self._counter = counter

    def kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        (line,) = [x for x in self._counter.read_text().splitlines() if x.startswith("oom_kill ")]
        return int(line.split()[1])

    def remove(self) -> None:
        """Send whoever is still in it back to where the test is, and delete it."""

        def gone() -> bool:
            for pid in self.processes.read_text().split():
                with contextlib.suppress(OSError):
                    (self._home / "cgroup.procs").write_text(pid)
            with contextlib.suppress(OSError):
                self._path.rmdir()
            return not self._path.exists()

        until(gone, what=f"the end of {self._path}")


@contextlib.contextmanager
def memory_group(limit: int) -> Generator[MemoryGroup | None]:
    """A group of *limit* bytes; None where this machine lets nobody make one."""
    group = _first(limit) or _second(limit)
    try:
        yield group
    finally:
        if group is not None:
            group.remove()


def _first(limit: int) -> MemoryGroup | None:
    """Of cgroups v1: below the test's own group, whose limits hold on."""
    own = _own(kind="cgroup", option="memory", controllers="memory")
    if own is None:
        return None
    path = own / f"acked-{secrets.token_hex(4)}"
    try:
        path.mkdir()
        (path / "memory.limit_in_bytes").write_text(str(limit))
    except OSError:
        _undo(path)
        return None
    # No swapping instead; absent where the kernel does not count what is swapped out.
    with contextlib.suppress(OSError):
        (path / "memory.memsw.limit_in_bytes").write_text(str(limit))
    return MemoryGroup(path, own, path / "memory.oom_control")


def _second(limit: int) -> MemoryGroup | None:
    """Of cgroups v2: beside the test's own group. One that has processes can have none below it."""
    own = _own(kind="cgroup2", option="", controllers="")
    if own is None:
        return None
    path = own.parent / f"acked-{secrets.token_hex(4)}"
    try:
        if "memory" not in (own.parent / "cgroup.subtree_control").read_text().split():
            return None
        path.mkdir()
        (path / "memory.max").write_text(str(limit))
    except OSError:
        _undo(path)
        return None
    with contextlib.suppress(OSError):
        (path / "memory.swap.max").write_text("0")
    return MemoryGroup(path, own, path / "memory.events")


def _undo(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


def _own(*, kind: str, option: str, controllers: str) -> Path | None:
    """The directory of this process's own group."""
    for line in GROUPS.read_text().splitlines():
        _, names, group = line.split(":", 2)
        if controllers in names.split(","):
            break
    else:
        return None
    for line in MOUNTS.read_text().splitlines():
        fields, about = (part.split() for part in line.split(" - ", 1))
        root, place = fields[3], fields[4]
        if about[0] == kind and (not option or option in about[2].split(",")):
            inside = group if root == "/" else "/" + group.removeprefix(root).lstrip("/")
            return Path(place + inside)
    return None
