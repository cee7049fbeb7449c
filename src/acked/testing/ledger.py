"""What an engine must do that keeps the records for a broker of messages alone: `Ledger`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest

from acked.broker import DEFAULT_LEASE, Admission, Engine, Ledger
from acked.clock import ManualClock
from acked.delivery import Delivery, Settlement, State
from acked.record import Record
from acked.testing.timeline import KINDS, Timeline, beat, message, settlements


class LedgerPromises(Timeline):
    """The methods of `Ledger`."""

    @pytest.fixture
    def ledger(self, broker: Engine) -> Ledger:
        assert isinstance(broker, Ledger), f"{broker.url} lacks methods of Ledger"
        return broker

    def admit(
        self,
        ledger: Ledger,
        *task_ids: str,
        consumer: str = "w1/0",
        settle: Sequence[Settlement] = (),
    ) -> Admission:
        """Admit from the queue ``default``."""
        return ledger.admit(consumer, ["default"], task_ids, settlements=settle)

    def admitted(self, ledger: Ledger, task_id: str, consumer: str = "w1/0") -> Delivery:
        """Admit a task that must be there."""
        (delivery,) = self.admit(ledger, task_id, consumer=consumer).deliveries
        return delivery

    def test_admitting_takes_the_named_tasks_alone_in_the_order_of_their_names(
        self, ledger: Ledger
    ) -> None:
        self.send(ledger, "a", "b", "c", "d")
        admission = self.admit(ledger, "c", "a", "d")

        assert [held.id for held in admission.deliveries] == ["c", "a", "d"]
        assert admission == Admission(admission.deliveries, {}, [], [], [])
        assert self.state(ledger, "b") is State.QUEUED
        assert [held.id for held in self.claim(ledger)] == ["b"]

    def test_an_admitted_task_is_held_as_a_claimed_one_is(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        self.send(ledger, "a", "b")
        clock.advance(3)
        admitted = self.admitted(ledger, "a", "w2/1")
        (claimed,) = ledger.claim("w2/1", ["default"], 1).deliveries

        record = self.record(ledger, "a")
        assert msgspec.structs.replace(
            admitted, id="b", body=claimed.body, token=claimed.token, tag=claimed.tag
        ) == claimed  # fmt: skip
        assert admitted.token not in (0, claimed.token)
        assert (record.state, record.attempt, record.token) == (State.RUNNING, 1, admitted.token)
        assert (record.consumer, record.claimed) == ("w2/1", clock.now())

    def test_a_task_that_becomes_due_while_it_is_asked_for_is_taken_or_put_off(
        self, ledger: Ledger, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its message would be forgotten otherwise."""
        began = clock.now()
        etas = {f"t{number}": began + number + 0.5 for number in range(6)}
        for task_id, eta in etas.items():
            ledger.send([msgspec.structs.replace(message(task_id), eta=eta)])
        looks = itertools.count()
        with monkeypatch.context() as ticking:
            ticking.setattr(clock, "now", lambda: began + next(looks))
            found = [self.admit(ledger, task_id) for task_id in etas]

        for (task_id, eta), admission in zip(etas.items(), found, strict=True):
            taken = [held.id for held in admission.deliveries]
            assert (taken, admission.early) in [([task_id], {}), ([], {task_id: eta})]

    def test_admitting_nothing_is_harmless(self, ledger: Ledger) -> None:
        assert self.admit(ledger) == Admission([], {}, [], [], [])

    def test_a_message_delivered_twice_lets_its_task_run_once(self, ledger: Ledger) -> None:
        self.send(ledger, "a")

        assert len(self.admit(ledger, "a", "a").deliveries) == 1
        assert self.admit(ledger, "a", consumer="w2/0") == Admission([], {}, [], [], [])

    @pytest.mark.parametrize("state", [State.SUCCESS, State.FAILURE, State.REVOKED])
    def test_a_message_of_a_task_that_has_ended_needs_nothing(
        self, ledger: Ledger, clock: ManualClock, state: State
    ) -> None:
        before = self.finished(ledger, clock, "a", state)

        assert self.admit(ledger, "a") == Admission([], {}, [], [], [])
        assert self.record(ledger, "a") == before

    def test_a_message_of_a_discarded_task_is_unknown(self, ledger: Ledger) -> None:
        self.send(ledger, "a", "b")
        ledger.discard(["a"])
        admission = self.admit(ledger, "a", "b", "never sent", "a")

        assert [held.id for held in admission.deliveries] == ["b"]
        assert sorted(set(admission.unknown)) == ["a", "never sent"]
        assert ledger.get("a") is None

    def test_a_task_that_is_not_due_is_early_until_it_is(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        due = clock.now() + 60
        ledger.send([msgspec.structs.replace(message("a"), eta=due)])
        self.send(ledger, "b")

        admission = self.admit(ledger, "a", "b")
        assert admission.early == {"a": due}
        assert [held.id for held in admission.deliveries] == ["b"]
        assert self.state(ledger, "a") is State.SCHEDULED

        clock.advance(60)
        assert self.admitted(ledger, "a").attempt == 1

    def test_a_task_of_a_paused_queue_waits_for_its_queue(self, ledger: Ledger) -> None:
        self.send(ledger, "a")
        ledger.send([message("b", queue="mail")])
        ledger.pause("default")

        admission = ledger.admit("w1/0", ["default", "mail"], ["a", "b"])
        assert (admission.paused, [held.id for held in admission.deliveries]) == (["a"], ["b"])
        assert self.state(ledger, "a") is State.QUEUED

        ledger.resume("default")
        assert self.admitted(ledger, "a").id == "a"

    def test_a_task_that_waits_in_another_queue_is_not_admitted(self, ledger: Ledger) -> None:
        ledger.send([message("a", queue="mail")])

        assert self.admit(ledger, "a") == Admission([], {}, [], [], [])
        assert self.state(ledger, "a") is State.QUEUED

    @pytest.mark.parametrize("kind", KINDS)
    def test_settlements_are_applied_before_tasks_are_admitted(
        self, ledger: Ledger, clock: ManualClock, kind: str
    ) -> None:
        self.send(ledger, "a", "b")
        held = self.admitted(ledger, "a")
        clock.advance(2)
        settlement = settlements(held, clock.now())[kind]

        admission = self.admit(ledger, "b", "a", settle=[settlement])

        ids = [each.id for each in admission.deliveries]
        back_at_once = {
            "lost, again at once", "requeued", "interrupted", "interrupted as a suspect",
            "unstarted",
        }  # fmt: skip
        assert ids == (["b", "a"] if kind in back_at_once else ["b"])
        later = {} if settlement.not_before is None else {"a": settlement.not_before}
        assert (admission.early, admission.refused) == (later, [])

    def test_a_settlement_whose_lease_was_lost_is_refused(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        self.send(ledger, "a", "b")
        held = self.admitted(ledger, "a")
        ledger.seize("w1", by="w2/0")
        late = settlements(held, clock.now())["success"]

        admission = self.admit(ledger, "b", settle=[late])
        assert admission.refused == [late]
        assert [each.id for each in admission.deliveries] == ["b"]

    def test_a_worker_that_admits_before_its_first_beat_has_a_lease(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        ledger.renew(beat("w9"))
        self.send(ledger, "a")
        self.admitted(ledger, "a")

        clock.advance(DEFAULT_LEASE - 1)
        assert ledger.reap(by="w9/0") == []
        clock.advance(2)
        assert [each.id for each in ledger.reap(by="w9/0")] == ["a"]

    def test_what_waits_too_long_is_overdue_the_longest_first(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        start = clock.now()
        ledger.send([msgspec.structs.replace(message("later"), eta=start + 5, queue="mail")])
        self.send(ledger, "first")
        clock.advance(1)
        self.send(ledger, "second", "running", "revoked")
        self.admitted(ledger, "running")
        ledger.revoke(["revoked"])
        clock.advance(1)
        self.send(ledger, "third")
        clock.advance(20)

        def overdue(before: float, limit: int = 10) -> list[str]:
            return [record.id for record in ledger.overdue(before, limit)]

        assert overdue(start + 10) == ["first", "second", "third", "later"]
        assert overdue(start + 10, limit=3) == ["first", "second", "later"]
        assert overdue(start + 1.5) == ["first", "second"]
        assert overdue(start) == []

    def test_a_long_backlog_hides_nothing_else_that_is_overdue(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        self.send(ledger, "a1", "a2", "a3", "a4")
        clock.advance(1)
        ledger.send([message("b1", priority=7), message("b2", priority=7)])
        clock.advance(1)
        ledger.send([message("c1", queue="mail"), message("c2", queue="mail")])
        eta = clock.now() + 1
        ledger.send([msgspec.structs.replace(message(i), eta=eta) for i in ("d1", "d2")])
        clock.advance(60)

        def overdue(limit: int) -> list[str]:
            return [record.id for record in ledger.overdue(clock.now(), limit)]

        assert overdue(0) == []
        assert overdue(1) == ["a1"]
        assert overdue(4) == ["a1", "b1", "c1", "d1"]
        assert overdue(6) == ["a1", "a2", "b1", "b2", "c1", "d1"]
        assert overdue(9) == ["a1", "a2", "a3", "b1", "b2", "c1", "c2", "d1", "d2"]
        assert overdue(100) == ["a1", "a2", "a3", "a4", "b1", "b2", "c1", "c2", "d1", "d2"]

    def test_an_overdue_task_is_given_as_its_record(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        ledger.send([message("a", queue="mail", priority=7)])
        clock.advance(1)
        (record,) = ledger.overdue(clock.now(), 1)

        assert isinstance(record, Record)
        assert (record.body, record.queue, record.priority) == (
            self.record(ledger, "a").body, "mail", 7,
        )  # fmt: skip

    def test_what_a_paused_queue_holds_is_not_overdue(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        self.send(ledger, "a")
        ledger.send([message("b", queue="mail")])
        ledger.pause("default")
        clock.advance(60)

        assert [record.id for record in ledger.overdue(clock.now(), 10)] == ["b"]
        ledger.resume("default")
        assert {record.id for record in ledger.overdue(clock.now(), 10)} == {"a", "b"}
