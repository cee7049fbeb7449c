"""What an operator can do: revoke, requeue, discard, purge, pause, resume, prune; and what workers
agree on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from acked.broker import Engine, Filter
from acked.clock import ManualClock
from acked.delivery import State
from acked.record import REVOKE_SOFT, REVOKE_TERMINATE, Progress
from acked.testing.timeline import Timeline, message, settlements

FINISHED = (State.SUCCESS, State.FAILURE, State.REVOKED)
COMES_BACK = [
    "retry",
    "retry with another message",
    "lost, again at once",
    "lost, again later",
    "requeued",
    "requeued for later",
    "interrupted",
    "unstarted",
    "postponed",
]


class OperatingPromises(Timeline):
    """The writing half of `Records`."""

    def test_revoking_a_waiting_task_ends_it_at_once(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "a")
        broker.send([msgspec.structs.replace(message("b"), eta=clock.now() + 60)])
        before = [self.record(broker, task_id) for task_id in "ab"]
        clock.advance(5)

        assert broker.revoke(["a", "b"]) == 2

        assert [self.record(broker, task_id) for task_id in "ab"] == [
            msgspec.structs.replace(
                record, state=State.REVOKED, finished=clock.now(), reason="revoked",
                revoke=REVOKE_SOFT,
            )
            for record in before
        ]  # fmt: skip
        clock.advance(3600)
        assert self.claim(broker) == []

    @pytest.mark.parametrize(
        ("terminate", "mark"), [(False, REVOKE_SOFT), (True, REVOKE_TERMINATE)]
    )
    def test_revoking_a_running_task_marks_it_and_leaves_it_with_its_holder(
        self, broker: Engine, clock: ManualClock, terminate: bool, mark: int
    ) -> None:
        held = self.running(broker)
        before = self.record(broker, "a")

        assert broker.revoke(["a"], terminate=terminate) == 1

        assert self.record(broker, "a") == msgspec.structs.replace(before, revoke=mark)
        assert broker.settle([settlements(held, clock.now())["success"]]) == []
        assert self.state(broker, "a") is State.SUCCESS

    def test_an_order_to_terminate_is_not_taken_back_by_a_softer_one(self, broker: Engine) -> None:
        self.running(broker)
        broker.revoke(["a"], terminate=True)

        broker.revoke(["a"])

        assert self.record(broker, "a").revoke == REVOKE_TERMINATE

    @pytest.mark.parametrize("kind", COMES_BACK)
    def test_a_revoked_task_that_would_come_back_ends_instead(
        self, broker: Engine, clock: ManualClock, kind: str
    ) -> None:
        held = self.running(broker)
        broker.revoke(["a"])
        clock.advance(5)

        assert broker.settle([settlements(held, clock.now())[kind]]) == []

        record = self.record(broker, "a")
        assert (record.state, record.reason) == (State.REVOKED, "revoked")
        assert record.finished == clock.now()
        assert record.retries == 0
        clock.advance(3600)
        assert self.claim(broker) == []

    def test_a_revocation_outlives_the_death_of_the_holder(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.running(broker, "a", "w1/0")
        broker.revoke(["a"])
        (seized,) = broker.seize("w1", by="w2")

        broker.settle([settlements(seized, clock.now())["lost, again at once"]])

        assert self.state(broker, "a") is State.REVOKED

    @pytest.mark.parametrize("state", FINISHED)
    def test_revoking_a_finished_task_changes_nothing(
        self, broker: Engine, clock: ManualClock, state: State
    ) -> None:
        before = self.finished(broker, clock, "a", state)

        assert broker.revoke(["a"], terminate=True) == 0

        assert self.record(broker, "a") == before

    def test_revoking_counts_the_unfinished_alone(self, broker: Engine, clock: ManualClock) -> None:
        self.finished(broker, clock, "a", State.SUCCESS)
        self.running(broker, "b")
        self.send(broker, "c")

        assert broker.revoke(["a", "b", "c", "unknown"]) == 2
        assert broker.revoke([]) == 0

    @pytest.mark.parametrize("state", [State.FAILURE, State.REVOKED])
    def test_a_requeued_task_runs_again_under_its_id_with_its_history(
        self, broker: Engine, clock: ManualClock, state: State
    ) -> None:
        before = self.finished(broker, clock, "a", state)
        clock.advance(60)

        assert broker.requeue(["a"]) == 1

        assert self.record(broker, "a") == msgspec.structs.replace(
            before, state=State.QUEUED, due=clock.now(), finished=None, result=None,
            failure=None, reason="requeued",
        )  # fmt: skip
        assert len(broker.attempts("a")) == 1
        held = self.claim_one(broker)
        assert (held.id, held.attempt) == ("a", 2)
        broker.settle([settlements(held, clock.now())["success"]])
        assert self.state(broker, "a") is State.SUCCESS
        assert [entry.number for entry in broker.attempts("a")] == [1, 2]

    def test_a_requeued_task_has_its_retries_and_losses_back_and_is_not_revoked(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "a")
        for kind in ("retry", "lost, again later", "interrupted as a suspect"):
            broker.settle([settlements(self.claim_one(broker), clock.now())[kind]])
            clock.advance(60)
        held = self.claim_one(broker)
        broker.report("a", held.token, Progress(done=4))
        broker.revoke(["a"], terminate=True)
        broker.settle([settlements(held, clock.now())["revoked while it ran"]])

        broker.requeue(["a"])

        record = self.record(broker, "a")
        assert (record.retries, record.losses, record.suspected, record.revoke) == (0, 0, 0, 0)
        assert record.progress is None
        broker.settle([settlements(self.claim_one(broker), clock.now())["requeued"]])
        assert self.state(broker, "a") is State.QUEUED

    def test_a_time_from_before_a_revocation_cuts_no_later_wait_short(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.send([msgspec.structs.replace(message("a"), eta=clock.now() + 30)])
        broker.revoke(["a"])
        broker.requeue(["a"])
        broker.settle([settlements(self.claim_one(broker), clock.now())["retry"]])

        clock.advance(31)

        broker.reap(by="w2")
        assert self.state(broker, "a") is State.SCHEDULED
        assert self.claim(broker) == []

    def test_a_settlement_of_the_run_before_cannot_touch_a_requeued_task(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)
        kinds = settlements(held, clock.now())
        broker.settle([kinds["failure"]])
        broker.requeue(["a"])
        record = self.record(broker, "a")

        broker.settle([kinds["failure"], kinds["success"]])
        assert self.record(broker, "a") == record
        self.claim_one(broker, "w2/0")
        assert broker.settle([kinds["failure"]]) == [kinds["failure"]]

    def test_only_what_ended_without_success_is_requeued(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.finished(broker, clock, "a", State.SUCCESS)
        self.running(broker, "b")
        self.send(broker, "c")
        before = [self.record(broker, task_id) for task_id in "abc"]

        assert broker.requeue(["a", "b", "c", "unknown"]) == 0

        assert [self.record(broker, task_id) for task_id in "abc"] == before

    def test_a_discarded_task_is_gone_with_all_that_was_kept_of_it(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)
        broker.save("a", held.token, b"1")
        broker.settle([settlements(held, clock.now())["failure"]])
        self.send(broker, "b")

        assert broker.discard(["a", "b", "unknown"]) == 2

        assert broker.get("a") is None
        assert broker.attempts("a") == []
        assert broker.saved("a") is None
        assert self.claim(broker) == []
        assert broker.counts() == []

    def test_a_running_task_cannot_be_discarded(self, broker: Engine, clock: ManualClock) -> None:
        held = self.running(broker)

        assert broker.discard(["a"]) == 0

        assert broker.settle([settlements(held, clock.now())["success"]]) == []

    def test_a_discarded_id_may_be_sent_anew_and_old_settlements_cannot_touch_it(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)
        old = settlements(held, clock.now())["failure"]
        broker.settle([old])
        broker.discard(["a"])

        self.send(broker, "a")

        assert broker.settle([old]) == [old]
        again = self.claim_one(broker)
        assert (again.attempt, again.token != held.token) == (1, True)
        assert broker.settle([old]) == [old]

    def test_purging_deletes_what_waits_in_that_queue_alone(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.finished(broker, clock, "done", State.SUCCESS)
        self.running(broker, "running")
        self.send(broker, "queued")
        broker.send([msgspec.structs.replace(message("later"), eta=clock.now() + 60)])
        broker.send([message("elsewhere", queue="mail")])

        assert broker.purge("default") == 2
        assert broker.purge("default") == 0
        assert broker.purge("unknown") == 0

        left = {record.id for record in broker.search(Filter())}
        assert left == {"done", "running", "elsewhere"}

    def test_a_resumed_queue_goes_on_where_it_was(self, broker: Engine, clock: ManualClock) -> None:
        held = self.running(broker, "a")
        self.send(broker, "b")
        broker.pause("default")
        broker.pause("default")
        self.send(broker, "c")
        broker.settle([settlements(held, clock.now())["success"]])
        assert self.claim(broker) == []

        broker.resume("default")
        broker.resume("default")

        self.assert_claimed(broker, [each.id for each in self.claim(broker)], ["b", "c"])

    def test_what_becomes_due_in_a_paused_queue_waits_there(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.send([msgspec.structs.replace(message("a"), eta=clock.now() + 1)])
        broker.pause("default")
        clock.advance(2)

        broker.reap(by="w1")
        assert self.claim(broker) == []
        broker.resume("default")
        assert self.claim_one(broker).id == "a"

    def test_pruning_deletes_what_finished_before_a_time(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        for state in FINISHED:
            self.finished(broker, clock, f"old {state}", state)
        clock.advance(100)
        for state in FINISHED:
            self.finished(broker, clock, f"new {state}", state)
        self.running(broker, "running")
        self.send(broker, "queued")
        clock.advance(100)
        middle = clock.now() - 150

        assert broker.prune(succeeded_before=None, failed_before=None, limit=100) == 0
        assert broker.prune(succeeded_before=middle, failed_before=None, limit=100) == 2
        assert broker.get("old FAILURE") is not None
        assert broker.prune(succeeded_before=middle, failed_before=middle, limit=100) == 1
        assert broker.attempts("old FAILURE") == []
        assert broker.prune(succeeded_before=middle, failed_before=middle, limit=100) == 0
        assert len(broker.search(Filter())) == 5

    def test_pruning_stops_at_its_limit(self, broker: Engine, clock: ManualClock) -> None:
        for number in range(5):
            self.finished(broker, clock, f"task-{number}", State.SUCCESS)
        after = clock.now() + 1

        pruned = [
            broker.prune(succeeded_before=after, failed_before=after, limit=2) for _ in range(4)
        ]

        assert pruned == [2, 2, 1, 0]

    # What is agreed on

    def test_what_was_expected_there_is_exchanged(self, broker: Engine) -> None:
        assert broker.exchange("rate:a", None, b"1") is None
        assert broker.exchange("rate:a", b"1", b"2") == b"1"
        assert broker.exchange("rate:a", b"2", b"\x00\xff") == b"2"
        assert broker.exchange("rate:a", b"\x00\xff", b"4") == b"\x00\xff"

    def test_what_was_not_expected_there_stays_and_is_told(self, broker: Engine) -> None:
        broker.exchange("rate:a", None, b"1")
        assert broker.exchange("rate:a", None, b"2") == b"1"
        assert broker.exchange("rate:a", b"0", b"2") == b"1"
        assert broker.exchange("rate:b", b"0", b"2") is None
        assert broker.exchange("rate:b", None, b"2") is None
        assert broker.exchange("rate:a", b"1", b"3") == b"1"

    @pytest.mark.parametrize("name", ["", "é 😀", "a\x00b", "half \ud800", "x" * 5_000])
    def test_a_name_under_which_something_is_kept_may_hold_any_character(
        self, broker: Engine, name: str
    ) -> None:
        assert broker.exchange(name, None, b"1") is None
        assert broker.exchange(name, b"1", b"2") == b"1"

    def test_threads_that_exchange_at_once_take_turns(self, broker: Engine) -> None:
        def add_ten() -> None:
            known: bytes | None = None
            for _ in range(10):
                while (
                    found := broker.exchange("n", known, b"%d" % (int(known or 0) + 1))
                ) != known:
                    known = found
                known = b"%d" % (int(known or 0) + 1)

        with ThreadPoolExecutor(4) as crew:
            for done in [crew.submit(add_ten) for _ in range(4)]:
                done.result()
        assert broker.exchange("n", b"", b"") == b"40"
