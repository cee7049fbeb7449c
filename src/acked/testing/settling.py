"""What `settle` promises."""

from __future__ import annotations

import msgspec
import pytest

from acked.broker import Engine
from acked.clock import ManualClock
from acked.delivery import Event, Failure, Settlement, State
from acked.message import encode
from acked.record import Attempt
from acked.testing.timeline import (
    KINDS,
    Timeline,
    changed,
    failure,
    message,
    settlements,
)

KEEPS_NO_ENTRY = frozenset({"failure unread", "unstarted", "postponed", "revoked before its start"})


class SettlingPromises(Timeline):
    """`Broker.settle`: each kind of settlement, and who may settle."""

    def settled(self, broker: Engine, clock: ManualClock, kind: str, **expected: object) -> None:
        """Run a task, settle it as *kind*; of its record, just *expected* has changed."""
        held = self.running(broker)
        before = self.record(broker, "a")
        clock.advance(5)

        assert broker.settle([settlements(held, clock.now())[kind]]) == []

        expected.setdefault("runs", int(kind not in KEEPS_NO_ENTRY))
        assert self.record(broker, "a") == msgspec.structs.replace(before, **expected)

    def test_success_keeps_the_result(self, broker: Engine, clock: ManualClock) -> None:
        self.settled(
            broker, clock, "success",
            state=State.SUCCESS, result=b'{"width":64}', finished=clock.now() + 5,
        )  # fmt: skip

    def test_no_result_is_not_the_result_null(self, broker: Engine, clock: ManualClock) -> None:
        none, null = self.running(broker, "a"), self.running(broker, "b")
        broker.settle([
            Settlement.succeed(none, at=clock.now(), started=clock.now(), result=None),
            Settlement.succeed(null, at=clock.now(), started=clock.now(), result=b"null"),
        ])  # fmt: skip

        assert self.record(broker, "a").result is None
        assert self.record(broker, "b").result == b"null"

    def test_a_retry_waits_for_its_time_and_costs_a_retry(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(
            broker, clock, "retry",
            state=State.SCHEDULED, due=clock.now() + 65, retries=1,
            reason="retry", failure=failure(),
        )  # fmt: skip

    def test_a_retry_may_replace_the_message(self, broker: Engine, clock: ManualClock) -> None:
        self.settled(
            broker, clock, "retry with another message",
            state=State.SCHEDULED, due=clock.now() + 65, retries=1,
            reason="retry", body=changed("a"),
        )  # fmt: skip

        clock.advance(60)
        assert self.claim_one(broker).body == changed("a")

    def test_a_retry_waits_where_its_new_message_says(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.send([message("a")])
        held = self.claim_one(broker)
        moved = encode(message("a", queue="slow", priority=7))
        retried = Settlement.retry(
            held, at=clock.now(), started=clock.now(), not_before=clock.now(), reason="retry",
            body=moved,
        )  # fmt: skip
        assert broker.settle([retried]) == []
        record = self.record(broker, "a")
        assert (record.queue, record.priority, record.body) == ("slow", 7, moved)
        assert broker.claim("w/0", ["default"], 1).deliveries == []
        assert [each.id for each in broker.claim("w/0", ["slow"], 1).deliveries] == ["a"]

    @pytest.mark.parametrize(
        "spoilt",
        [b"", b"{", encode(message("a", priority=2**70)), encode(message("a", queue="q" * 101))],
        ids=["nothing", "half", "a priority of 71 bits", "a long queue"],
    )
    def test_a_retry_with_a_message_nobody_can_read_ends_its_task_and_holds_up_no_other(
        self, broker: Engine, clock: ManualClock, spoilt: bytes
    ) -> None:
        self.send(broker, "a", "b")
        first, second = self.claim(broker)
        retry = settlements(first, clock.now())["retry with another message"]
        bad = msgspec.structs.replace(retry, body=spoilt)

        for _ in range(2):
            assert broker.settle([bad, settlements(second, clock.now())["success"]]) == []

        ended = self.record(broker, "a")
        assert (ended.state, ended.retries, ended.finished) == (State.FAILURE, 0, clock.now())
        assert ended.failure is not None and ended.failure.type == "MessageUnreadable"
        assert (ended.body, ended.queue) == (first.body, "default")
        assert [each.event for each in broker.attempts("a")] == [Event.FAIL]
        assert self.state(broker, "b") is State.SUCCESS

    def test_a_failure_keeps_its_exception_and_reason(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(
            broker, clock, "failure",
            state=State.FAILURE, finished=clock.now() + 5, failure=failure(),
            reason="shop.errors.Missing: no such file",
        )  # fmt: skip

    def test_a_failure_may_have_a_result(self, broker: Engine, clock: ManualClock) -> None:
        self.settled(
            broker, clock, "failure by hand",
            state=State.FAILURE, finished=clock.now() + 5, failure=failure(),
            reason="given up", result=b'{"page":3}',
        )  # fmt: skip

    def test_a_failure_by_loss_counts_the_loss(self, broker: Engine, clock: ManualClock) -> None:
        self.settled(
            broker, clock, "failure with its worker",
            state=State.FAILURE, finished=clock.now() + 5, failure=failure(), losses=1,
            reason="shop.errors.Missing: no such file",
        )  # fmt: skip

    def test_a_lost_task_is_queued_and_costs_a_loss(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(
            broker, clock, "lost, again at once",
            state=State.QUEUED, failure=failure(), losses=1,
            reason="shop.errors.Missing: no such file",
        )  # fmt: skip

    def test_a_lost_task_may_have_to_wait(self, broker: Engine, clock: ManualClock) -> None:
        self.settled(
            broker, clock, "lost, again later",
            state=State.SCHEDULED, due=clock.now() + 9, failure=failure(), losses=1,
            reason="shop.errors.Missing: no such file",
        )  # fmt: skip

    def test_a_requeued_task_costs_neither_retry_nor_loss(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(broker, clock, "requeued", state=State.QUEUED, reason="rejected: busy")

    def test_a_requeued_task_may_have_to_wait(self, broker: Engine, clock: ManualClock) -> None:
        self.settled(
            broker, clock, "requeued for later",
            state=State.SCHEDULED, due=clock.now() + 7, reason="rejected: busy",
        )  # fmt: skip

    def test_an_interrupted_task_gets_its_attempt_back(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(
            broker, clock, "interrupted", state=State.QUEUED, attempt=0, reason="worker stopped"
        )

        again = self.claim_one(broker)
        assert (again.attempt, again.runs) == (1, 1)

    def test_a_suspect_gets_its_attempt_back_and_is_remembered(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(
            broker, clock, "interrupted as a suspect",
            state=State.QUEUED, attempt=0, suspected=1, reason="its process died",
        )  # fmt: skip

        assert self.claim_one(broker).suspected == 1

    def test_a_suspect_that_dies_alone_is_charged_for_every_time(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "a")
        for kind in ("interrupted as a suspect", "interrupted as a suspect", "lost, again at once"):
            broker.settle([settlements(self.claim_one(broker), clock.now())[kind]])

        held = self.claim_one(broker)
        assert (held.losses, held.suspected, held.attempt) == (3, 0, 2)

    def test_an_unstarted_task_is_queued_as_if_never_claimed(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(broker, clock, "unstarted", state=State.QUEUED, attempt=0)

    def test_a_postponed_task_waits_and_costs_nothing(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(
            broker, clock, "postponed",
            state=State.SCHEDULED, due=clock.now() + 14, attempt=0, reason="unknown task",
        )  # fmt: skip

    def test_a_task_revoked_while_it_ran_has_ended(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(
            broker, clock, "revoked while it ran",
            state=State.REVOKED, finished=clock.now() + 5, reason="terminated",
        )  # fmt: skip

    def test_an_expired_task_has_ended_without_an_attempt(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.settled(
            broker, clock, "revoked before its start",
            state=State.REVOKED, finished=clock.now() + 5, attempt=0, reason="expired",
        )  # fmt: skip

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_attempt_that_started_leaves_an_entry_and_no_other(
        self, broker: Engine, clock: ManualClock, kind: str
    ) -> None:
        held = self.running(broker, consumer="w1/3")
        settlement = settlements(held, clock.now())[kind]

        broker.settle([settlement])

        entry = Attempt(
            number=1, event=settlement.event, started=clock.now() - 1, ended=clock.now(),
            consumer="w1/3", reason=settlement.reason, failure=settlement.failure,
            next_at=settlement.not_before, counted=settlement.counts, loss=settlement.loss,
            log=settlement.log,
        )  # fmt: skip
        assert broker.attempts("a") == ([] if kind in KEEPS_NO_ENTRY else [entry])

    def test_the_history_names_who_ran_an_attempt_that_another_settled(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.running(broker, consumer="w1/3")
        [held] = broker.seize("w1", by="w2/s")
        lost = settlements(held, clock.now())["lost, again at once"]

        broker.settle([msgspec.structs.replace(lost, consumer=held.consumer)])

        assert [entry.consumer for entry in broker.attempts("a")] == ["w1/3"]

    def test_the_history_keeps_every_attempt_in_order(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "a")
        for kind in ("interrupted", "lost, again at once", "retry", "success"):
            clock.advance(60)
            broker.settle([settlements(self.claim_one(broker), clock.now())[kind]])

        assert [(entry.number, entry.event) for entry in broker.attempts("a")] == [
            (1, Event.RELEASE),
            (1, Event.RELEASE),
            (2, Event.RETRY),
            (3, Event.SUCCEED),
        ]

    def test_a_success_clears_the_failure_of_the_attempts_before(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)
        broker.settle([settlements(held, clock.now())["retry"]])
        clock.advance(60)
        again = self.claim_one(broker)
        assert self.record(broker, "a").failure == failure()

        broker.settle([settlements(again, clock.now())["success"]])

        assert self.record(broker, "a").failure is None

    def test_an_interruption_keeps_the_failure_of_the_attempts_before(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)
        broker.settle([settlements(held, clock.now())["retry"]])
        clock.advance(60)

        broker.settle([settlements(self.claim_one(broker), clock.now())["interrupted"]])

        assert self.record(broker, "a").failure == failure()

    @pytest.mark.parametrize("kind", KINDS)
    def test_repeating_a_settlement_changes_nothing_and_is_not_refused(
        self, broker: Engine, clock: ManualClock, kind: str
    ) -> None:
        held = self.running(broker)
        settlement = settlements(held, clock.now())[kind]
        broker.settle([settlement])
        record, attempts = self.record(broker, "a"), broker.attempts("a")
        clock.advance(3)

        assert broker.settle([settlement]) == []
        assert broker.claim("w1/0", [], 0, settlements=[settlement, settlement]).refused == []

        assert self.record(broker, "a") == record
        assert broker.attempts("a") == attempts

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_text_with_half_a_character_settles_all_the_same(
        self, broker: Engine, clock: ManualClock, kind: str
    ) -> None:
        settlement = settlements(self.running(broker), clock.now())[kind]
        half = "half \ud800"
        spoilt = msgspec.structs.replace(
            settlement, reason=half, log=half if settlement.log else "",
            failure=Failure("OSError", half, half) if settlement.failure else None,
        )  # fmt: skip

        assert broker.settle([spoilt]) == []

        record = self.record(broker, "a")
        assert record.state is not State.RUNNING
        assert record.reason.startswith("half ")
        if record.failure is not None:
            assert record.failure.message.startswith("half ")
        for entry in broker.attempts("a"):
            assert entry.reason.startswith("half ")

    def test_a_settlement_twice_in_one_call_counts_once(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)
        settlement = settlements(held, clock.now())["retry"]

        assert broker.settle([settlement, settlement]) == []

        assert self.record(broker, "a").retries == 1
        assert len(broker.attempts("a")) == 1

    def test_the_first_settlement_of_a_claim_stands(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)
        kinds = settlements(held, clock.now())
        broker.settle([kinds["success"]])
        record = self.record(broker, "a")

        broker.settle([kinds["failure"], kinds["retry"]])

        assert self.record(broker, "a") == record
        assert len(broker.attempts("a")) == 1

    def test_an_old_settlement_cannot_touch_the_next_attempt(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        first = self.running(broker)
        old = settlements(first, clock.now())
        broker.settle([old["interrupted"]])
        second = self.claim_one(broker)
        assert second.attempt == first.attempt
        record, attempts = self.record(broker, "a"), broker.attempts("a")

        refused = broker.settle([old["interrupted"], old["success"]])

        assert refused == [old["interrupted"], old["success"]]
        assert self.record(broker, "a") == record
        assert broker.attempts("a") == attempts
        assert broker.settle([settlements(second, clock.now())["success"]]) == []

    def test_a_settlement_with_a_token_never_given_is_refused(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)
        forged = [
            settlements(msgspec.structs.replace(held, token=token), clock.now())["success"]
            for token in (held.token + 1, held.token - 1, 2**63 - 1, 0)
        ]

        assert broker.settle(forged) == forged
        assert self.state(broker, "a") is State.RUNNING

    def test_a_waiting_task_cannot_be_settled_by_someone_who_never_claimed_it(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker, "a")
        broker.send([message("b")])
        stranger = settlements(msgspec.structs.replace(held, id="b", tag=0), clock.now())["success"]

        broker.settle([stranger])

        assert self.state(broker, "b") is State.QUEUED
        assert self.record(broker, "b").result is None

    def test_a_settlement_of_an_unknown_task_is_refused(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = msgspec.structs.replace(self.running(broker, "a"), id="b", tag=12345)
        unknown = settlements(held, clock.now())["success"]

        assert broker.settle([unknown]) == [unknown]

    def test_one_refused_settlement_does_not_hold_up_the_others(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "a", "b", "c")
        held = self.claim(broker)
        stale = msgspec.structs.replace(held[1], token=held[1].token + 1000)
        asked = [settlements(each, clock.now())["success"] for each in (held[0], stale, held[2])]

        assert broker.settle(asked) == [asked[1]]
        assert [self.state(broker, task_id) for task_id in "abc"] == [
            State.SUCCESS,
            State.RUNNING,
            State.SUCCESS,
        ]

    def test_settling_nothing_is_harmless(self, broker: Engine) -> None:
        assert broker.settle([]) == []
