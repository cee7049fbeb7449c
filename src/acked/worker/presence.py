"""The presence file: what a worker is running, in memory that outlives it.

Each worker keeps one file in the broker's `presence_dir`, mapped into its supervisor and all its
processes, and locked (``flock``) as long as any of them lives: the kernel drops the lock with the
last of them. So whoever gets the lock knows that the worker is dead, at once and for certain, and
reads from the file what it was doing. Writing to it is a store to memory: no system call per task.

Layout, native byte order, one page of header and then one section per process::

    header    JSON, padded with NUL: format, worker, pid, sections, slots, journal
    section   u64 drained · u64 journal head · u64 leave · f64 polled (monotonic) · slots
              · u64 log head · two journal halves · log
    slot      u64 token · f64 started (wall) · f64 deadline (monotonic; 0 none) · f64 limit
              · u64 order (the token that is to be cancelled) · u64 rules

What each part of a section says: `section`.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from acked.worker.section import Section

SUFFIX = ".presence"
FORMAT = 3
HEADER = 4096


class Presence:
    """A mapped presence file.

    Args:
        path: Where it is.
        descriptor: Of the file; whoever has it holds the lock. The memory is mapped through
            another one: a mapping keeps its descriptor's lock, and processes that a task forks
            inherit the mapping.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        header = json.loads(os.pread(descriptor, HEADER, 0).rstrip(b"\0"))
        if header.get("format") != FORMAT:
            raise ValueError(f"presence file {path} has format {header.get('format')!r}")
        self.worker: str = header["worker"]
        # Not by its path: the file may have been deleted (a cleaner of temporary files), and a
        # fork server that is started later has the descriptor all the same.
        mapped = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(mapped, 0)
        finally:
            os.close(mapped)
        self._memory = memoryview(self._map)
        size = Section.size(header["slots"])
        self.sections = [
            Section(self._memory[at : at + size], header["slots"])
            for at in range(HEADER, HEADER + header["sections"] * size, size)
        ]

    @classmethod
    def create(cls, directory: Path, worker: str, *, sections: int, slots: int) -> Presence:
        """Make and lock the file of a worker that starts.

        Raises:
            OSError: There is no room for it; nothing is left of it.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"{worker}{SUFFIX}"
        # Made under another name and locked before it appears, so that nobody finds it unlocked.
        draft = directory / f".{worker}{SUFFIX}"
        descriptor = _make_locked(draft)
        header = {
            "format": FORMAT, "worker": worker, "pid": os.getpid(),
            "sections": sections, "slots": slots,
        }  # fmt: skip
        try:
            # Allocated, not only sized: a store into a hole of a full volume would be a SIGBUS.
            os.posix_fallocate(descriptor, 0, HEADER + sections * Section.size(slots))
            os.pwrite(descriptor, json.dumps(header).encode().ljust(HEADER, b"\0"), 0)
            os.rename(draft, path)
        except OSError:
            draft.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def close(self) -> None:
        """Unmap and close; the lock goes with the last process that has it."""
        for section in self.sections:
            section.release()
        self._memory.release()
        self._map.close()
        os.close(self.descriptor)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def _make_locked(path: Path) -> int:
    """Make a file and lock it; its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        # A neighbour found it between the two steps, unlocked, and took it for left over.
        os.close(descriptor)


def _remove_left_over(path: Path) -> None:
    """Delete a file that its worker was making when it was killed."""
    descriptor = _opened(path)
    if descriptor is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except OSError:
        pass  # It is being made right now.
    finally:
        os.close(descriptor)


def read(directory: Path, worker: str) -> Presence | None:
    """The presence of a worker that may be alive, to look at; None where there is no such file."""
    path = directory / f"{worker}{SUFFIX}"
    descriptor = _opened(path)
    if descriptor is None:
        return None
    try:
        return Presence(path, descriptor)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        os.close(descriptor)
        return None


def dead(directory: Path, *, known: str) -> Iterator[Presence]:
    """Presence files of workers that are dead, each locked by us until it is closed. What is left
    of workers that were killed while they made theirs is deleted.

    Args:
        known: This worker's own name, left out.
    """
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        if not name.endswith(SUFFIX) or name == known + SUFFIX:
            continue
        path = directory / name
        if name.startswith("."):
            _remove_left_over(path)
            continue
        descriptor = _opened(path)
        if descriptor is None:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another worker may have recovered and removed it between our open and our lock.
            if os.fstat(descriptor).st_nlink == 0:
                raise BlockingIOError
            yield Presence(path, descriptor)
        except BlockingIOError:
            os.close(descriptor)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Not a presence file of this format: its worker's lease will speak for it.
            os.close(descriptor)


def _opened(path: Path) -> int | None:
    """A descriptor of the file, or None where it is gone."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
