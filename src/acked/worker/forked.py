"""Children that a task forks: SIGTERM ends them, as it ends any process.

A task process takes SIGTERM for the wish that it finishes what it runs. A child inherits that
handler, and whoever sends it SIGTERM waits for its end: `multiprocessing` does, when it terminates
a process or leaves ``with Pool()``.
"""

from __future__ import annotations

import os
import signal
import threading
import types
from collections.abc import Callable

Handler = Callable[[int, types.FrameType | None], None]


def end_by(number: signal.Signals, handler: Handler) -> None:
    """Have what is forked from now on take signal *number* as by default, where *handler* would
    take it."""
    before = threading.local()

    # Blocked meanwhile: in a child, Python forgets what came before its own handlers are in place.
    def block() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {number})

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def begin() -> None:
        if signal.getsignal(number) == handler:
            signal.signal(number, signal.SIG_DFL)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=begin)
