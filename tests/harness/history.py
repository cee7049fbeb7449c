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


def read(path: Path) -> list[dict[str, Any]]:
    """Every line, in the order it was written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
