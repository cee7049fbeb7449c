"""Runs a Python module twice, for queues whose worker is one process::

python -m benchmarks.twice MODULE ARGUMENT...
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def main() -> int:
    command = [sys.executable, "-m", *sys.argv[1:]]
    crew = [subprocess.Popen(command) for _ in range(2)]

    def stop(*_: object) -> None:
        for member in crew:
            member.terminate()

    signal.signal(signal.SIGTERM, stop)
    _, status = os.wait()
    stop()
    for member in crew:
        member.wait()
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
