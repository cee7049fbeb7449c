"""What `claim` promises."""

from __future__ import annotations

import msgspec
import pytest

from acked.broker import Engine, Filter
from acked.clock import ManualClock
from acked.delivery import Settlement, State
from acked.message import encode
from acked.testing.timeline import KINDS, Timeline, message, settlements


class ClaimingPromises(Timeline):
    """`Broker.claim`."""

    def test_a_claimed_task_is_running_and_says_who_holds_it_since_when(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "a")
        before = self.record(broker, "a")
        clock.advance(3)

        held = self.claim_one(broker, "w1/7")

        assert self.record(broker, "a") == msgspec.structs.replace(
            before, state=State.RUNNING, attempt=1, token=held.token, consumer="w1/7",
            claimed=clock.now(),
        )  # fmt: skip

    def test_a_delivery_carries_the_message_and_the_counts(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        sent = message("a", queue="mail")
        broker.send([sent])

        (held,) = broker.claim("w1/7", ["mail"], 1).deliveries

        assert (held.id, held.body, held.queue) == ("a", encode(sent), "mail")
        assert (held.attempt, held.retries, held.losses, held.suspected) == (1, 0, 0, 0)
        assert (held.consumer, held.seized_token) == ("w1/7", 0)
        assert (held.sent, held.claimed) == (sent.sent, clock.now())
        assert 1 <= held.token < 2**63

    def test_a_running_task_is_given_to_nobody_else(self, broker: Engine) -> None:
        self.running(broker)

        assert self.claim(broker, "w2/0") == []
        assert self.claim(broker, "w1/0") == []

    def test_an_empty_queue_gives_nothing(self, broker: Engine) -> None:
        assert self.claim(broker) == []

    def test_tasks_of_equal_priority_are_claimed_in_the_order_they_were_sent(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "b", "d")
        self.send(broker, "a")
        clock.advance(1)
        self.send(broker, "c")

        came = [self.claim_one(broker).id for _ in range(4)]
        self.assert_claimed(broker, came, ["b", "d", "a", "c"])

    def test_a_larger_priority_is_claimed_sooner(self, broker: Engine) -> None:
        priorities = {"a": 0, "b": -255, "c": 9, "d": 255, "e": 0, "f": -1, "g": 9}
        broker.send([message(task_id, priority=p) for task_id, p in priorities.items()])

        came = [held.id for held in self.claim(broker)]
        self.assert_claimed(broker, came, ["d", "c", "g", "a", "e", "f", "b"])

    def test_an_earlier_queue_is_emptied_before_a_later_one(self, broker: Engine) -> None:
        broker.send([message("a", queue="mail", priority=9), message("b", queue="mail")])
        broker.send([message("c", queue="default"), message("d", queue="other")])

        claim = broker.claim("w1/0", ["default", "mail"], 10)

        assert [held.id for held in claim.deliveries] == ["c", "a", "b"]

    def test_no_more_than_the_limit_is_claimed(self, broker: Engine) -> None:
        broker.send([message("a", queue="mail"), message("b", queue="mail"), message("c")])

        sizes = [len(broker.claim("w1/0", ["mail", "default"], 2).deliveries) for _ in range(3)]

        assert sizes == [2, 1, 0]

    def test_a_limit_of_nothing_claims_nothing(self, broker: Engine) -> None:
        self.send(broker, "a")

        assert broker.claim("w1/0", ["default"], 0).deliveries == []
        assert self.state(broker, "a") is State.QUEUED

    def test_each_claim_counts_an_attempt(self, broker: Engine, clock: ManualClock) -> None:
        self.send(broker, "a")
        for attempt in (1, 2, 3):
            held = self.claim_one(broker)
            assert held.attempt == attempt
            assert held.retries == attempt - 1
            broker.settle([settlements(held, clock.now())["retry"]])
            clock.advance(60)

    def test_no_token_is_given_twice(self, broker: Engine, clock: ManualClock) -> None:
        tokens: list[int] = []
        self.send(broker, "a", "b", "c")
        for _ in range(4):
            held = self.claim(broker)
            tokens += [each.token for each in held]
            tokens += [each.token for each in broker.seize("w1", by="w2")]
            released = broker.seize("w2", by="w3")
            tokens += [each.token for each in released]
            broker.settle([Settlement.unstarted(each, at=clock.now()) for each in released])

        assert len(tokens) == 36
        assert len(set(tokens)) == len(tokens)

    def test_a_scheduled_task_is_claimed_when_its_time_has_come_and_not_before(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.send([msgspec.structs.replace(message("a"), eta=clock.now() + 60)])

        clock.advance(59.75)
        assert self.claim(broker) == []
        clock.advance(0.25)
        assert self.claim_one(broker).id == "a"

    def test_a_scheduled_task_takes_its_place_by_priority_when_due(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "a")
        broker.send([msgspec.structs.replace(message("b", priority=1), eta=clock.now() + 1)])
        clock.advance(1)

        self.assert_claimed(broker, [held.id for held in self.claim(broker)], ["b", "a"])

    def test_setting_the_clock_back_hides_no_queued_task(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.send(broker, "a")

        clock.jump(-3600)

        assert self.claim_one(broker).id == "a"

    def test_a_scheduled_task_follows_the_wall_clock_when_it_is_set(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.send([msgspec.structs.replace(message("a"), eta=clock.now() + 60)])

        clock.jump(-3600)
        clock.advance(60)
        assert self.claim(broker) == []
        clock.jump(3600)
        assert self.claim_one(broker).id == "a"

    def test_a_paused_queue_gives_nothing_and_others_go_on(self, broker: Engine) -> None:
        broker.send([message("a", queue="mail"), message("b")])
        broker.pause("mail")

        claim = broker.claim("w1/0", ["mail", "default"], 10)

        assert [held.id for held in claim.deliveries] == ["b"]

    def test_only_the_queues_asked_for_are_touched(self, broker: Engine) -> None:
        broker.send([message("a", queue="mail")])

        assert self.claim(broker) == []
        assert self.state(broker, "a") is State.QUEUED

    def test_settling_and_claiming_are_one_call(self, broker: Engine, clock: ManualClock) -> None:
        held = self.running(broker, "a")
        self.send(broker, "b")

        claim = broker.claim(
            "w1/0", ["default"], 5, settlements=[settlements(held, clock.now())["success"]]
        )

        assert [each.id for each in claim.deliveries] == ["b"]
        assert claim.refused == []
        assert self.state(broker, "a") is State.SUCCESS

    def test_what_a_settlement_released_can_be_claimed_in_the_same_call(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)

        claim = broker.claim(
            "w1/0", ["default"], 5, settlements=[Settlement.unstarted(held, at=clock.now())]
        )

        assert [(each.id, each.attempt) for each in claim.deliveries] == [("a", 1)]

    def test_a_claim_says_which_of_its_settlements_were_refused(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        lost, kept = self.running(broker, "a"), self.running(broker, "b", "w2/0")
        broker.seize("w1", by="w3")
        self.send(broker, "c")
        stale = settlements(lost, clock.now())["success"]
        good = settlements(kept, clock.now())["success"]

        claim = broker.claim("w1/0", ["default"], 5, settlements=[stale, good])

        assert claim.refused == [stale]
        assert [each.id for each in claim.deliveries] == ["c"]
        assert self.state(broker, "b") is State.SUCCESS

    def test_settlements_are_applied_where_nothing_is_claimed(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)

        broker.claim("w1/0", [], 0, settlements=[settlements(held, clock.now())["success"]])

        assert self.state(broker, "a") is State.SUCCESS

    def test_a_body_nobody_can_read_is_handed_out_as_it_is_and_ends_as_failure(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        body = b'\xff\x00{"v":99, not json'
        task_id = self.plant_raw(broker, body)

        held = self.claim_one(broker)

        assert (held.id, held.body) == (task_id, body)
        broker.settle([settlements(held, clock.now())["failure unread"]])
        assert self.state(broker, task_id) is State.FAILURE
        assert self.record(broker, task_id).body == body
        assert [found.id for found in broker.search(Filter())] == [task_id]

    def test_a_body_nobody_can_read_does_not_hold_up_the_others(self, broker: Engine) -> None:
        self.send(broker, "a")
        self.plant_raw(broker, b"")
        self.send(broker, "b")

        assert len(self.claim(broker)) == 3

    @pytest.mark.parametrize("kind", KINDS)
    def test_after_every_kind_of_settlement_the_task_waits_or_has_ended(
        self, broker: Engine, clock: ManualClock, kind: str
    ) -> None:
        held = self.running(broker)
        broker.settle([settlements(held, clock.now())[kind]])
        record = self.record(broker, "a")
        clock.advance(3600)

        again = [each.id for each in self.claim(broker, "w2/0")]

        assert again == ([] if record.is_final else ["a"])
