"""Which queues are new in RabbitMQ, kept in the ledger: `Notes`. `mending` tells what for.

A note is there before its queue is, and outlives whoever made it. All of them are one value, as
there are few, and most of the time none.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import msgspec

from acked.broker import Ledger

UNREAD = b"?"
"""What is never kept: to exchange it for itself only tells what is there."""


class Note(msgspec.Struct, frozen=True):
    """A queue is new.

    Args:
        at: Since when; wall-clock seconds by the ledger's clock.
        by: Tells this note from any other.
        mending: It was found dead, and is being made anew.
    """

    at: float
    by: str
    mending: bool = False


class Notes:
    """Those of one virtual host. Blocking, for one thread at a time.

    Args:
        ledger: Keeps them.
        identity: Names the virtual host.
    """

    def __init__(self, ledger: Ledger, identity: str) -> None:
        self._ledger = ledger
        self._name = f"new queues: {identity}"

    def now(self) -> float:
        """Wall-clock seconds by the ledger's clock."""
        return self._ledger.clock.now()

    def read(self) -> dict[str, Note]:
        """Every note, by the queue's name.

        Raises:
            BrokerError: The ledger cannot be asked.
        """
        return _notes(self._read())

    def put(self, queue: str) -> Note:
        """Note that *queue* is new from now on; the note.

        Raises:
            BrokerError: As `read`.
        """
        note = self._new(mending=False)

        def add(notes: dict[str, Note]) -> bool:
            notes[queue] = note
            return True

        self._change(add)
        return note

    def take(self, queue: str, seen: Note) -> bool:
        """Note that *queue* is being mended, if *seen* is its note still: one of all who have seen
        that note does it.

        Raises:
            BrokerError: As `read`.
        """
        note = self._new(mending=True)

        def replace(notes: dict[str, Note]) -> bool:
            found = notes.get(queue)
            notes[queue] = note
            # The second: our own, whose answer was lost.
            return found in {seen, note}

        return self._change(replace)

    def forget(self, known: Mapping[str, Note]) -> None:
        """Take away the notes *known*, as far as they are the same still.

        Raises:
            BrokerError: As `read`.
        """

        def drop(notes: dict[str, Note]) -> bool:
            gone = [queue for queue, note in known.items() if notes.get(queue) == note]
            for queue in gone:
                del notes[queue]
            return bool(gone)

        self._change(drop)

    def _new(self, *, mending: bool) -> Note:
        return Note(self.now(), secrets.token_hex(8), mending)

    def _read(self) -> bytes | None:
        return self._ledger.exchange(self._name, UNREAD, UNREAD)

    def _change(self, change: Callable[[dict[str, Note]], bool]) -> bool:
        """Apply *change* in one step; False, and nothing is changed, where it says so."""
        old = self._read()
        while True:
            notes = _notes(old)
            if not change(notes):
                return False
            new = msgspec.json.encode(notes)
            found = self._ledger.exchange(self._name, old, new)
            if found in {old, new}:
                return True
            old = found


def _notes(raw: bytes | None) -> dict[str, Note]:
    """What *raw* says; nothing where it is nothing of ours."""
    try:
        return {} if raw is None else msgspec.json.decode(raw, type=dict[str, Note])
    except msgspec.MsgspecError:
        return {}
