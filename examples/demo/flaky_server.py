"""A small HTTP server that misbehaves like real ones.

``python flaky_server.py SEED`` prints its port and serves 127.0.0.1 until its input ends.

``GET /site/17`` gets zero to three troubles first: 503 with Retry-After, a connection reset, a
hang, a 500. Then it answers 200 with JSON, however often it is asked. Which troubles, is
drawn from the seed and the path: the same in each run, whoever asks and in whatever order.
"""

import hashlib
import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER_SECONDS = 0.05
HANG_SECONDS = 20.0


class Trouble(Enum):
    BUSY = "503 with Retry-After"
    RESET = "connection reset"
    ERROR = "500"
    HANG = "no answer"


# Hangs are rarer: each costs a task its whole soft time limit.
WEIGHTS = {Trouble.BUSY: 5, Trouble.RESET: 4, Trouble.ERROR: 4, Trouble.HANG: 1}


def troubles(seed: str, path: str) -> list[Trouble]:
    """What goes wrong at *path* before it goes right."""
    dice = random.Random(f"{seed}:{path}")
    how_many = dice.choices((0, 1, 2, 3), (4, 3, 2, 1))[0]
    return dice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=how_many)


def report(path: str) -> dict[str, str]:
    """The right answer for *path*, which the demo compares with what the tasks returned."""
    return {"path": path, "fingerprint": hashlib.sha256(path.encode()).hexdigest()[:16]}


class Sites:
    """Counts the visits to each path and says what goes wrong this time."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._visits: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next_trouble(self, path: str) -> Trouble | None:
        """The trouble of this visit to *path*; None once all of them are over."""
        with self._lock:
            visit = self._visits[path]
            self._visits[path] += 1
        ahead = troubles(self._seed, path)
        return ahead[visit] if visit < len(ahead) else None


class FlakyServer(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet about callers that were killed in the middle of a call; others are bugs."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    sites: Sites

    def do_GET(self) -> None:
        match self.sites.next_trouble(self.path):
            case Trouble.BUSY:
                self.send_response(503)
                self.send_header("Retry-After", "1")
                self.end_headers()
            case Trouble.RESET:
                # Lingering for no time at all makes `close` send RST instead of FIN.
                at_once = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                self.connection.close()
            case Trouble.ERROR:
                self.send_response(500)
                self.end_headers()
            case Trouble.HANG:
                time.sleep(HANG_SECONDS)
            case None:
                time.sleep(ANSWER_SECONDS)
                body = json.dumps(report(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Stay quiet: the demo tells the story."""


def main() -> None:
    Handler.sites = Sites(sys.argv[1])
    server = FlakyServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    # Whoever started it holds the other end: when that is gone, so is this.
    sys.stdin.read()


if __name__ == "__main__":
    main()
