"""How much memory processes have, as Linux tells it."""

from __future__ import annotations

import contextlib
import os


def resident_kib(pid: int) -> int:
    """Resident memory of process *pid* in KiB; 0 where it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * (os.sysconf("SC_PAGESIZE") // 1024)
    return 0
