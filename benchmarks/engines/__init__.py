"""What each engine can do alone: nothing but its own client and the operations a queue must have.

Each module has:

- ``SerialWrites(row_bytes)``: a context manager whose ``write()`` stores one task of that size as
  durably as acked does, the least an enqueue can cost;
- ``row_bytes(url)``, SQLite's alone: how long a row of acked's is in that file;
- ``seed(url, count, row_bytes)`` and ``drain(url, start_at_ns)``: tasks put there, and one process
  that settles a batch and claims the next in one step until nothing is left;
- ``HandOver(url)``, servers' alone: a context manager whose ``send(number)`` stores a number
  durably, and whose ``take()``, after a ``wait()``, claims the next one the moment it is there.

All but SQLite's write to the server in BENCH_BROKER_URL; SQLite's beside the file named there.
"""

from __future__ import annotations

import importlib
import time
from types import ModuleType

import msgspec

from acked.message import Message, encode, new_id

BATCH = 100


def engine(name: str) -> ModuleType:
    """The module of engine *name*. Imported when asked for: its client is its own matter."""
    return importlib.import_module(f"benchmarks.engines.{name}")


def row_bytes(name: str, url: str) -> int:
    """What acked stores of a measured task: its whole row in SQLite, its message on a server."""
    if name == "sqlite":
        measured: int = engine(name).row_bytes(url)
        return measured
    message = Message(
        id=new_id(), task="benchmarks.apps.acked_app.noop", args=msgspec.Raw(b"[100000]"),
        sent=time.time(),
    )  # fmt: skip
    return len(encode(message))
