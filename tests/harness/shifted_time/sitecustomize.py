"""Loaded by every Python process of a worker under test: a wall clock that can be set.

The offset in seconds stands in a file, so that a test sets the clock of running processes, as an
operator or NTP would. The steady clocks are left alone, as the kernel leaves them.
"""

import os
import time

_real = time.time
_file = os.environ["ACKED_TEST_CLOCK"]


def _shifted() -> float:
    try:
        with open(_file, encoding="ascii") as file:
            return _real() + float(file.read() or 0)
    except (OSError, ValueError):
        return _real()


time.time = _shifted
