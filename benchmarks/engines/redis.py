"""Redis' own limit, reached by redis-py with hiredis and one Lua script.

``ready`` is a list of ids, ``leased`` a hash from id to token, ``task:ID`` a string: the body
while the task waits and runs, the body and its outcome once it is done, since acked keeps records.
"""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any, Self

import redis

from benchmarks.engines import BATCH

_SEEDED_AT_ONCE = 10_000
_STEP = """
local held, settled = {}, {}
local outcome, token, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
for n = 4, #ARGV do
  local id = ARGV[n]
  held[#held + 1] = id
  redis.call('APPEND', 'task:' .. id, outcome)
end
if #held > 0 then redis.call('HDEL', 'leased', unpack(held)) end
local claimed = redis.call('LPOP', 'ready', limit)
if not claimed then return {} end
local keys, leases = {}, {}
for n, id in ipairs(claimed) do
  keys[n] = 'task:' .. id
  leases[2 * n - 1] = id
  leases[2 * n] = token
end
redis.call('HSET', 'leased', unpack(leases))
return {claimed, redis.call('MGET', unpack(keys))}
"""


class SerialWrites:
    """One task a call: its record and its place in the list, in one round trip."""

    def __init__(self, row_bytes: int) -> None:
        self._client: Any = redis.Redis.from_url(os.environ["BENCH_BROKER_URL"])
        self._add = self._client.register_script(
            "redis.call('SET', KEYS[1], ARGV[1]) redis.call('RPUSH', KEYS[2], KEYS[1])"
        )
        self._body = b"x" * row_bytes
        self._number = 0

    def write(self) -> None:
        """Add one task; in Redis, and in the append-only file's buffer, when it returns."""
        self._number += 1
        self._add(keys=[f"engine:{self._number}", "engine:ready"], args=[self._body])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._client.close()


class HandOver:
    """A list, and one who waits at its end."""

    def __init__(self, url: str) -> None:
        self._client: Any = redis.Redis.from_url(url, socket_timeout=None)

    def send(self, number: int) -> None:
        self._client.rpush("engine:handover", number)

    def wait(self) -> None:
        self._client.ping()

    def take(self) -> int:
        return int(self._client.blpop("engine:handover")[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._client.close()


def seed(url: str, *, count: int, row_bytes: int) -> None:
    """*count* tasks to drain."""
    client: Any = redis.Redis.from_url(url)
    body = b"x" * row_bytes
    for first in range(0, count, _SEEDED_AT_ONCE):
        ids = range(first, min(first + _SEEDED_AT_ONCE, count))
        client.mset({f"task:{number}": body for number in ids})
        client.rpush("ready", *ids)
    client.close()


def drain(url: str, *, start_at_ns: int) -> dict[str, int]:
    """Finish a batch and claim the next in one call, until nothing is left.

    Args:
        start_at_ns: Begin at this moment of `time.monotonic_ns`, so that processes start together.
    """
    client: Any = redis.Redis.from_url(url)
    step = client.register_script(_STEP)
    time.sleep(max(0.0, (start_at_ns - time.monotonic_ns()) / 1e9))
    began = time.monotonic_ns()
    done = token = 0
    held: list[bytes] = []
    while True:
        done += len(held)
        token += 1
        found = step(args=["null", token, BATCH, *held])
        if not found:
            return {"done": done, "began": began, "ended": time.monotonic_ns()}
        held = found[0]
