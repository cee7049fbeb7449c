"""Processes that drain an engine together, begun at the same moment::

python -m benchmarks.engines.crew ENGINE URL START
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.engines import engine

_DRAIN_SECONDS = 120.0


def drain_rate(name: str, url: str, *, count: int, row_bytes: int, processes: int) -> float:
    """Tasks a second that *processes* processes drain together from engine *name*."""
    engine(name).seed(url, count=count, row_bytes=row_bytes)
    start = time.monotonic_ns() + 1_000_000_000
    command = [sys.executable, "-m", "benchmarks.engines.crew", name, url, str(start)]
    crew = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    try:
        said: list[dict[str, int]] = [
            json.loads(member.communicate(timeout=_DRAIN_SECONDS)[0]) for member in crew
        ]
    finally:
        for member in crew:
            member.kill()
            member.wait()
    if sum(one["done"] for one in said) != count:
        raise RuntimeError(f"the engine drained {said} of {count}")
    nanoseconds = max(one["ended"] for one in said) - min(one["began"] for one in said)
    return float(count * 1e9 / nanoseconds)


def main() -> None:
    name, url, start = sys.argv[1:]
    print(json.dumps(engine(name).drain(url, start_at_ns=int(start))))


if __name__ == "__main__":
    main()
