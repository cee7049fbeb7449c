"""Pages on a broker in memory, without a server, and what their visitors ask of them."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from acked import Acked
from acked.pages import TaskPages
from tests.pages.staging import Stage

SECRET = "k" * 32
SAME = {"sec-fetch-site": "same-origin"}


class Site:
    """Pages on a broker in memory, mounted under a path, and a browser's requests to them."""

    def __init__(self, **options: Any) -> None:
        self.app = Acked("pages", broker="memory://")
        self.stage = Stage(self.app)
        options = {"secrets": [SECRET], "path": "/a/b", **options}
        self.pages = TaskPages(self.app, **options)
        mounted = Starlette(routes=[Mount("/a/b", self.pages)])
        self.client = TestClient(mounted, follow_redirects=False)

    def url(self, task_id: str, *allow: str, label: str = "", lasts: float = 60.0) -> str:
        return self.pages.url_for(task_id, allow=allow, label=label, lasts=lasts)

    def token(self, task_id: str, *allow: str, label: str = "") -> str:
        return self.pages.token_for(task_id, allow=allow, label=label)

    def states(self, *tokens: str) -> list[dict[str, Any]]:
        answer = self.client.post("/a/b/states", json={"tokens": tokens}, headers=SAME)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    def events(self, *tokens: str) -> list[dict[str, Any]]:
        """What a stream sends until it ends."""
        answer = self.client.post("/a/b/events", json={"tokens": tokens}, headers=SAME)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields = [line for line in answer.text.splitlines() if line.startswith("data: ")]
        return [json.loads(line.removeprefix("data: ")) for line in fields]


def words_of(page: str) -> str:
    """The text of a page, without its markup."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())
