"""How the soft time limit reaches a task, in each place where a task can run.

The hard limit needs nothing of the process: the supervisor reads the deadline from the presence
file and kills.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from acked import shield
from acked.errors import SoftTimeLimitExceeded


class Alarm:
    """The main thread's soft limit: SIGALRM, whose handler raises in the running task."""

    def __init__(self) -> None:
        self._armed = False
        self._thread = threading.get_ident()

    def start(self, seconds: float) -> None:
        # Again each time: the task before may have taken the signal for itself.
        signal.signal(signal.SIGALRM, self._ring)
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def stop(self) -> None:
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        shield.forget(self._thread)

    def _ring(self, number: int, frame: types.FrameType | None) -> None:
        if self._armed and not shield.put_off(self._thread):
            raise SoftTimeLimitExceeded


def raise_in_thread(thread: int) -> None:
    """Raise `SoftTimeLimitExceeded` in *thread* at its next bytecode (a blocking call ends first).

    `PyThreadState_SetAsyncExc` is CPython's own way to do it (C API, "Thread state").
    """
    if not shield.put_off(thread):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread), ctypes.py_object(SoftTimeLimitExceeded)
        )


class _InCoroutine(SoftTimeLimitExceeded, asyncio.CancelledError):
    """The soft limit as a coroutine sees it: a cancellation as well, since that is what
    `asyncio.TaskGroup` and `asyncio.wait_for` wait for to cancel what they have started."""


_InCoroutine.__name__ = _InCoroutine.__qualname__ = SoftTimeLimitExceeded.__qualname__
_InCoroutine.__module__ = SoftTimeLimitExceeded.__module__


@types.coroutine
def with_soft_limit(
    coroutine: Coroutine[Any, Any, Any], passed: Callable[[], bool]
) -> Generator[Any, Any, Any]:
    """Await *coroutine*; where its asyncio task is cancelled for the soft limit, the coroutine
    sees `SoftTimeLimitExceeded` instead, which it may catch.

    Args:
        coroutine: The task's coroutine.
        passed: Whether the cancellation that just came is the soft limit's; asked once for each.
    """
    error: BaseException | None = None
    value: Any = None
    while True:
        try:
            waits_for = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value
        value, error = None, None
        try:
            value = yield waits_for
        except asyncio.CancelledError as cancelled:
            if passed():
                task = asyncio.current_task()
                if task is not None:
                    task.uncancel()
                error = _InCoroutine()
            else:
                error = cancelled
        except BaseException as other:
            error = other
