"""A process that sends tasks one by one and writes down what came of each call.

Of those whose sending raised, every second is sent again under the same id until that returns; the
others are left as they are, stored or not.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from acked.errors import BrokerError
from tests.harness.history import note
from tests.harness.workers import ROOT, search_path

AGAIN_FOR = 60.0
"""Seconds for which a task is sent again."""


class Producer:
    """The process, from the test's side.

    Args:
        name: Begins the id of every task it sends.
        count: How many it sends.
        pause: Seconds between two of them.
        countdown: Seconds each task is put off.
        prefix: The command that runs it in its own place, such as ``ip netns exec``.
    """

    def __init__(
        self, name: str, count: int, pause: float, *, environment: dict[str, str], log: Path,
        countdown: float = 0.0, prefix: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._file = log.open("ab")
        self._log = log
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.harness.producer", name, str(count), str(pause),
             str(countdown)],
            env={**os.environ, **environment, "PYTHONPATH": search_path(environment)},
            stdout=self._file, stderr=self._file, cwd=ROOT,
        )  # fmt: skip

    def wait(self, within: float) -> None:
        """Until it has sent everything."""
        code = self.process.wait(within)
        assert code == 0, f"a producer failed: {self._log.read_text()[-4000:]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.process.kill()
        self.process.wait(10)
        self._file.close()


def main(name: str, count: int, pause: float, countdown: float) -> None:
    from tests.harness import shop

    with contextlib.suppress(BrokerError):
        shop.app.open()
    for number in range(count):
        task = f"{name}-{number}"
        began = time.monotonic()
        try:
            shop.work.apply_async((0.001,), task_id=task, countdown=countdown)
        except BrokerError as error:
            took = time.monotonic() - began
            note("unsent", task=task, took=took, error=type(error).__name__, text=str(error))
            if number % 2:
                _send_again(shop, task)
        else:
            note("sent", task=task, took=time.monotonic() - began)
        time.sleep(pause)


def _send_again(shop: Any, task: str) -> None:
    deadline = time.monotonic() + AGAIN_FOR
    while time.monotonic() < deadline:
        time.sleep(0.1)  # between two tries
        began = time.monotonic()
        try:
            shop.work.apply_async((0.001,), task_id=task)
        except BrokerError as error:
            took = time.monotonic() - began
            note("unsent", task=task, took=took, error=type(error).__name__, text=str(error))
        else:
            note("sent", task=task, took=time.monotonic() - began)
            return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
