"""What `renew`, `leave`, `seize` and `reap` promise."""

from __future__ import annotations

import msgspec
import pytest

from acked.broker import DEFAULT_LEASE, Engine, Order, WorkerRecord
from acked.clock import ManualClock
from acked.delivery import Settlement, State
from acked.message import encode
from acked.record import Progress
from acked.testing.timeline import Timeline, beat, message, much, settlements


class LeasePromises(Timeline):
    """Who holds a task, for how long, and what becomes of a dead worker's tasks."""

    def test_a_worker_that_lost_its_lease_cannot_finish_the_next_attempt(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w1", lease=10))
        slow = self.running(broker, "a", "w1/0")
        clock.advance(11)
        (seized,) = broker.reap(by="w2")
        broker.settle([settlements(seized, clock.now())["lost, again at once"]])
        fast = self.claim_one(broker, "w2/0")
        record, attempts = self.record(broker, "a"), broker.attempts("a")

        late = settlements(slow, clock.now())
        assert broker.settle([late["success"], late["retry"]]) == [late["success"], late["retry"]]
        assert broker.report("a", slow.token, Progress(done=1)) is False
        assert broker.save("a", slow.token, b"1") is False

        assert self.record(broker, "a") == record
        assert broker.attempts("a") == attempts
        assert broker.saved("a") is None
        assert fast.attempt == 2
        assert broker.settle([settlements(fast, clock.now())["success"]]) == []
        assert self.state(broker, "a") is State.SUCCESS

    def test_a_worker_that_beats_keeps_what_it_holds_however_long_it_takes(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w1", lease=10))
        held = self.running(broker, "a", "w1/0")
        for _ in range(20):
            clock.advance(9.75)
            assert broker.reap(by="w2") == []
            broker.renew(beat("w1", lease=10))

        assert broker.settle([settlements(held, clock.now())["success"]]) == []

    def test_one_beat_keeps_what_every_consumer_of_the_worker_holds(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w1", lease=10))
        for number in range(3):
            self.running(broker, f"task-{number}", f"w1/{number}")
        clock.advance(9)
        broker.renew(beat("w1", lease=10))
        clock.advance(9)

        assert broker.reap(by="w2") == []

    @pytest.mark.parametrize("lease", [1.0, 10.0, 600.0])
    def test_a_lease_lasts_as_long_as_the_beat_said(
        self, broker: Engine, clock: ManualClock, lease: float
    ) -> None:
        broker.renew(beat("w1", lease=lease))
        self.running(broker, "a", "w1/0")

        clock.advance(lease - 0.25)
        assert broker.reap(by="w2") == []
        clock.advance(0.5)
        assert [held.id for held in broker.reap(by="w2")] == ["a"]

    def test_a_worker_that_claims_before_its_first_beat_has_a_lease(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.running(broker, "a", "w1/0")

        clock.advance(DEFAULT_LEASE - 0.25)
        assert broker.reap(by="w2") == []
        clock.advance(0.5)
        assert [held.id for held in broker.reap(by="w2")] == ["a"]

    def test_a_seized_delivery_names_the_dead_holder_and_has_a_fresh_token(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker, "a", "w1/3")
        before = self.record(broker, "a")
        clock.advance(11)

        (seized,) = broker.reap(by="w2/0")

        assert seized.token != held.token
        assert seized == msgspec.structs.replace(held, token=seized.token, seized_token=held.token)
        assert self.record(broker, "a") == msgspec.structs.replace(
            before, token=seized.token, consumer="w2/0"
        )

    def test_what_was_seized_is_settled_by_who_seized_it(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.running(broker, "a", "w1/0")
        (seized,) = broker.seize("w1", by="w2")

        assert broker.settle([settlements(seized, clock.now())["lost, again at once"]]) == []

        (entry,) = broker.attempts("a")
        assert entry.loss
        assert self.record(broker, "a").losses == 1
        assert self.claim_one(broker).id == "a"

    def test_a_dead_consumer_says_nothing_more_once_it_was_seized(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker, "a", "w1/0")
        broker.seize("w1/0", by="w1")
        record = self.record(broker, "a")

        late = settlements(held, clock.now())["success"]

        assert broker.settle([late]) == [late]
        assert self.record(broker, "a") == record

    def test_what_was_settled_before_cannot_be_seized(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.finished(broker, clock, "a", State.SUCCESS)

        assert broker.seize("w1", by="w2") == []
        clock.advance(100)
        assert broker.reap(by="w2") == []

    def test_seizing_a_worker_takes_from_all_its_consumers(self, broker: Engine) -> None:
        for number in range(3):
            self.running(broker, f"task-{number}", f"w1/{number}")

        seized = broker.seize("w1", by="w2")

        assert sorted((held.id, held.consumer) for held in seized) == [
            ("task-0", "w1/0"),
            ("task-1", "w1/1"),
            ("task-2", "w1/2"),
        ]

    def test_seizing_a_consumer_leaves_its_neighbours_alone(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.running(broker, "a", "w1/1")
        neighbours = [self.running(broker, "b", "w1/0"), self.running(broker, "c", "w1/10")]

        assert [held.id for held in broker.seize("w1/1", by="w1")] == ["a"]

        assert broker.settle([settlements(h, clock.now())["success"] for h in neighbours]) == []

    def test_names_that_begin_alike_are_not_confused(self, broker: Engine) -> None:
        self.running(broker, "a", "w1/0")
        self.running(broker, "b", "w10/0")
        self.running(broker, "c", "w_/0")
        self.running(broker, "d", "w%/0")

        assert [held.id for held in broker.seize("w1", by="w2")] == ["a"]
        assert [held.id for held in broker.seize("w_", by="w2")] == ["c"]
        assert [held.id for held in broker.seize("w%", by="w2")] == ["d"]

    def test_what_was_seized_is_not_seized_again(self, broker: Engine) -> None:
        self.running(broker, "a", "w1/0")
        assert len(broker.seize("w1", by="w2")) == 1

        assert broker.seize("w1", by="w3") == []
        assert broker.reap(by="w3") == []

    def test_seizing_from_someone_unknown_gives_nothing(self, broker: Engine) -> None:
        assert broker.seize("w9", by="w1") == []

    def test_a_consumer_may_seize_its_own_since_a_claims_reply_can_be_lost(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        unheard = self.running(broker, "a", "w1/0")

        (seized,) = broker.seize("w1/0", by="w1/0")

        assert seized.token != unheard.token
        assert broker.settle([Settlement.unstarted(seized, at=clock.now())]) == []
        assert self.claim_one(broker).attempt == 1

    def test_what_the_seizer_asks_to_keep_stays_as_it_is(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        """A consumer that works asks what it holds and does not know of."""
        known = self.running(broker, "a", "w1/0")
        self.running(broker, "b", "w1/0")

        (seized,) = broker.seize("w1/0", by="w1/0", keep={known.token, 4711})

        assert seized.id == "b"
        assert broker.seize("w1/0", by="w1/0", keep=[known.token, seized.token]) == []
        ends = [settlements(each, clock.now())["success"] for each in (known, seized)]
        assert broker.settle(ends) == []

    def test_who_seized_and_died_too_is_seized_in_turn(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w2", lease=10))
        self.running(broker, "a", "w1/0")
        (first,) = broker.seize("w1", by="w2/0")
        clock.advance(11)

        (second,) = broker.reap(by="w3")

        assert (second.consumer, second.seized_token) == ("w2/0", first.token)

    def test_the_lease_of_what_was_seized_is_that_of_its_new_holder(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w1", lease=5))
        broker.renew(beat("w2", lease=60))
        self.running(broker, "a", "w1/0")
        broker.seize("w1/0", by="w2/0")

        clock.advance(50)

        assert broker.reap(by="w3") == []

    def test_who_reaps_has_a_lease_though_its_own_had_run_out(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.running(broker, "a", "w1/0")
        clock.advance(DEFAULT_LEASE + 1)
        (own,) = broker.reap(by="w1")

        assert broker.reap(by="w2") == []

        assert broker.settle([settlements(own, clock.now())["interrupted"]]) == []

    @pytest.mark.parametrize("seconds", [3600.0, -3600.0, 315_360_000.0])
    def test_setting_the_clock_ends_no_lease(
        self, broker: Engine, clock: ManualClock, seconds: float
    ) -> None:
        broker.renew(beat("w1", lease=10))
        held = self.running(broker, "a", "w1/0")

        clock.jump(seconds)

        assert broker.reap(by="w2") == []
        assert broker.settle([settlements(held, clock.now())["success"]]) == []

    @pytest.mark.parametrize("seconds", [3600.0, -3600.0])
    def test_setting_the_clock_prolongs_no_lease(
        self, broker: Engine, clock: ManualClock, seconds: float
    ) -> None:
        broker.renew(beat("w1", lease=10))
        self.running(broker, "a", "w1/0")

        clock.jump(seconds)
        clock.advance(11)

        assert [held.id for held in broker.reap(by="w2")] == ["a"]

    def test_reaping_makes_due_tasks_ready_and_leaves_the_others(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        soon, late = clock.now() + 10, clock.now() + 20
        broker.send([
            msgspec.structs.replace(message("a"), eta=soon),
            msgspec.structs.replace(message("b"), eta=late),
            msgspec.structs.replace(message("c", queue="mail"), eta=soon),
        ])  # fmt: skip
        clock.advance(10)

        assert broker.reap(by="w1") == []

        assert [self.state(broker, task_id) for task_id in "abc"] == [
            State.QUEUED,
            State.SCHEDULED,
            State.QUEUED,
        ]
        assert self.record(broker, "a").due == soon

    def test_reaping_takes_from_the_dead_alone(self, broker: Engine, clock: ManualClock) -> None:
        broker.renew(beat("w1", lease=10))
        broker.renew(beat("w2", lease=60))
        self.running(broker, "a", "w1/0")
        self.running(broker, "b", "w2/0")
        clock.advance(11)

        assert [held.id for held in broker.reap(by="w3")] == ["a"]

    def test_a_worker_that_comes_back_after_its_lease_starts_with_nothing(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w1", lease=10))
        self.running(broker, "a", "w1/0")
        broker.revoke(["a"], terminate=True)
        clock.advance(11)
        broker.reap(by="w2")

        assert broker.renew(beat("w1", lease=10)) == []

        (back,) = (worker for worker in broker.workers() if worker.worker == "w1")
        assert back.running == 0
        again = self.running(broker, "b", "w1/0")
        assert broker.settle([settlements(again, clock.now())["success"]]) == []

    def test_much_that_a_dead_worker_held_is_taken_over_whole(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w1", lease=10))
        broker.send([much(f"task-{number}") for number in range(8)])
        held = broker.claim("w1/0", ["default"], 8).deliveries
        clock.advance(11)

        seized = broker.reap(by="w2")
        # As who does not know of the last six.
        again = broker.seize("w2", by="w2", keep=[each.token for each in seized[:2]])

        for taken in (seized, [*seized[:2], *again]):
            assert sorted(each.id for each in taken) == sorted(each.id for each in held)
            assert all(each.body == encode(much(each.id)) for each in taken)
        stale, current = (
            [settlements(each, clock.now())["lost, again at once"] for each in taken]
            for taken in (seized[2:], [*seized[:2], *again])
        )
        assert broker.settle(stale) == stale
        assert broker.settle(current) == []

    def test_a_dead_worker_is_forgotten_once_it_was_reaped(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w1", lease=10))
        clock.advance(11)
        (dead,) = broker.workers()
        assert dead.lease_left == -1

        broker.reap(by="w2")

        assert broker.workers() == []

    def test_a_worker_that_left_is_forgotten_at_once(self, broker: Engine) -> None:
        broker.renew(beat("w1"))
        broker.renew(beat("w2"))

        broker.leave("w1")

        assert [worker.worker for worker in broker.workers()] == ["w2"]

    def test_leaving_twice_or_unknown_is_harmless(self, broker: Engine) -> None:
        broker.renew(beat("w1"))
        broker.leave("w1")
        broker.leave("w1")
        broker.leave("w9")

    def test_what_a_worker_still_held_when_it_left_is_not_lost(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w1", lease=600))
        self.running(broker, "a", "w1/0")
        broker.leave("w1")

        clock.advance(DEFAULT_LEASE + 1)

        assert [held.id for held in broker.reap(by="w2")] == ["a"]

    def test_a_beat_brings_the_order_to_kill_what_was_revoked(self, broker: Engine) -> None:
        held = self.running(broker, "a", "w1/0")
        self.running(broker, "b", "w1/1")
        self.running(broker, "c", "w2/0")
        assert broker.renew(beat("w1")) == []

        broker.revoke(["a", "c"], terminate=True)

        assert broker.renew(beat("w1")) == [Order("a", held.token)]

    def test_an_order_is_repeated_until_it_was_carried_out(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker, "a", "w1/0")
        broker.revoke(["a"], terminate=True)
        assert broker.renew(beat("w1")) == [Order("a", held.token)]
        assert broker.renew(beat("w1")) == [Order("a", held.token)]

        broker.settle([settlements(held, clock.now())["revoked while it ran"]])

        assert broker.renew(beat("w1")) == []

    def test_a_revocation_without_terminate_orders_nobody_killed(self, broker: Engine) -> None:
        self.running(broker, "a", "w1/0")

        broker.revoke(["a"])

        assert broker.renew(beat("w1")) == []

    def test_a_workers_latest_beat_is_what_is_known_of_it(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.renew(beat("w1", lease=10))
        self.running(broker, "a", "w1/0")
        self.running(broker, "b", "w1/1")
        clock.advance(3)
        broker.renew(msgspec.structs.replace(beat("w1", lease=10), processes=4, queues=("mail",)))
        clock.advance(2)

        assert broker.workers() == [
            WorkerRecord(
                worker="w1", host="attic", pid=4711, started=999_999_990.0, queues=("mail",),
                processes=4, lease_left=8.0, running=2,
            )
        ]  # fmt: skip

    def test_a_body_nobody_can_read_is_seized_like_any_other(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        body = encode(message("a"))[:-4]
        self.plant_raw(broker, body)
        self.claim_one(broker, "w1/0")
        clock.advance(11)

        (seized,) = broker.reap(by="w2")

        assert seized.body == body
