"""What `send` promises."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from acked.broker import Engine
from acked.clock import ManualClock
from acked.delivery import State
from acked.errors import AckedError
from acked.message import encode
from acked.record import Record
from acked.testing.timeline import (
    Background,
    Timeline,
    beat,
    message,
    settlements,
)


class SendingPromises(Timeline):
    """`Broker.send`, `setup` and what a broker says of itself."""

    def test_a_sent_task_is_queued_with_what_its_message_says(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        sent = message("a", queue="mail", priority=7)

        broker.send([sent])

        record = self.record(broker, "a")
        assert record == Record(
            id="a", body=encode(sent), task="shop.resize", queue="mail", priority=7,
            sent=sent.sent, state=State.QUEUED, due=clock.now(), tag=record.tag,
        )  # fmt: skip
        assert broker.attempts("a") == []
        assert broker.saved("a") is None

    def test_a_task_with_an_eta_in_the_future_is_scheduled_for_it(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        eta = clock.now() + 0.25

        broker.send([msgspec.structs.replace(message("a"), eta=eta)])

        assert self.state(broker, "a") is State.SCHEDULED
        assert self.record(broker, "a").due == eta

    @pytest.mark.parametrize("ago", [0.0, 5.0])
    def test_a_task_whose_eta_has_come_is_queued(
        self, broker: Engine, clock: ManualClock, ago: float
    ) -> None:
        broker.send([msgspec.structs.replace(message("a"), eta=clock.now() - ago)])

        assert self.state(broker, "a") is State.QUEUED

    def test_sending_a_known_id_again_changes_nothing(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        broker.send([message("a", queue="mail")])
        before = self.record(broker, "a")
        clock.advance(5)

        broker.send([message("a", queue="default", priority=9), message("b")])

        assert self.record(broker, "a") == before
        assert self.state(broker, "b") is State.QUEUED
        assert [record.id for record in self.claim(broker)] == ["b"]

    @pytest.mark.parametrize("state", [State.SUCCESS, State.FAILURE, State.REVOKED])
    def test_sending_a_finished_task_again_does_not_run_it_again(
        self, broker: Engine, clock: ManualClock, state: State
    ) -> None:
        before = self.finished(broker, clock, "a", state)

        self.send(broker, "a")

        assert self.record(broker, "a") == before
        assert self.claim(broker) == []

    def test_sending_a_running_task_again_leaves_it_with_its_holder(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)

        self.send(broker, "a")

        assert self.claim(broker, "w2/0") == []
        assert broker.settle([settlements(held, clock.now())["success"]]) == []

    def test_an_id_twice_in_one_call_is_one_task(self, broker: Engine) -> None:
        broker.send([message("a", priority=3), message("a", priority=5)])

        assert self.record(broker, "a").priority == 3
        assert len(self.claim(broker)) == 1

    def test_of_messages_sent_together_all_are_stored_or_none(self, broker: Engine) -> None:
        no_json = msgspec.structs.replace(message("b"), headers={"socket": object()})

        with pytest.raises((AckedError, TypeError)):
            broker.send([message("a"), no_json, message("c")])

        assert [broker.get(task_id) for task_id in "abc"] == [None, None, None]

    def test_sending_nothing_is_harmless(self, broker: Engine) -> None:
        broker.send([])

        assert broker.counts() == []

    def test_a_thousand_messages_go_in_one_call(self, broker: Engine) -> None:
        ids = [f"task-{number:04}" for number in range(1000)]

        self.send(broker, *ids)

        assert [held.id for held in self.claim(broker, limit=2000)] == ids

    @pytest.mark.parametrize(
        "text", ["o'clock", '"; DROP TABLE tasks; --', "Ü/ß ☃", "100%", "a_b*", "{1}", "a:b\n"]
    )
    def test_names_may_hold_any_character(
        self, broker: Engine, clock: ManualClock, text: str
    ) -> None:
        broker.send([message(text, queue=text)])
        (held,) = broker.claim("w1/0", [text], 1).deliveries
        broker.settle([settlements(held, clock.now())["failure"]])

        assert self.record(broker, text).queue == text
        assert len(broker.attempts(text)) == 1
        assert broker.requeue([text]) == 1
        assert [counts.queue for counts in broker.counts()] == [text]

    def test_a_megabyte_of_arguments_comes_back_unchanged(self, broker: Engine) -> None:
        large = msgspec.json.encode(["ä" * 500_000])
        sent = msgspec.structs.replace(message("a"), args=msgspec.Raw(large))

        broker.send([sent])

        assert self.claim_one(broker).body == encode(sent)

    def test_the_tag_grows_with_every_task(self, broker: Engine) -> None:
        self.send(broker, "c")
        self.send(broker, "a", "b")

        tags = [self.record(broker, task_id).tag for task_id in "cab"]
        assert tags == sorted(set(tags))

    def test_threads_that_send_and_claim_at_once_lose_and_double_nothing(
        self, broker: Engine
    ) -> None:
        def send_each(sender: int) -> None:
            for number in range(25):
                self.send(broker, f"{sender}-{number}")

        def claim_all(consumer: str) -> list[str]:
            claimed = []
            while deliveries := self.claim(broker, consumer, limit=3):
                claimed += [held.id for held in deliveries]
            return claimed

        for sending in [Background(partial(send_each, sender)) for sender in range(4)]:
            sending.answer()
        claiming = [Background(partial(claim_all, f"w{n}/0")) for n in range(4)]

        claimed = [task_id for each in claiming for task_id in each.answer()]
        assert sorted(claimed) == sorted(f"{s}-{n}" for s in range(4) for n in range(25))

    def test_setting_up_again_keeps_everything(self, broker: Engine, clock: ManualClock) -> None:
        held = self.running(broker)
        broker.renew(beat("w1"))

        Background(broker.setup).answer()
        broker.setup()

        assert broker.settle([settlements(held, clock.now())["success"]]) == []
        assert self.state(broker, "a") is State.SUCCESS

    def test_a_broker_says_where_it_is_and_what_it_can_do(self, broker: Engine) -> None:
        assert "://" in broker.url
        assert "://" in broker.records_url
        assert broker.capabilities.shared in (True, False)
        # Where no other process can come, there is nothing to tell it.
        assert broker.capabilities.shared or broker.presence_dir is None
