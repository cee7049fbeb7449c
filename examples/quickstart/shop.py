"""The five-minute start of the README: send a task, and run it with ``acked worker shop:app``."""

import time

from acked import Acked

app = Acked("shop")


@app.task
def receipt(order: int, prices: list[float]) -> str:
    time.sleep(1)  # the slow part
    return f"Order {order}: {sum(prices):.2f}"


if __name__ == "__main__":
    sent = receipt.delay(17, [4.5, 12.25])
    print("sent", sent.id)
    print(sent.get(timeout=60))
