"""One process's part of the presence file: what it runs, what it has settled and not yet written,
and what its tasks have logged. `presence` has the layout.

A slot says that a task is running; its token is written last at the start and cleared first at
the end. The *log* holds the latest lines that running tasks have logged, so that those of a task
whose process was killed are kept as well. The *journal* holds settlements that are not yet in the
broker: a task that finished is not run again because its process was killed before the next write.
One half is live; `rewrite` fills the other and flips with one store of the head, so that a kill in
between loses nothing.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from acked.delivery import Settlement
from acked.outcome import TaskPolicy

SLOT_WORDS = 6
SECTION_WORDS = 5
JOURNAL_HALF = 128 * 1024
LOG = 64 * 1024
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Settlement)


def rules_of(policy: TaskPolicy) -> int:
    """What a slot says of its task's policy: what follows should its process die."""
    return policy.acks_late | policy.reject_on_worker_lost << 1 | policy.max_losses << 2


UNKNOWN_RULES = rules_of(TaskPolicy())


class Running(msgspec.Struct, frozen=True):
    """One occupied slot."""

    slot: int
    token: int
    started: float
    deadline: float
    limit: float
    rules: int = 0

    @property
    def acks_late(self) -> bool:
        return bool(self.rules & 1)

    @property
    def reject_on_worker_lost(self) -> bool:
        return bool(self.rules & 2)

    @property
    def max_losses(self) -> int:
        """0 where the slot does not say."""
        return self.rules >> 2


class Section:
    """The part of the file that belongs to one process: its slots and its journal."""

    def __init__(self, memory: memoryview, slots: int) -> None:
        self.slots = slots
        words = SECTION_WORDS + slots * SLOT_WORDS
        self._integers = memory[: words * 8].cast("Q")
        self._floats = memory[: words * 8].cast("d")
        self._tokens = self._integers[SECTION_WORDS::SLOT_WORDS]
        start = words * 8
        self._halves = (
            memory[start : start + JOURNAL_HALF],
            memory[start + JOURNAL_HALF : start + 2 * JOURNAL_HALF],
        )
        start += 2 * JOURNAL_HALF
        self._log = memory[start : start + LOG]
        self._logging = threading.Lock()

    @staticmethod
    def size(slots: int) -> int:
        exact = (SECTION_WORDS + slots * SLOT_WORDS) * 8 + 2 * JOURNAL_HALF + LOG
        return -(-exact // mmap.PAGESIZE) * mmap.PAGESIZE

    # -- slots: written by the process, read by the supervisor --------------------------------

    def begin(
        self, slot: int, token: int, started: float, deadline: float = 0.0, limit: float = 0.0,
        rules: int = UNKNOWN_RULES,
    ) -> None:  # fmt: skip
        """A task starts in *slot*."""
        at = SECTION_WORDS + slot * SLOT_WORDS
        floats = self._floats
        floats[at + 1] = started
        floats[at + 2] = deadline
        floats[at + 3] = limit
        self._integers[at + 4] = 0
        self._integers[at + 5] = rules
        self._integers[at] = token

    def end(self, slot: int) -> None:
        """The task in *slot* has ended."""
        self._integers[SECTION_WORDS + slot * SLOT_WORDS] = 0

    def running(self) -> list[Running]:
        """The occupied slots."""
        found = []
        for slot, token in enumerate(self._tokens.tolist()):
            if token:
                at = SECTION_WORDS + slot * SLOT_WORDS
                started, deadline, limit = self._floats[at + 1 : at + 4]
                entry = Running(slot, token, started, deadline, limit, self._integers[at + 5])
                if self._integers[at] == token:
                    found.append(entry)
        return found

    def order(self, slot: int, token: int) -> None:
        """Ask the process to cancel *token*, should it still be in *slot*."""
        self._integers[SECTION_WORDS + slot * SLOT_WORDS + 4] = token

    def ordered(self, slot: int) -> bool:
        """Whether the supervisor asked to cancel what runs in *slot*."""
        at = SECTION_WORDS + slot * SLOT_WORDS
        return self._integers[at] != 0 and self._integers[at + 4] == self._integers[at]

    # -- flags ----------------------------------------------------------------------------------

    @property
    def drained(self) -> bool:
        """The process left since there was nothing to do (``--burst``)."""
        return self._integers[0] != 0

    def mark_drained(self) -> None:
        self._integers[0] = 1

    @property
    def asked_to_leave(self) -> bool:
        """The process is to finish what it runs and end."""
        return self._integers[2] != 0

    def ask_to_leave(self) -> None:
        self._integers[2] = 1

    @property
    def polled(self) -> float:
        """Monotonic time at which the process last heard from the broker, or had no need to; 0
        before the first time."""
        return self._floats[3]

    def mark_polled(self, now: float) -> None:
        self._floats[3] = now

    @property
    def in_task(self) -> bool:
        """The main thread of the process runs a task."""
        return self._tokens[0] != 0

    # -- log ------------------------------------------------------------------------------------

    def log(self, token: int, line: bytes) -> None:
        """Keep *line* of the task that runs by *token*; the oldest lines make room for it."""
        entry = token.to_bytes(8, "little") + len(line).to_bytes(4, "little") + line
        with self._logging:
            head = self._integers[4]
            if head + len(entry) > LOG:
                head = self._shorten_log(head)
            self._log[head : head + len(entry)] = entry
            self._integers[4] = head + len(entry)

    def forget_log(self) -> None:
        """Nothing runs that has logged anything."""
        self._integers[4] = 0

    def logged(self) -> dict[int, bytes]:
        """The lines of each token."""
        found: defaultdict[int, list[bytes]] = defaultdict(list)
        at, head = 0, min(self._integers[4], LOG)
        while at + 12 <= head:
            token, size = self._log_entry(at)
            found[token].append(bytes(self._log[at + 12 : at + 12 + size]))
            at += 12 + size
        return {token: b"\n".join(lines) for token, lines in found.items()}

    def _log_entry(self, at: int) -> tuple[int, int]:
        log = self._log
        return int.from_bytes(log[at : at + 8], "little"), int.from_bytes(
            log[at + 8 : at + 12], "little"
        )

    def _shorten_log(self, head: int) -> int:
        """Drop the older half; where the younger one ends now."""
        at = 0
        while at < head and head - at > LOG // 2:
            at += 12 + self._log_entry(at)[1]
        # Without a head while it is moved: a kill in between loses the lines, and mixes none.
        self._integers[4] = 0
        kept = bytes(self._log[at:head])
        self._log[: len(kept)] = kept
        return len(kept)

    # -- journal --------------------------------------------------------------------------------

    def append(self, entry: bytes) -> bool:
        """Add an entry of `journal_entry`; False when it does not fit."""
        head = self._integers[1]
        half, length = head & 1, head >> 1
        end = length + len(entry)
        if end > JOURNAL_HALF:
            return False
        self._halves[half][length:end] = entry
        self._integers[1] = end << 1 | half
        return True

    def rewrite(self, entries: Iterable[bytes]) -> None:
        """Replace the journal by *entries*, as far as they fit."""
        half = 1 - (self._integers[1] & 1)
        length = 0
        for entry in entries:
            if length + len(entry) > JOURNAL_HALF:
                continue
            self._halves[half][length : length + len(entry)] = entry
            length += len(entry)
        self._integers[1] = length << 1 | half

    def journal(self) -> list[Settlement]:
        """The settlements in the journal; what a power loss tore is left out."""
        head = self._integers[1]
        half, length = head & 1, min(head >> 1, JOURNAL_HALF)
        memory, found, at = self._halves[half], [], 0
        while at + 8 <= length:
            size = int.from_bytes(memory[at : at + 4], "little")
            check = int.from_bytes(memory[at + 4 : at + 8], "little")
            entry = bytes(memory[at + 8 : at + 8 + size])
            if len(entry) != size or zlib.crc32(entry) != check:
                break
            with contextlib.suppress(msgspec.MsgspecError):
                found.append(_decoder.decode(entry))
            at += 8 + size
        return found

    def clear(self) -> None:
        """Make the section ready for a new process."""
        for slot in range(self.slots):
            self.end(slot)
        self._integers[0] = self._integers[1] = self._integers[2] = 0
        self._floats[3] = 0.0
        self._integers[4] = 0

    def release(self) -> None:
        """Let go of the mapped memory."""
        for view in (self._tokens, self._integers, self._floats, *self._halves, self._log):
            view.release()


def journal_entry(settlement: Settlement) -> bytes:
    """*settlement* in the journal's form."""
    entry = _encoder.encode(settlement)
    return len(entry).to_bytes(4, "little") + zlib.crc32(entry).to_bytes(4, "little") + entry
