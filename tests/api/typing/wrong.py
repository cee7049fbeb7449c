"""Calls that type checkers must refuse: every line that ends in ``# wrong``, and no other."""

from typing import Any

from acked import Acked, AsyncResult, Task

app = Acked("shop", broker="memory://")


@app.task
def scan(url: str, depth: int = 1) -> dict[str, int]:
    return {url: depth}


@app.task(bind=True)
def fetch(self: Task[..., Any], url: str) -> bytes:
    return url.encode()


@app.task
async def ping(host: str) -> float:
    return float(len(host))


scan.delay(1)  # wrong
scan.delay()  # wrong
scan.delay("a", "b")  # wrong
scan.delay("a", 1, 2)  # wrong
scan.delay("a", dept=2)  # wrong
scan.delay(url=b"a")  # wrong
scan(1)  # wrong
scan.si()  # wrong
fetch.delay()  # wrong
fetch.delay(None, "a")  # wrong
fetch.delay("a", "b")  # wrong
ping.delay(5)  # wrong

number: int = scan.delay("a").get()  # wrong
result: AsyncResult[str] = fetch.delay("a")  # wrong
speed: float = ping("a")  # wrong
text: str = fetch("a")  # wrong
scan.max_retries.bit_length()  # wrong
scan.dealy("a")  # wrong


@app.task(max_retrys=3)  # wrong
def one() -> None: ...


@app.task(soft_time_limit="5")  # wrong
def two() -> None: ...


@app.task(bind=True)  # wrong
def three() -> None: ...


async def use() -> None:
    count: int = await ping.delay("a")  # wrong
    await scan.adelay(1)  # wrong
    await scan.adelay("a").get()  # wrong
    assert count
