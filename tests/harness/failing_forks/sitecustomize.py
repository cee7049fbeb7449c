"""A fork server that cannot always fork, and whose application has left a thread running.

While there is a file `FAILING_FORKS`, what it says happens instead: ``scarce`` as where the kernel
has no room for another process, ``bug``, an error nobody foresaw, or ``hang``.
"""

import errno
import os
import sys
import threading
import time
from pathlib import Path

if "acked.worker.template" in sys.orig_argv:
    fork, says = os.fork, Path(os.environ["FAILING_FORKS"])

    def failing() -> int:
        what = says.read_text() if says.exists() else ""
        if what:
            print(f"this fork is to fail: {what}", file=sys.stderr, flush=True)
        if what == "scarce":
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if what == "bug":
            raise RuntimeError("nobody foresaw this")
        if what == "hang":
            time.sleep(3600)
        return fork()

    os.fork = failing
    threading.Thread(target=time.sleep, args=(3600,)).start()
