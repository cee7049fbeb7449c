"""A task that lowers the priority of its thread (``os.nice``) lowers it for itself alone.

Linux keeps the nice value per thread, so every later task of that thread would have it. And on
SQLite, whoever writes with little claim to the processor keeps the write lock meanwhile, and all
other processes waiting, their renewals of leases among them.
"""

from __future__ import annotations

import contextlib
import os
import threading


class Priority:
    """The nice value that this thread has now, for itself and for acked's others in the process."""

    def __init__(self) -> None:
        self._first = self._now(0)

    def restore(self) -> bool:
        """Give the thread that calls this that priority again, and with it those threads of acked's
        that it has started; whether it has it.

        To raise a priority needs a right (``CAP_SYS_NICE`` or ``RLIMIT_NICE``).
        """
        if self._now(0) <= self._first:
            return True
        try:
            self._raise(0)
            # Not by `native_id`: after a fork the main thread has that of its parent's.
            self._raise(os.getpid())
            for thread in threading.enumerate():
                if thread.name.startswith("acked-") and thread.native_id is not None:
                    with contextlib.suppress(ProcessLookupError):
                        self._raise(thread.native_id)
        except PermissionError:
            return False
        return True

    def _raise(self, thread: int) -> None:
        if self._now(thread) > self._first:
            os.setpriority(os.PRIO_PROCESS, thread, self._first)

    @staticmethod
    def _now(thread: int) -> int:
        return os.getpriority(os.PRIO_PROCESS, thread)
