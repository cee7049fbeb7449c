"""What `wait`, `interrupt` and `wait_for_change` promise."""

from __future__ import annotations

import signal
import threading
import time
from functools import partial

import msgspec
import pytest

from acked.broker import Engine
from acked.clock import ManualClock
from acked.delivery import State
from acked.record import Progress
from acked.testing.timeline import (
    LONG,
    PATIENCE,
    Background,
    Timeline,
    message,
    settlements,
)

ROUNDS = range(20)
"""The two threads of these tests meet in any order; a few rounds see most of them."""


class WaitingPromises(Timeline):
    """Wake-ups: that none is missed, since nothing else would end such a wait."""

    def test_a_wait_ends_when_a_message_is_sent_from_another_thread(self, broker: Engine) -> None:
        for number in ROUNDS:
            waiting = Background(lambda: broker.wait(["default"], LONG))
            self.send(broker, f"task-{number}")
            waiting.answer()
            assert len(self.claim(broker)) == 1

    def test_a_wait_does_not_start_where_a_task_is_ready(self, broker: Engine) -> None:
        broker.send([message("a", queue="mail")])

        Background(lambda: broker.wait(["default", "mail"], LONG)).answer()

    def test_a_wait_ends_when_a_task_becomes_due(self, broker: Engine, clock: ManualClock) -> None:
        broker.send([msgspec.structs.replace(message("a"), eta=clock.now() + 0.05)])

        Background(lambda: broker.wait(["default"], LONG)).answer()

    def test_a_wait_ends_when_a_task_sent_meanwhile_becomes_due(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        waiting = Background(lambda: broker.wait(["default"], LONG))

        broker.send([msgspec.structs.replace(message("a"), eta=clock.now() + 0.05)])

        waiting.answer()

    def test_a_wait_ends_when_a_task_is_released(self, broker: Engine, clock: ManualClock) -> None:
        self.send(broker, "a")
        for _ in ROUNDS:
            held = self.claim_one(broker)
            waiting = Background(lambda: broker.wait(["default"], LONG))
            broker.settle([settlements(held, clock.now())["unstarted"]])
            waiting.answer()

    def test_a_wait_ends_when_a_task_is_requeued(self, broker: Engine, clock: ManualClock) -> None:
        self.finished(broker, clock, "a", State.FAILURE)
        waiting = Background(lambda: broker.wait(["default"], LONG))

        broker.requeue(["a"])

        waiting.answer()

    def test_a_wait_ends_when_its_queue_is_resumed(self, broker: Engine) -> None:
        broker.pause("default")
        self.send(broker, "a")
        waiting = Background(lambda: broker.wait(["default"], LONG))

        broker.resume("default")

        waiting.answer()

    def test_a_wait_ends_when_its_time_is_over(self, broker: Engine) -> None:
        Background(lambda: broker.wait(["default"], 0.01)).answer()
        Background(lambda: broker.wait(["default"], 0)).answer()

    def test_every_waiting_thread_may_be_woken_by_its_own_message(self, broker: Engine) -> None:
        names = [f"queue-{number}" for number in range(4)]
        waiting = [Background(partial(broker.wait, [name], LONG)) for name in names]

        broker.send([message(name, queue=name) for name in names])

        for each in waiting:
            each.answer()

    def test_an_interrupt_ends_a_wait(self, broker: Engine) -> None:
        for _ in ROUNDS:
            waiting = Background(lambda: broker.wait(["default"], LONG))
            broker.interrupt()
            waiting.answer()

    def test_an_interrupt_just_before_a_wait_is_not_missed(self, broker: Engine) -> None:
        broker.interrupt()

        Background(lambda: broker.wait(["default"], LONG)).answer()

    def test_an_interrupt_ends_the_waits_of_every_thread(self, broker: Engine) -> None:
        waiting = [Background(lambda: broker.wait(["default"], LONG)) for _ in range(3)]

        broker.interrupt()

        for each in waiting:
            each.answer()

    def test_a_signal_handler_may_interrupt_the_wait_it_broke_into(self, broker: Engine) -> None:
        main = threading.main_thread().ident
        assert main is not None
        before = signal.signal(signal.SIGUSR1, lambda *_: broker.interrupt())
        try:
            for _ in ROUNDS:
                signalling = Background(partial(signal.pthread_kill, main, signal.SIGUSR1))
                since = time.monotonic()
                broker.wait(["default"], PATIENCE + 10)
                assert time.monotonic() - since < PATIENCE, "the interrupt was missed"
                signalling.answer()
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_waiting_for_a_change_gives_the_record_that_differs(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "a")
        queued = self.record(broker, "a")
        held = self.claim_one(broker)
        running = broker.wait_for_change("a", queued, LONG)
        assert running is not None
        assert running.state is State.RUNNING
        waiting = Background(lambda: broker.wait_for_change("a", running, LONG))

        broker.settle([settlements(held, clock.now())["success"]])

        assert waiting.answer() == broker.get("a")
        assert self.state(broker, "a") is State.SUCCESS

    def test_waiting_for_a_change_misses_none(self, broker: Engine, clock: ManualClock) -> None:
        for number in ROUNDS:
            held = self.running(broker, f"task-{number}")
            running = self.record(broker, held.id)
            waiting = Background(partial(broker.wait_for_change, held.id, running, LONG))
            broker.settle([settlements(held, clock.now())["success"]])
            assert waiting.answer() == broker.get(held.id)

    def test_progress_is_a_change(self, broker: Engine) -> None:
        held = self.running(broker)
        running = self.record(broker, "a")
        waiting = Background(lambda: broker.wait_for_change("a", running, LONG))

        broker.report("a", held.token, Progress(done=1))

        changed = waiting.answer()
        assert changed is not None
        assert changed.progress == Progress(done=1)

    def test_a_task_that_is_sent_meanwhile_is_a_change(self, broker: Engine) -> None:
        waiting = Background(lambda: broker.wait_for_change("a", None, LONG))

        self.send(broker, "a")

        assert waiting.answer() == broker.get("a")

    def test_a_task_that_is_discarded_meanwhile_is_a_change(self, broker: Engine) -> None:
        self.send(broker, "a")
        queued = self.record(broker, "a")
        waiting = Background(lambda: broker.wait_for_change("a", queued, LONG))

        broker.discard(["a"])

        assert waiting.answer() is None

    @pytest.mark.parametrize("timeout", [0, 0.01])
    def test_without_a_change_the_record_is_given_when_the_time_is_over(
        self, broker: Engine, timeout: float
    ) -> None:
        self.send(broker, "a")
        queued = self.record(broker, "a")

        same = Background(lambda: broker.wait_for_change("a", queued, timeout)).answer()
        none = Background(lambda: broker.wait_for_change("unknown", None, timeout)).answer()

        assert (same, none) == (queued, None)

    def test_a_claim_does_not_wait(self, broker: Engine) -> None:
        assert Background(lambda: broker.claim("w1/0", ["default"], 1)).answer().deliveries == []
