"""Wake-ups between processes of one host: whoever waits sleeps, and is woken for new work.

Beside the database lies a directory, and in it a small file that all its users have mapped, with
one *slot* for each thread that waits::

    u8  asleep  [SLOTS]   1 while it sleeps, or is about to, and nobody has woken it
    u64 mask    [SLOTS]   which queues it waits for, one bit each, by a hash of the name
    f64 until   [SLOTS]   wall-clock time at which it will look again of itself

The flags lie side by side, so that a sender finds out that nobody sleeps with one search of
memory. A waiter raises its flag, looks once more for work, and only then sleeps; a sender stores
its task, and only then looks for flags. So one of the two sees the other.

A slot belongs to whoever has a Unix datagram socket bound to its number in the directory. The
kernel closes the socket of a process that is killed, which frees the slot.

A wake-up is a hint: one that comes for nothing costs a look, and one that is lost costs the rest
of the waiter's time-out.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import select
import socket
import threading
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

SLOTS = 1024
ASLEEP = b"\x01"
AWAKE = b"\x00"
EVERY_QUEUE = 2**64 - 1
EVERYONE = SLOTS


@lru_cache(maxsize=1024)
def bit_of(queue: str) -> int:
    """The bit of *queue* in a mask. Queues that share one wake each other's waiters."""
    return 1 << zlib.crc32(queue.encode(errors="replace")) % 64


def mask_of(queues: Iterable[str]) -> int:
    """The bits of *queues*."""
    mask = 0
    for queue in queues:
        mask |= bit_of(queue)
    return mask


class Wakeups:
    """The slots of one database.

    Args:
        directory: Where the file and the sockets are.

    Raises:
        OSError: They cannot be there.
    """

    def __init__(self, directory: Path) -> None:
        self._descriptors: list[int] = []
        self._directory = self._keep(
            os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        )
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = self._keep(os.open("slots", flags, 0o600, dir_fd=self._directory))
        # Not merely made that long: a store into a hole on a full disk would end the process.
        os.posix_fallocate(self._file, 0, SLOTS * 17)
        self._memory = mmap.mmap(self._file, SLOTS * 17)
        view = memoryview(self._memory)
        self._masks = view[SLOTS : SLOTS * 9].cast("Q")
        self._untils = view[SLOTS * 9 :].cast("d")
        self._sender = _datagram_socket()
        # Threads share the file's lock, and so need one among themselves.
        self._taking = threading.Lock()
        self.pid = os.getpid()

    def __del__(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        with contextlib.suppress(AttributeError):
            self._sender.close()

    def anyone(self) -> bool:
        """Whether any slot's owner sleeps."""
        return self._memory.find(ASLEEP, 0, SLOTS) >= 0

    def wake(self, mask: int, count: int, *, due: float = -math.inf) -> None:
        """Wake up to *count* of those that wait for a queue of *mask* and sleep beyond *due*."""
        memory = self._memory
        slot = memory.find(ASLEEP, 0, SLOTS)
        while slot >= 0 and count > 0:
            if self._masks[slot] & mask and self._untils[slot] > due:
                memory[slot : slot + 1] = AWAKE
                count -= self.ring(slot)
            slot = memory.find(ASLEEP, slot + 1, SLOTS)

    def ring(self, slot: int) -> bool:
        """Wake whoever has *slot*; False when nobody has."""
        try:
            self._sender.sendto(b"", self._address(slot))
        except BlockingIOError:
            return True  # It has not yet read what it was woken with before.
        except OSError:
            return False
        return True

    def park(self, slot: int, mask: int, until: float) -> None:
        """The owner of *slot* is about to sleep *until* then, unless there is work in *mask*."""
        self._masks[slot] = mask
        self._untils[slot] = until
        self._memory[slot : slot + 1] = ASLEEP

    def unpark(self, slot: int) -> None:
        """The owner of *slot* is awake."""
        self._memory[slot : slot + 1] = AWAKE

    def take(self) -> tuple[int, socket.socket]:
        """A free slot, and its socket.

        Raises:
            OSError: There is none, or no socket can be made.
        """
        with self._taking:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                for slot in range(SLOTS):
                    if not self._taken(slot):
                        return slot, self._bind(slot)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        raise BlockingIOError("every slot is taken")

    def give_back(self, slot: int) -> None:
        """Nobody waits at *slot* any more. Comes before its socket is closed: until then no
        other can take the slot."""
        self.unpark(slot)
        with contextlib.suppress(OSError):
            os.unlink(str(slot), dir_fd=self._directory)

    def _keep(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _address(self, slot: int) -> str:
        # Not the directory's own path: an address has room for 107 bytes.
        return f"/proc/self/fd/{self._directory}/{slot}"

    def _taken(self, slot: int) -> bool:
        with _datagram_socket() as probe:
            try:
                probe.connect(self._address(slot))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True

    def _bind(self, slot: int) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(str(slot), dir_fd=self._directory)
        bound = _datagram_socket()
        try:
            bound.bind(self._address(slot))
        except OSError:
            bound.close()
            raise
        return bound


class Waiter:
    """One thread's slot.

    Args:
        wakeups: Where it waits.

    Raises:
        OSError: As `Wakeups.take`.
    """

    def __init__(self, wakeups: Wakeups) -> None:
        self.wakeups = wakeups
        self.pid = os.getpid()
        self.slot, self._socket = wakeups.take()
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # It never had a slot.
            # A forked child has a copy of its parent's waiter; the slot stays the parent's.
            if self.pid == os.getpid():
                self.wakeups.give_back(self.slot)
            self._socket.close()

    def park(self, mask: int, until: float) -> None:
        """About to sleep: from now on a sender will wake this thread."""
        self.wakeups.park(self.slot, mask, until)

    def sleep(self, seconds: float) -> None:
        """Sleep until woken, or for *seconds*."""
        self._poll.poll(math.ceil(seconds * 1000))

    def unpark(self) -> None:
        """Awake, for whatever reason."""
        self.wakeups.unpark(self.slot)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)


def _datagram_socket() -> socket.socket:
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    return socket.socket(socket.AF_UNIX, kind)
