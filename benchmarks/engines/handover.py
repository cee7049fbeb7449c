"""From one process to another that waits, through an engine alone, at an even pace::

python -m benchmarks.engines.handover ENGINE URL COUNT

is the one that waits; it prints a line when it does, and then how long each task took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.engines import engine

_SECONDS = 60.0


def hand_over(name: str, url: str, *, count: int, per_second: int) -> list[float]:
    """Milliseconds from before the write to the other side, *count* times."""
    command = [sys.executable, "-m", "benchmarks.engines.handover", name, url, str(count)]
    with engine(name).HandOver(url) as sender:
        other = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert other.stdout is not None
            other.stdout.readline()
            next_at = time.monotonic()
            for _ in range(count):
                next_at += 1 / per_second
                time.sleep(max(0.0, next_at - time.monotonic()))
                sender.send(time.monotonic_ns())
            said = other.communicate(timeout=_SECONDS)[0]
        finally:
            other.kill()
            other.wait()
    if not said:
        raise RuntimeError(f"the other side of {name} failed")
    waits: list[float] = json.loads(said)
    return waits


def main() -> None:
    name, url, count = sys.argv[1:]
    waits = []
    with engine(name).HandOver(url) as receiver:
        receiver.wait()
        print("waiting", flush=True)
        for _ in range(int(count)):
            sent = receiver.take()
            waits.append((time.monotonic_ns() - sent) / 1e6)
    print(json.dumps(waits))


if __name__ == "__main__":
    main()
