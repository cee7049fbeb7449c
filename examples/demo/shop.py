"""The demo's task: ask a site for its report, again and again, until there is one."""

from typing import Any

import requests

from acked import Acked, SoftTimeLimitExceeded, Task

app = Acked("shop")


@app.task(bind=True, soft_time_limit=1, time_limit=3, max_retries=None)
def scan(self: Task[..., Any], data: dict[str, Any]) -> dict[str, str]:
    try:
        response = requests.get(data["url"], headers=data["headers"], timeout=30)
    except (requests.ConnectionError, SoftTimeLimitExceeded) as error:
        raise self.retry(countdown=0.2, exc=error) from error
    if response.status_code >= 400:
        raise self.retry(countdown=float(response.headers.get("Retry-After", 0.2)))
    report: dict[str, str] = response.json()
    return report
