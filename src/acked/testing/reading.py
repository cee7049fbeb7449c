"""What can be read of tasks, queues and workers, and what a running task may say of itself."""

from __future__ import annotations

import msgspec
import pytest

from acked.broker import Engine, Filter, QueueCounts
from acked.clock import ManualClock
from acked.delivery import State
from acked.record import Progress
from acked.tally import KEPT_MINUTES, Count
from acked.testing.timeline import Timeline, message, settlements


class ReadingPromises(Timeline):
    """`get`, `attempts`, `search`, `counts`, `report`, `save`, `saved`."""

    def found(self, broker: Engine, wanted: Filter) -> list[str]:
        """Ids of what *wanted* finds."""
        return [record.id for record in broker.search(wanted)]

    def test_a_task_nobody_sent_is_unknown(self, broker: Engine) -> None:
        assert broker.get("unknown") is None
        assert broker.attempts("unknown") == []
        assert broker.saved("unknown") is None

    def test_the_newest_task_is_found_first(self, broker: Engine, clock: ManualClock) -> None:
        self.send(broker, "b", "a")
        clock.jump(-3600)
        self.send(broker, "c")

        assert self.found(broker, Filter()) == ["c", "a", "b"]

    def test_a_search_finds_whole_records(self, broker: Engine, clock: ManualClock) -> None:
        self.finished(broker, clock, "a", State.FAILURE)

        assert broker.search(Filter()) == [broker.get("a")]

    def test_a_search_can_ask_for_states_queue_task_and_part_of_an_id(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.finished(broker, clock, "cat-1", State.SUCCESS)
        self.finished(broker, clock, "cat-2", State.FAILURE)
        self.running(broker, "dog-1")
        broker.send([
            message("cat-3", queue="mail"),
            msgspec.structs.replace(message("dog-2"), task="shop.scan"),
        ])  # fmt: skip

        assert self.found(broker, Filter(states=(State.SUCCESS, State.RUNNING))) == [
            "dog-1",
            "cat-1",
        ]
        assert self.found(broker, Filter(states=())) == []
        assert self.found(broker, Filter(queue="mail")) == ["cat-3"]
        assert self.found(broker, Filter(task="shop.scan")) == ["dog-2"]
        assert self.found(broker, Filter(id_part="at-")) == ["cat-3", "cat-2", "cat-1"]
        assert self.found(broker, Filter(id_part="cat", queue="default")) == ["cat-2", "cat-1"]
        assert self.found(broker, Filter(queue="unknown")) == []

    @pytest.mark.parametrize("part", ["%", "_", "*", "?", "[", "'", "\\", "ä"])
    def test_part_of_an_id_means_its_characters(self, broker: Engine, part: str) -> None:
        self.send(broker, "plain", f"x{part}y")

        assert self.found(broker, Filter(id_part=part)) == [f"x{part}y"]

    def test_a_search_is_read_page_by_page_while_tasks_keep_coming(self, broker: Engine) -> None:
        ids = [f"task-{number}" for number in range(7)]
        self.send(broker, *ids)
        pages: list[list[str]] = []
        before: int | None = None
        while page := broker.search(Filter(queue="default"), limit=3, before=before):
            pages.append([record.id for record in page])
            before = page[-1].tag
            self.send(broker, f"new-{len(pages)}")

        assert [len(page) for page in pages] == [3, 3, 1]
        assert [task_id for page in pages for task_id in page] == ids[::-1]

    def test_a_search_can_ask_who_ran_it_and_when_it_was_sent(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.running(broker, "a", "w1/0")
        self.running(broker, "b", "w1/1")
        self.running(broker, "c", "w10/0")
        later = msgspec.structs.replace(message("d"), sent=message("d").sent + 60)
        broker.send([later])

        assert self.found(broker, Filter(worker="w1")) == ["b", "a"]
        assert self.found(broker, Filter(worker="w1/1")) == ["b"]
        assert self.found(broker, Filter(worker="w")) == []
        assert self.found(broker, Filter(sent_from=later.sent)) == ["d"]
        assert self.found(broker, Filter(sent_before=later.sent)) == ["c", "b", "a"]
        assert self.found(broker, Filter(sent_from=later.sent, worker="w1")) == []

    def test_a_search_can_ask_for_a_text_among_the_arguments(self, broker: Engine) -> None:
        broker.send(
            [
                msgspec.structs.replace(
                    message("a"), kwargs=msgspec.Raw(msgspec.json.encode({"to": 'Ann "Zoë" \n'}))
                ),
                msgspec.structs.replace(message("b"), args=msgspec.Raw(b"[4711]")),
            ]
        )

        assert self.found(broker, Filter(text="Zoë")) == ["a"]
        assert self.found(broker, Filter(text='Ann "')) == ["a"]
        assert self.found(broker, Filter(text="\n")) == ["a"]
        assert self.found(broker, Filter(text="4711")) == ["b"]
        assert self.found(broker, Filter(text="zoë")) == []
        assert self.found(broker, Filter(text="%")) == []
        assert self.found(broker, Filter(text="\udc80")) == []

    def test_a_search_can_ask_for_a_text_of_the_failure(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.finished(broker, clock, "a", State.FAILURE)
        self.finished(broker, clock, "b", State.SUCCESS)

        assert self.found(broker, Filter(error="errors.Missing")) == ["a"]
        assert self.found(broker, Filter(error="no such")) == ["a"]
        assert self.found(broker, Filter(error="…")) == ["a"]
        assert self.found(broker, Filter(error="another")) == []

    def test_an_empty_text_is_in_every_failure_and_in_nothing_else(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker, "again")
        broker.settle([settlements(held, clock.now())["retry"]])
        self.finished(broker, clock, "failed", State.FAILURE)
        self.finished(broker, clock, "done", State.SUCCESS)
        self.send(broker, "new")

        assert self.found(broker, Filter(error="")) == ["failed", "again"]

    def test_the_attempt_that_a_task_ended_with_ended_when_it_did(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        clock.advance(0.123456789)
        record = self.finished(broker, clock, "a", State.FAILURE)

        assert [each.ended for each in broker.attempts("a")] == [record.finished]

    def test_a_search_looks_no_further_back_than_it_is_asked_to(self, broker: Engine) -> None:
        self.send(broker, "a", "b", "c", "d")
        tags = {record.id: record.tag for record in broker.search(Filter())}

        between = broker.search(Filter(text="cat.png"), before=tags["d"], after=tags["a"])
        assert [record.id for record in between] == ["c", "b"]
        assert len(broker.search(Filter(), before=10**17)) == 4

    def later(self, broker: Engine, *due: tuple[str, float], queue: str = "default") -> None:
        """Send tasks that wait for the times that are named."""
        broker.send(
            [
                msgspec.structs.replace(message(task_id, queue=queue), eta=eta)
                for task_id, eta in due
            ]
        )

    def test_what_is_due_next_comes_first_whenever_and_wherever_it_was_sent(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        now = clock.now()
        self.finished(broker, clock, "done", State.SUCCESS)
        self.later(broker, ("d", now + 40), ("a", now + 10.25))
        self.later(broker, ("c", now + 30), ("b", now + 10.25), queue="mail")
        broker.pause("mail")
        self.send(broker, "at once")

        assert [record.id for record in broker.upcoming()] == ["a", "b", "c", "d"]
        assert broker.upcoming(limit=1) == [broker.get("a")]
        assert broker.upcoming(limit=0) == []

    def test_what_waits_for_a_retry_is_among_what_comes_next(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.later(broker, ("later", clock.now() + 90))
        held = self.running(broker, "again")
        broker.settle([settlements(held, clock.now())["retry"]])

        assert broker.upcoming() == [broker.get("again"), broker.get("later")]
        clock.advance(60)
        broker.reap(by="w1")
        assert [record.id for record in broker.upcoming()] == ["later"]

    def test_what_no_longer_waits_for_its_time_does_not_come_next(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        self.later(broker, *((name, clock.now() + 60) for name in ("a", "b", "c")))
        broker.revoke(["a"])
        broker.discard(["b"])

        assert [record.id for record in broker.upcoming()] == ["c"]

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_what_comes_next_is_read_page_by_page(
        self, broker: Engine, clock: ManualClock, size: int
    ) -> None:
        now = clock.now()
        for name in "abc":  # in each queue two at one moment, which is one of the other queue too
            queue = "mail" if name == "b" else "default"
            times = now + 20, now + 10.1, now + 20
            self.later(broker, *((f"{name}{k}", at) for k, at in enumerate(times)), queue=queue)
        pages: list[list[str]] = []
        after: tuple[float, int] | None = None
        while page := broker.upcoming(limit=size, after=after):
            pages.append([record.id for record in page])
            after = page[-1].due, page[-1].tag

        assert [task_id for page in pages for task_id in page] == [
            "a1", "b1", "c1", "a0", "a2", "b0", "b2", "c0", "c2",
        ]  # fmt: skip
        assert all(len(page) == size for page in pages[:-1])

    def test_counters_add_up(self, broker: Engine) -> None:
        broker.count([Count(100, "default", "shop.scan", "success", 2)])
        broker.count(
            [
                Count(100, "default", "shop.scan", "success", 3),
                Count(100, "default", "shop.scan", "run:7", 5),
                Count(101, "mail", "shop.Zoë", "success", 1),
            ]
        )
        broker.count([])

        def key(count: Count) -> tuple[int, str]:
            return count.minute, count.what

        assert sorted(broker.counted(100, 101), key=key) == [
            Count(100, "default", "shop.scan", "run:7", 5),
            Count(100, "default", "shop.scan", "success", 5),
            Count(101, "mail", "shop.Zoë", "success", 1),
        ]
        assert broker.counted(101, 200) == [Count(101, "mail", "shop.Zoë", "success", 1)]
        assert broker.counted(0, 99) == []

    def test_old_counters_are_forgotten(self, broker: Engine) -> None:
        broker.count([Count(100, "default", "shop.scan", "success", 1)])
        broker.count([Count(100 + KEPT_MINUTES, "default", "shop.scan", "success", 1)])
        assert len(broker.counted(0, 2 * KEPT_MINUTES)) == 2

        broker.count([Count(101 + KEPT_MINUTES, "default", "shop.scan", "success", 1)])
        assert broker.counted(0, 100) == []

    def test_a_clock_that_was_ahead_ends_no_counter_that_comes_later(self, broker: Engine) -> None:
        broker.count([Count(100 + 2 * KEPT_MINUTES, "default", "shop.scan", "success", 1)])
        broker.count([Count(100, "default", "shop.scan", "success", 1)])
        broker.count([Count(101, "default", "shop.scan", "success", 1)])

        assert len(broker.counted(100, 101)) == 2

    def test_queues_are_counted_by_state(self, broker: Engine, clock: ManualClock) -> None:
        since = clock.now()
        self.finished(broker, clock, "a", State.SUCCESS)
        self.finished(broker, clock, "b", State.FAILURE)
        self.finished(broker, clock, "c", State.REVOKED)
        self.running(broker, "d")
        self.send(broker, "e")
        clock.advance(10)
        self.send(broker, "f")
        broker.send([msgspec.structs.replace(message("g"), eta=clock.now() + 60)])
        broker.send([message("h", queue="mail")])
        broker.pause("mail")

        counts = {each.queue: each for each in broker.counts()}

        assert counts == {
            "default": QueueCounts(
                queue="default", scheduled=1, queued=2, running=1, success=1, failure=1,
                revoked=1, oldest=since,
            ),
            "mail": QueueCounts(queue="mail", queued=1, oldest=clock.now(), paused=True),
        }  # fmt: skip

    def test_the_longest_waiting_task_is_the_one_due_first(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        due = clock.now() + 60
        broker.send([msgspec.structs.replace(message("a"), eta=due)])
        clock.advance(100)
        broker.reap(by="w1")
        self.send(broker, "b")

        (counts,) = broker.counts()
        assert counts.oldest == due

    def test_a_paused_queue_is_listed_though_it_is_empty(self, broker: Engine) -> None:
        broker.pause("mail")
        assert broker.counts() == [QueueCounts(queue="mail", paused=True)]

        broker.resume("mail")
        assert broker.counts() == []

    def test_a_running_task_may_say_how_far_it_is_and_the_latest_word_counts(
        self, broker: Engine, clock: ManualClock
    ) -> None:
        held = self.running(broker)
        before = self.record(broker, "a")
        latest = Progress(
            done=2.5, total=10, message="Zürich", meta={"page": [1, None, "x"]}, state="PROGRESS",
            at=clock.now(),
        )  # fmt: skip

        assert broker.report("a", held.token, Progress(done=1)) is True
        assert broker.report("a", held.token, latest) is True

        assert self.record(broker, "a") == msgspec.structs.replace(before, progress=latest)

    def test_a_finished_attempt_says_nothing_more(self, broker: Engine, clock: ManualClock) -> None:
        held = self.running(broker)
        broker.settle([settlements(held, clock.now())["retry"]])
        record = self.record(broker, "a")

        assert broker.report("a", held.token, Progress(done=1)) is False
        assert broker.save("a", held.token, b"1") is False

        assert self.record(broker, "a") == record
        assert broker.saved("a") is None

    def test_only_the_holder_may_report_and_save(self, broker: Engine) -> None:
        held = self.running(broker)
        record = self.record(broker, "a")

        assert broker.report("a", held.token + 1, Progress(done=1)) is False
        assert broker.save("a", held.token + 1, b"1") is False
        assert broker.report("unknown", held.token, Progress(done=1)) is False
        assert broker.save("unknown", held.token, b"1") is False

        assert self.record(broker, "a") == record
        assert broker.saved("a") is None

    @pytest.mark.parametrize("kind", ["retry", "lost, again at once", "interrupted"])
    def test_a_checkpoint_outlives_the_attempt_that_saved_it(
        self, broker: Engine, clock: ManualClock, kind: str
    ) -> None:
        held = self.running(broker)
        assert broker.save("a", held.token, b'{"page":1}') is True
        assert broker.save("a", held.token, b'{"page":2}') is True
        broker.settle([settlements(held, clock.now())[kind]])
        clock.advance(60)

        assert broker.saved("a") == b'{"page":2}'
        again = self.claim_one(broker)
        assert broker.saved("a") == b'{"page":2}'
        assert broker.save("a", again.token, b'{"page":3}') is True
        assert broker.saved("a") == b'{"page":3}'

    def test_a_checkpoint_outlives_the_death_of_its_worker(self, broker: Engine) -> None:
        held = self.running(broker, "a", "w1/0")
        broker.save("a", held.token, b'{"page":1}')

        broker.seize("w1", by="w2")

        assert broker.saved("a") == b'{"page":1}'
