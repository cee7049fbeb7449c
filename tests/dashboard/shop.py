"""The application of the dashboard's tests: tasks whose end a test decides."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from acked import Acked, Task

app = Acked(
    "shop", broker=os.environ.get("DASHBOARD_BROKER", "memory://"),
    results=os.environ.get("DASHBOARD_RESULTS") or None,
)  # fmt: skip
logger = logging.getLogger(__name__)


@app.task(name="shop.scan", bind=True, max_retries=2, autoretry_for=(ConnectionError,),
          default_retry_delay=0.1, retry_jitter=False)  # fmt: skip
def scan(self: Task[..., Any], url: str, password: str = "") -> str:
    """Scan one address."""
    logger.warning("scanning %s", url)
    if "refuses" in url:
        raise ConnectionError(f"{url} refused connection 17")
    if "wrong" in url:
        raise ValueError(f"no such page: {url!r}")
    return f"scanned {url}"


@app.task(name="shop.pack", bind=True)
def pack(self: Task[..., Any], gate: str, items: int = 4) -> int:
    """Pack, item by item, when the test says so."""
    for done in range(items):
        self.progress(done, items, "Packing")
        while not Path(gate).exists():
            time.sleep(0.01)
    return items


@app.task(name="shop.mail", queue="mails", acks_late=False, time_limit=30)
def mail(to: str, subject: str, *, token: str = "") -> None:
    """Send a mail."""
