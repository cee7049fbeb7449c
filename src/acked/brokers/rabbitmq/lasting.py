"""Work that takes longer than some callers wait, and goes on without them: `Lasting`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Lasting(Generic[T]):
    """Work that is done once at a time, however many wait for it. Lives on one event loop.

    Args:
        work: Begins it.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it is being done."""
        return self._task is not None and not self._task.done()

    async def done(self) -> T:
        """What comes of the work that is being done, or of new work; raises what that raises."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
            self._task.add_done_callback(_heard)
        return await asyncio.shield(self._task)


def _heard(task: asyncio.Task[Any]) -> None:
    """Whoever has waited for it knows; asyncio complains of an error that nobody has seen."""
    if not task.cancelled():
        task.exception()
