"""Before the start of a delivery: its message is read, its turn under a rate limit asked for."""

from __future__ import annotations

from acked.app import Acked
from acked.delivery import Delivery, Settlement
from acked.execute import Attempt, prepare
from acked.worker.feed import Feed
from acked.worker.permits import Permits


class Admission:
    """Says what may start in one process, and settles what may not. Safe from any thread.

    Args:
        app: The application.
        feed: Where deliveries come from, and settlements go.
    """

    def __init__(self, app: Acked, feed: Feed) -> None:
        self._app = app
        self._broker = app.broker
        self._feed = feed
        self._permits = Permits(self._broker)

    def prepare(self, held: Delivery) -> Attempt | None:
        """The attempt that *held* asks for; None where it ends before its start."""
        ready = prepare(
            held, self._app.tasks, self._app.records, self._feed.consumer,
            now=self._broker.clock.now(),
        )  # fmt: skip
        if isinstance(ready, Settlement):
            self._feed.done(ready)
            return None
        return ready

    def may_start(self, attempt: Attempt) -> bool:
        """Whether its rate limit allows it now; settled where it does not. Asked last."""
        rate = attempt.task.rate
        if rate is None:
            return True
        refused = self._permits.take(attempt.held, attempt.task.name, rate)
        if refused is not None:
            self._feed.done(refused)
        return refused is None

    def put_back(self, held: Delivery) -> None:
        """Let another process, or this one later, have *held*, which has not started."""
        self._feed.done(Settlement.unstarted(held, at=self._broker.clock.now()))
