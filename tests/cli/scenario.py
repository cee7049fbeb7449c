"""One task in each state, on any broker."""

from __future__ import annotations

from msgspec import Raw

from acked.broker import Beat, Engine
from acked.delivery import Delivery, Failure, Settlement
from acked.message import Message
from acked.record import Progress

IDS = {
    name: f"0193a4b8c6d2{number:020x}{name:_<12.12}"
    for number, name in enumerate(("done", "failed", "retrying", "waiting", "running", "revoked"))
}
"""Ids as long as real ones: alike at their beginning, each with its task's name at its end."""

WORKER = "box.77.abc"

SECRETS = Raw(b'{"data":{"url":"http://x","password":"canary"},"token":"canary"}')


def fill(store: Engine, now: float) -> None:
    """Bring one task into each state, all sent at *now*, the time by the broker's clock."""

    def take(message: Message, consumer: str = f"{WORKER}/0") -> Delivery:
        store.send([message])
        (held,) = store.claim(consumer, ["default"], 1).deliveries
        assert held.id == message.id
        return held

    def scan(name: str, **fields: object) -> Message:
        return Message(id=IDS[name], task="shop.scan", sent=now, **fields)  # type: ignore[arg-type]  # fields of Message

    store.renew(
        Beat(
            worker=WORKER, host="box", pid=77, started=now, queues=("default",), processes=2,
            lease=3600.0,
        )
    )  # fmt: skip
    boom = Failure("ValueError", "password=canary", 'Traceback:\n  File "shop.py", line 3')
    held = take(scan("done", kwargs=SECRETS))
    store.settle([Settlement.succeed(held, at=now + 1, started=now, result=b'{"token":"canary"}')])
    failing = scan("failed", args=Raw(b'["bob","canary"]'), time_limit=5.0)
    again = Settlement.retry(
        take(failing),
        at=now + 1,
        started=now,
        not_before=now,
        reason=f"retry: {boom}",
        failure=boom,
    )
    store.settle([again])
    held = take(failing, f"{WORKER}/1")
    store.settle([Settlement.fail(held, at=now + 3, started=now + 2, failure=boom)])
    later = Settlement.retry(
        take(scan("retrying")), at=now + 1, started=now, not_before=now + 9_000,
        reason="retry: HTTP 503",
    )  # fmt: skip
    store.settle([later])
    held = take(scan("running"))
    store.report(held.id, held.token, Progress(done=3, total=4, message="resizing", at=now))
    store.save(held.id, held.token, b'{"page":3}')
    store.send([scan("revoked")])
    store.revoke([IDS["revoked"]])
    store.send([Message(id=IDS["waiting"], task="shop.mail", queue="mails", sent=now)])
