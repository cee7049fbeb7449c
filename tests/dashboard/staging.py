"""A shop with a day behind it, made by a broker's own operations, without a worker."""

from __future__ import annotations

import json
import random
import time

import msgspec
from msgspec import Raw

from acked import Acked
from acked.broker import Beat
from acked.delivery import Delivery, Failure, Settlement
from acked.message import Message, new_id
from acked.record import Progress
from acked.tally import Count, bucket_of
from tests.harness.workers import until

CANARY = "canary-7f3a"
"""Stands wherever a secret is, and may be on no page."""

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202e\x1b[31m"

TRACE = """Traceback (most recent call last):
  File "/srv/shop/scans.py", line 41, in scan
    response = session.get(url, timeout=30)
  File "/srv/shop/http.py", line 17, in get
    raise ConnectionError(f"{url} did not answer within {timeout} s")
ConnectionError: https://shop.example/orders/4711 did not answer within 30 s
"""
LOG = """12:01:02 INFO shop.scans: scanning https://shop.example/orders/4711
12:01:02 INFO shop.http: connection 3 of 8
12:01:32 WARNING shop.http: no answer, giving up
"""


class Past:
    """A clock that can be set back for a moment, to send and claim what was claimed long ago."""

    def __init__(self) -> None:
        self.ago = 0.0

    def now(self) -> float:
        return time.time() - self.ago

    def steady(self) -> float:
        return time.monotonic()


class Shop:
    """Tasks of *app*, in any state, sent and ended whenever is wanted.

    Args:
        app: Made with ``clock=Past()``.
    """

    def __init__(self, app: Acked) -> None:
        self.app = app
        self.store = app.broker
        # Without it, everything was claimed just now.
        self.clock = app.clock if isinstance(app.clock, Past) else Past()

    @property
    def now(self) -> float:
        return time.time()

    def beat(self, worker: str, *queues: str, memory: int = 212_000, processes: int = 4,
             lease: float = 86_400.0) -> None:  # fmt: skip
        self.store.renew(
            Beat(
                worker=worker, host=worker.partition(".")[0], pid=4711, started=self.now - 7_300,
                queues=queues, processes=processes, memory=memory, lease=lease,
            )
        )  # fmt: skip

    def send(self, task: str, *args: object, ago: float = 0.0, queue: str = "default",
             task_id: str = "", eta: float | None = None, **kwargs: object) -> str:  # fmt: skip
        message = Message(
            id=task_id or new_id(), task=task, args=Raw(json.dumps(args).encode()),
            kwargs=Raw(json.dumps(kwargs).encode()), queue=queue, sent=self.now - ago, eta=eta,
        )  # fmt: skip
        self.clock.ago = ago
        self.store.send([message])
        self.clock.ago = 0.0
        return message.id

    def claim(self, task_id: str, worker: str = "box-1.77.a/0", ago: float = 0.0) -> Delivery:
        """Everything before it in its queue is claimed and given back."""
        self.clock.ago = ago
        try:
            return self._claim(task_id, worker)
        finally:
            self.clock.ago = 0.0

    def _claim(self, task_id: str, worker: str) -> Delivery:
        record = self.store.get(task_id)
        assert record is not None
        queues = [record.queue]
        while True:
            # A server may take a moment to hand over what was just sent.
            (held,) = until(
                lambda: self.store.claim(worker, queues, 1).deliveries, what="a delivery"
            )
            if held.id == task_id:
                return held
            later = Settlement.postponed(held, at=self.now, not_before=self.now, reason="")
            self.store.settle([later])

    def done(self, task: str, *args: object, took: float = 1.2, ago: float = 5.0,
             result: object = None, **kwargs: object) -> str:  # fmt: skip
        sent = self.send(task, *args, ago=ago + took, **kwargs)
        held = self.claim(sent, ago=ago + took)
        settled = Settlement.succeed(
            held, at=self.now - ago, started=self.now - ago - took,
            result=json.dumps(result).encode(),
        )  # fmt: skip
        assert self.store.settle([settled]) == []
        return held.id

    def failed(self, task: str, *args: object, failure: Failure, ago: float = 60.0,
               task_id: str = "", log: str = "", loss: bool = False,
               **kwargs: object) -> str:  # fmt: skip
        sent = self.send(task, *args, ago=ago + 2, task_id=task_id, **kwargs)
        held = self.claim(sent, ago=ago + 2)
        settled = Settlement.fail(held, at=self.now - ago, started=self.now - ago - 2,
                                  failure=failure, loss=loss)  # fmt: skip
        assert self.store.settle([with_log(settled, log)]) == []
        return held.id

    def retried(self, task: str, *args: object, failure: Failure, wait: float = 30.0,
                times: int = 1, log: str = LOG, **kwargs: object) -> str:  # fmt: skip
        task_id = self.send(task, *args, ago=100.0 * times, **kwargs)
        for number in range(times, 0, -1):
            began = self.now - 100.0 * number
            held = self.claim(task_id, ago=100.0 * number)
            if number == 2:
                lost = Failure("WorkerLostError", "its worker box-2.90.b was lost (signal 9)")
                settled = Settlement.lost(
                    held, at=began + 12, started=began, failure=lost, not_before=None
                )  # fmt: skip
            else:
                settled = Settlement.retry(
                    held, at=began + 30, started=began, failure=failure,
                    not_before=self.now + wait if number == 1 else began + 95,
                    reason=f"retry: {failure}",
                )  # fmt: skip
            assert self.store.settle([with_log(settled, log)]) == []
        return task_id

    def running(self, task: str, *args: object, worker: str = "box-1.77.a/0", done: float = 0,
                total: float = 0, message: str = "", **kwargs: object) -> str:  # fmt: skip
        task_id = self.send(task, *args, ago=20, **kwargs)
        held = self.claim(task_id, worker, ago=19.0)
        if message:
            at = self.now
            progress = Progress(done=done, total=total, message=message, at=at)
            assert self.store.report(task_id, held.token, progress)
        return task_id


def with_log(settlement: Settlement, log: str) -> Settlement:
    return msgspec.structs.replace(settlement, log=log)


def open_shop(app: Acked, *, minutes: int = 1440) -> Shop:
    """A shop with something in every state, and a day of counters."""
    shop = Shop(app)
    shop.beat("box-1.77.a", "default", "mails")
    shop.beat("box-2.90.b", "default", memory=189_000)
    dice = random.Random(7)
    away = Failure("shop.errors.Away", "https://shop.example/orders/4711 did not answer", TRACE)
    for number in range(9):
        failure = Failure(
            "ConnectionError",
            f"https://shop.example/orders/{dice.randrange(10_000)} did not answer within 30 s",
            TRACE,
        )
        shop.failed("shop.scan", f"https://shop.example/orders/{number}", failure=failure,
                    ago=3000 - 300 * number, log=LOG, password=CANARY)  # fmt: skip
    for number in range(3):
        failure = Failure("KeyError", f"'sku-{number}'", "Traceback: KeyError")
        shop.failed("shop.import_orders", {"file": f"orders-{number}.csv", "api_key": CANARY},
                    failure=failure, ago=400 + number)  # fmt: skip
    lost = "its worker box-2.90.b was lost (signal 9); poison: it took its worker 3 times"
    shop.failed("shop.resize", 77, failure=Failure("WorkerLostError", lost), loss=True,
                ago=900)  # fmt: skip
    refused = Failure("smtplib.SMTPRecipientsRefused", f"password={CANARY}")
    shop.failed("shop.mail", "ada@example.org", "Hello", token=CANARY, ago=2000, failure=refused)
    for number in range(24):
        shop.done(
            "shop.mail" if number % 3 else "shop.resize", number, took=dice.random() * 3,
            ago=5.0 * (24 - number), result={"ok": True, "bytes": 10**18 + number},
        )  # fmt: skip
    shop.running("shop.import_orders", "orders-2026-11.csv", done=1_290, total=3_000,
                 message="Importing orders")  # fmt: skip
    shop.running("shop.resize", 4712, worker="box-2.90.b/1")
    shop.retried("shop.scan", "https://shop.example/orders/4711", failure=away, times=3,
                 password=CANARY)  # fmt: skip
    shop.send("shop.report", eta=shop.now + 3 * 3600, month="2026-11")
    for number in range(5):
        shop.send("shop.mail", f"user-{number}@example.org", "Hello", queue="mails", ago=40)
    app.records.pause("mails")
    shop.send("shop.scan", "https://shop.example/", ago=3)
    shop.store.send([Message(id=new_id(), task="shop.scan", sent=shop.now, expires=shop.now)])
    gone = shop.send("shop.scan", "https://shop.example/gone")
    app.records.revoke([gone])
    count(app, dice, minutes)
    return shop


def count(app: Acked, dice: random.Random, minutes: int) -> None:
    """Counters as so much work leaves them."""
    now = int(app.clock.now() // 60)
    busy = {"shop.scan": 40, "shop.mail": 90, "shop.resize": 25, "shop.import_orders": 2}
    counts: list[Count] = []
    for ago in range(minutes):
        trouble = 20 < ago < 28
        for task, rate in busy.items():
            done = max(1, int(dice.gauss(rate, rate / 6)))
            rows = {"success": done, "failure": int(dice.random() < 0.06) + 2 * trouble,
                    "retry": int(dice.random() * rate / 12) + 9 * trouble,
                    "loss": int(dice.random() < 0.01) + (ago == 24)}  # fmt: skip
            for _ in range(6):
                for what, middle in (("run", 0.02 * (200 / rate)), ("wait", 0.01)):
                    bucket = bucket_of(middle * 2 ** dice.gauss(0, 1.2))
                    rows[f"{what}:{bucket}"] = rows.get(f"{what}:{bucket}", 0) + done // 6 + 1
            counts += [
                Count(now - ago, "mails" if task == "shop.mail" else "default", task, what, number)
                for what, number in rows.items()
                if number
            ]
    for start in range(0, len(counts), 5_000):
        app.records.count(counts[start : start + 5_000])
