"""The history of a run: one append-only file that every process of a test writes to.

Each line is in the kernel before the call continues (``O_APPEND``, one ``write``), so that it
survives the SIGKILL of whoever wrote it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

VARIABLE = "ACKED_TEST_HISTORY"
NOTED = {"ACKED_TEST_PATH": str(Path(__file__).with_name("noted_settlements"))}
"""The environment of workers that write down what they are given and what they settle, and with
which tokens."""


def note(event: str, **facts: Any) -> None:
    """Append one line to the history named by the environment."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = {
        "event": event, "at": time.monotonic(), "wall": time.time(), "pid": os.getpid(),
        "thread": threading.get_ident(), **facts,
    }  # fmt: skip
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def read(path: Path, *, last: int | None = None) -> list[dict[str, Any]]:
    """Every line, in the order it was written; but one that is being written.

    Args:
        path: The file.
        last: Only those among this many bytes at its end, for who has no time to read a long one.
    """
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        begin = 0 if last is None else max(0, size - last)
        file.seek(begin)
        whole, _, _ = file.read().rpartition(b"\n")
    if begin:
        _, _, whole = whole.partition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]
