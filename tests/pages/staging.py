"""Tasks put into any phase by a broker's own operations, without a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from acked import Acked
from acked.broker import Beat
from acked.delivery import Delivery, Event, Failure, Settlement
from acked.pages.view import Phase
from acked.record import Progress
from tests.harness.workers import until

UNKNOWN = "0" * 44
SECRETS = ("the-inner-reason", "secret-argument", "tests.pages", "inner-queue", "inner-worker")
"""What is in the records of staged tasks and may not be on any page."""


class Stage:
    """Puts tasks of *app* into phases.

    Args:
        app: An application on a fresh broker, whose default queue nobody serves.
    """

    def __init__(self, app: Acked) -> None:
        self.app = app
        self._count = 0

    def __call__(self, phase: Phase, **how: Any) -> str:
        """The id of a new task in *phase*."""
        stages: dict[Phase, Callable[..., str]] = {
            Phase.WAITING: self.send,
            Phase.SCHEDULED: lambda: self.send(countdown=3 * 3600),
            Phase.WORKING: self.working,
            Phase.TRYING_AGAIN: self.trying_again,
            Phase.INTERRUPTED: self.interrupted,
            Phase.DONE: self.done,
            Phase.FAILED: self.failed,
            Phase.CANCELLED: self.cancelled,
            Phase.EXPIRED: self.expired,
            Phase.UNKNOWN: lambda: UNKNOWN,
        }
        return stages[phase](**how)

    @property
    def now(self) -> float:
        return self.app.clock.now()

    def send(self, **options: Any) -> str:
        self._count += 1
        result = self.app.send_task(
            "tests.pages.shop.nobody", [{"key": "secret-argument"}],
            queue=f"inner-queue-{self._count}", **options,
        )  # fmt: skip
        return result.id

    def beat(self, lease: float = 86_400.0) -> None:
        """The worker of every task that is claimed lives for *lease* seconds."""
        self.app.broker.renew(
            Beat(
                worker="inner-worker", host="inner-host", pid=0, started=self.now, queues=(),
                processes=1, lease=lease,
            )
        )  # fmt: skip

    def claim(self, task_id: str) -> Delivery:
        """*task_id* as a worker gets it, which nobody takes for dead in a while."""
        self.beat()
        record = self.app.records.get(task_id)
        assert record is not None
        queues = [record.queue]
        claim = self.app.broker.claim
        # A server may take a moment to hand over what was just sent.
        (held,) = until(
            lambda: claim("inner-worker/0", queues, 1).deliveries, what=f"{task_id} to be delivered"
        )
        return held

    def working(
        self, done: float = 3, total: float = 10, message: str = "Packing", *, ran: float = 5.0
    ) -> str:
        task_id = self.send()
        held = self.claim(task_id)
        progress = Progress(done=done, total=total, message=message, at=self.now + ran)
        assert self.app.records.report(task_id, held.token, progress)
        return task_id

    def trying_again(self, wait: float = 30.0) -> str:
        task_id = self.send()
        self._settle(
            Settlement.retry(
                self.claim(task_id), at=self.now, started=self.now, not_before=self.now + wait,
                reason="retry: the-inner-reason", failure=Failure("OSError", "the-inner-reason"),
            )
        )  # fmt: skip
        return task_id

    def interrupted(self) -> str:
        task_id = self.send()
        self._settle(
            Settlement.lost(
                self.claim(task_id), at=self.now, started=self.now, not_before=None,
                failure=Failure("WorkerLostError", "the-inner-reason"),
            )
        )  # fmt: skip
        return task_id

    def done(self, result: bytes = b'"Parcel 17 is on its way."') -> str:
        task_id = self.send()
        held = self.claim(task_id)
        self._settle(Settlement.succeed(held, at=self.now, started=self.now, result=result))
        return task_id

    def report(self, task_id: str, done: float, total: float = 0, message: str = "") -> None:
        """A task that works says how far it is."""
        record = self.app.records.get(task_id)
        assert record is not None
        progress = Progress(done=done, total=total, message=message, at=self.now)
        assert self.app.records.report(task_id, record.token, progress)

    def finish(self, task_id: str) -> None:
        """A task that works succeeds."""
        record = self.app.records.get(task_id)
        assert record is not None
        self._settle(
            Settlement(
                id=task_id, token=record.token, tag=record.tag, event=Event.SUCCEED, at=self.now,
                started=self.now, result=b'"done"',
            )
        )  # fmt: skip

    def failed(self, name: str = "shop.errors.Declined") -> str:
        task_id = self.send()
        failure = Failure(name, "the-inner-reason", "Traceback: the-inner-reason")
        self._settle(
            Settlement.fail(self.claim(task_id), at=self.now, started=self.now, failure=failure)
        )
        return task_id

    def cancelled(self) -> str:
        task_id = self.send()
        self.app.records.revoke([task_id])
        return task_id

    def expired(self) -> str:
        task_id = self.send()
        held = self.claim(task_id)
        self._settle(Settlement.revoke(held, at=self.now, started=None, reason="expired"))
        return task_id

    def _settle(self, settlement: Settlement) -> None:
        assert self.app.broker.settle([settlement]) == []
