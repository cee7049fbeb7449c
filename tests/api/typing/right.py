"""Calls that type checkers must accept, each with the type it has."""

from collections.abc import Coroutine
from typing import Any, assert_type

from acked import Acked, AsyncResult, Signature, Task

app = Acked("shop", broker="memory://")


@app.task
def scan(url: str, depth: int = 1) -> dict[str, Any]:
    return {"url": url, "depth": depth}


@app.task(bind=True, max_retries=None, soft_time_limit=540, time_limit=600)
def fetch(self: Task[..., Any], url: str) -> bytes:
    if self.request.retries:
        raise self.retry(countdown=15)
    for row in self.track([1, 2]):
        assert_type(row, int)
    self.progress(1, 2, "half")
    return url.encode()


@app.task(queue="slow", autoretry_for=(OSError,), retry_backoff=True, expires=60)
def count(*rows: int, fast: bool = False) -> int:
    return len(rows) if fast else 0


@app.task
async def ping(host: str) -> float:
    return float(len(host))


@app.task(bind=True, name="pong")
async def pong(self: Any, host: str) -> float:
    return float(len(host))


class Base(Task[..., Any]):
    max_retries = 5

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        assert task_id, exc


@app.task(base=Base, bind=True)
def based(self: Base, n: int) -> str:
    return str(n)


assert_type(scan("a"), dict[str, Any])
assert_type(scan.delay("a"), AsyncResult[dict[str, Any]])
assert_type(scan.delay("a", depth=2).get(timeout=5), dict[str, Any])
assert_type(scan.apply_async(("a",), countdown=5), AsyncResult[dict[str, Any]])
assert_type(scan.apply(("a",)).get(), dict[str, Any])
assert_type(scan.delay_many([("a",), ("b",)]), list[AsyncResult[dict[str, Any]]])
assert_type(scan.si("a", 2), Signature[dict[str, Any]])
assert_type(scan.s().delay("a"), AsyncResult[dict[str, Any]])
assert_type(scan.max_retries, int | None)

assert_type(fetch.delay("a"), AsyncResult[bytes])
assert_type(fetch("a"), bytes)
assert_type(count.delay(1, 2, fast=True), AsyncResult[int])
assert_type(based.delay(3), AsyncResult[str])

assert_type(ping.delay("a"), AsyncResult[float])
called: Coroutine[Any, Any, float] = ping("a")
assert_type(pong.delay("a"), AsyncResult[float])
assert_type(app.send_many([ping.si("a"), pong.si("b")]), list[AsyncResult[float]])


async def use() -> None:
    assert_type(await scan.adelay("a"), AsyncResult[dict[str, Any]])
    assert_type(await scan.s().aapply_async(("a",)), AsyncResult[dict[str, Any]])
    assert_type(await app.asend_many([ping.si("a"), pong.si("b")]), list[AsyncResult[float]])
    assert_type(await app.asend_task("scan", ("a",)), AsyncResult[Any])
    assert_type(await scan.delay("a"), dict[str, Any])
    assert_type(await ping.delay("a"), float)
    assert_type(await ping("a"), float)
    assert_type(await (await pong.adelay("a")).aget(timeout=1), float)
