"""A task that lowers the priority of its thread (``os.nice``) lowers it for itself alone.

Linux keeps the nice value per thread, so every later task of that thread would have it. And on
SQLite, whoever writes with little claim to the processor keeps the write lock meanwhile, and all
other processes waiting, their renewals of leases among them.
"""

from __future__ import annotations

import os


class Priority:
    """The nice value that this thread has now, for itself and for the others of its process."""

    def __init__(self) -> None:
        self._first = self._now()

    def restore(self) -> bool:
        """Give the thread that calls this that priority again; whether it has it.

        To raise a priority needs a right (``CAP_SYS_NICE`` or ``RLIMIT_NICE``).
        """
        if self._now() <= self._first:
            return True
        try:
            os.setpriority(os.PRIO_PROCESS, 0, self._first)
        except PermissionError:
            return False
        return True

    @staticmethod
    def _now() -> int:
        return os.getpriority(os.PRIO_PROCESS, 0)
