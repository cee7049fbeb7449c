"""Random histories: a broker and the pure model, driven side by side and compared at every step."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from acked.broker import Engine, Filter
from acked.clock import Clock, ManualClock
from acked.delivery import Delivery, Settlement, State
from acked.outcome import TaskPolicy, decide
from acked.record import Progress, Record
from acked.supervision import Death, outcome_of_death
from acked.testing.model import Model
from acked.testing.timeline import KINDS, beat, message, settlements

SHORT = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
LONG = settings(SHORT, max_examples=500, stateful_step_count=50)

QUEUES = ("default", "mail")
WORKERS = ("w1", "w2", "w10")
CONSUMERS = ("w1/0", "w1/1", "w2/0", "w10/0")

IDS = "abcdef"

task_ids = st.sampled_from(IDS)
some_ids = st.lists(task_ids, min_size=1, max_size=3, unique=True)
workers = st.sampled_from(WORKERS)
consumers = st.sampled_from(CONSUMERS)
kinds = st.sampled_from(KINDS)
picks = st.integers(0, 999)
"""Which of several things known only when the step runs: that number, modulo how many."""

claimants = st.sampled_from([None, *CONSUMERS])
"""Who claims right after a step, if anybody. Hypothesis leaves whole rules out of a history, and
one without claims tells little; so claiming is a part of several rules."""

Call = tuple[str, str, int, float | None]
"""Id, queue, priority, and seconds until its eta, of a task to send."""

calls = st.lists(
    st.tuples(
        task_ids,
        st.sampled_from(QUEUES),
        st.sampled_from([0, 0, 1, -1]),
        st.sampled_from([None, None, -5.0, 5.0, 60.0]),
    ),
    min_size=1,
    max_size=4,
)


class BrokerStateMachine(RuleBasedStateMachine):
    """Subclass it, give `make_broker`, and run what `TestCase` gives.

    ::

        class Histories(BrokerStateMachine):
            def make_broker(self, clock):
                return MyBroker(clock=clock)

        TestHistories = Histories.TestCase

    60 histories of 30 steps; with ``ACKED_LONG=1`` in the environment, 500 of 50.

    No rule has a precondition: which of two tasks an engine without an order hands out first may
    differ when Hypothesis repeats a history, and what it draws must not depend on that.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.TestCase.settings = LONG if os.environ.get("ACKED_LONG") == "1" else SHORT

    def make_broker(self, clock: Clock) -> Engine:
        """An empty broker that reads the time from *clock*."""
        raise NotImplementedError("a state machine must define make_broker(clock)")

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.broker = self.make_broker(self.clock)
        self.broker.setup()
        self.model = Model(self.clock)
        self.deliveries: list[Delivery] = []
        self.said: list[Settlement] = []
        self.before: dict[str, Record] = {}
        self.requeued: set[str] = set()
        self.send([(task_id, "default", 0, None) for task_id in IDS[:4]], again=False)

    def teardown(self) -> None:
        if hasattr(self, "broker"):
            self.broker.close()

    # Tasks

    @rule(calls=calls, again=st.booleans(), claimant=claimants)
    def send_and_claim(self, calls: list[Call], again: bool, claimant: str | None) -> None:
        self.send(calls, again)
        self.claim_all(claimant)

    def send(self, calls: list[Call], again: bool) -> None:
        messages = [
            msgspec.structs.replace(
                message(task_id, queue=queue, priority=priority),
                eta=None if wait is None else self.clock.now() + wait,
            )
            for task_id, queue, priority, wait in calls
        ]
        self.broker.send(messages)
        if again:  # The reply was lost.
            self.broker.send(messages)
        self.model.send(messages)
        for record in self.broker.search(Filter(), limit=1000):
            self.model.learn_tag(record)

    @rule(
        consumer=consumers,
        queues=st.permutations(QUEUES),
        limit=st.sampled_from([10, 10, 2, 1, 0]),
        endings=st.lists(st.tuples(picks, kinds), max_size=2),
        heard=st.sampled_from([True, True, True, False]),
    )
    def claim(
        self, consumer: str, queues: list[str], limit: int, endings: list[tuple[int, str]],
        heard: bool,
    ) -> None:  # fmt: skip
        asked = [
            self.ending(self.deliveries[pick % len(self.deliveries)], kind)
            for pick, kind in endings
            if self.deliveries
        ]
        claim = self.broker.claim(consumer, queues, limit, settlements=asked)
        assert claim.refused == self.model.settle(asked)
        self.model.claim(
            consumer, queues, limit, claim.deliveries, ordered=self.broker.capabilities.ordered
        )
        if heard:
            self.deliveries += claim.deliveries
        else:
            self.seize_and_settle(consumer, consumer, Death(how="the reply was lost"), [])

    def claim_all(self, consumer: str | None) -> None:
        if consumer is not None:
            self.claim(consumer, list(QUEUES), 10, [], heard=True)

    @rule(pick=picks, kind=kinds, again=st.booleans(), claimant=claimants)
    def settle_what_is_held(self, pick: int, kind: str, again: bool, claimant: str | None) -> None:
        held = [each for each in self.deliveries if self.model.may_speak(each.id, each.token)]
        if held:
            self.settle(held[pick % len(held)], kind, again)
        self.claim_all(claimant)

    @rule(pick=picks, kind=kinds, chosen=st.lists(picks, max_size=3))
    def settle_what_was_held_once(self, pick: int, kind: str, chosen: list[int]) -> None:
        """A late settlement, and repetitions of what was said before."""
        if not self.deliveries:
            return
        self.settle(self.deliveries[pick % len(self.deliveries)], kind, again=False)
        repeated = [self.said[each % len(self.said)] for each in chosen]
        assert self.broker.settle(repeated) == self.model.settle(repeated)

    def settle(self, held: Delivery, kind: str, again: bool) -> None:
        settlement = self.ending(held, kind)
        assert self.broker.settle([settlement]) == self.model.settle([settlement])
        if again:  # The reply was lost.
            assert self.broker.settle([settlement]) == self.model.settle([settlement])

    @rule(pick=picks, done=st.integers(0, 9))
    def speak(self, pick: int, done: int) -> None:
        """Report progress and save a checkpoint, be it allowed or not."""
        if not self.deliveries:
            return
        held = self.deliveries[-1 - pick % len(self.deliveries)]
        progress = Progress(done=done, total=9, meta=[done], at=self.clock.now())
        assert self.broker.report(held.id, held.token, progress) == self.model.report(
            held.id, held.token, progress
        )
        checkpoint = b"%d" % done
        assert self.broker.save(held.id, held.token, checkpoint) == self.model.save(
            held.id, held.token, checkpoint
        )

    # Time and death

    @rule(
        seconds=st.sampled_from([0.5, 3.0, 11.0, 60.0]),
        set_by=st.sampled_from([0.0, 0.0, 0.0, -3600.0, -7.0, 7.0, 3600.0]),
        claimant=claimants,
    )
    def time_passes(self, seconds: float, set_by: float, claimant: str | None) -> None:
        self.clock.advance(seconds)
        self.clock.jump(set_by)
        self.claim_all(claimant)

    @rule(worker=workers, lease=st.sampled_from([10.0, 60.0, 60.0, None]))
    def beat_or_leave(self, worker: str, lease: float | None) -> None:
        if lease is None:
            self.broker.leave(worker)
            self.model.leave(worker)
            return
        sent = beat(worker, lease=lease)
        orders = self.broker.renew(sent)
        assert sorted(orders, key=lambda order: order.id) == sorted(
            self.model.renew(sent), key=lambda order: order.id
        )

    @rule(
        dead=consumers | workers,
        by=workers | consumers,
        death=st.builds(Death, how=st.just("signal 9"), stopping=st.booleans()),
        running=st.lists(picks, max_size=3),
        settled=st.booleans(),
        kept=st.lists(picks, max_size=2),
    )
    def process_dies(
        self, dead: str, by: str, death: Death, running: list[int], settled: bool, kept: list[int]
    ) -> None:
        """Or gives up what it does not know of, where something is *kept*."""
        held = self.model.held_by(dead)
        keep = {held[pick % len(held)].token for pick in kept if held}
        self.seize_and_settle(dead, by, death, running if settled else None, keep)

    @rule(by=workers, settled=st.booleans())
    def reap(self, by: str, settled: bool) -> None:
        seized = self.broker.reap(by=by)
        self.model.reap(by, seized)
        for task_id in self.model.records:
            record = self.broker.get(task_id)
            assert record is not None
            assert not self.model.is_due(record), f"{record} is due and was not made ready"
        self.bury(seized, Death(how="its lease ran out"), range(len(seized)) if settled else None)

    # Operators

    @rule(
        act=st.sampled_from(["revoke", "terminate", "requeue", "delete", "pause", "resume"]),
        ids=some_ids,
        queue=st.sampled_from(QUEUES),
        how=st.sampled_from(["discard", "purge", "prune", "prune successes"]),
    )
    def operate(self, act: str, ids: list[str], queue: str, how: str) -> None:
        """One rule for all that operators do, since tasks should mostly be left to run."""
        broker, model = self.broker, self.model
        if act in ("revoke", "terminate"):
            terminate = act == "terminate"
            revoked = broker.revoke(ids, terminate=terminate)
            assert revoked == model.revoke(ids, terminate=terminate)
        elif act == "requeue":
            self.requeued = set(ids)
            assert broker.requeue(ids) == model.requeue(ids)
        elif act == "delete":
            self.delete(ids[0], how)
        elif act == "pause":
            broker.pause(queue)
            model.paused.add(queue)
        else:
            broker.resume(queue)
            model.paused.discard(queue)

    def delete(self, task_id: str, how: str) -> None:
        records = self.model.records.values()
        if how == "discard":
            deleted = self.broker.discard([task_id])
            doomed = [r for r in self.model.known([task_id]) if r.state is not State.RUNNING]
        elif how == "purge":
            deleted = self.broker.purge("mail")
            doomed = [r for r in records if r.queue == "mail" and r.is_waiting]
        else:
            limit = self.clock.now() - 5
            failed = limit if how == "prune" else None
            deleted = self.broker.prune(succeeded_before=limit, failed_before=failed, limit=9)
            doomed = [
                record
                for record in records
                if record.finished is not None
                and record.finished < limit
                and (failed is not None or record.state is not State.FAILURE)
            ]
        assert deleted == self.model.delete(doomed)

    # What must be true after every step

    @invariant()
    def every_record_is_the_models(self) -> None:
        found = {record.id: record for record in self.broker.search(Filter(), limit=1000)}
        for task_id, record in found.items():
            if record.state is State.QUEUED and task_id in self.model.records:
                self.model.notice_due(task_id)
        assert found == self.model.records
        self.final_stays_final(found)
        self.before = found

    def final_stays_final(self, found: dict[str, Record]) -> None:
        for task_id, record in self.before.items():
            if record.is_final and task_id in found and task_id not in self.requeued:
                assert found[task_id] == record
        self.requeued = set()

    @invariant()
    def what_is_kept_beside_the_records_is_the_models(self) -> None:
        for task_id in IDS:
            assert self.broker.get(task_id) == self.model.records.get(task_id)
            assert self.broker.attempts(task_id) == self.model.attempts.get(task_id, [])
            assert self.broker.saved(task_id) == self.model.saved.get(task_id)
        assert {each.queue: each for each in self.broker.counts()} == self.model.counts()

    @invariant()
    def the_workers_are_the_models(self) -> None:
        known = {each.worker: each for each in self.broker.workers()}
        assert known.keys() == self.model.beats.keys()
        for worker, each in known.items():
            assert each.lease_left == self.model.leases[worker] - self.clock.steady()
            assert each.running == len(self.model.held_by(worker))

    @invariant()
    def a_task_runs_exactly_if_somebody_holds_it(self) -> None:
        running = self.broker.search(Filter(states=(State.RUNNING,)), limit=1000)
        assert {record.id: record.token for record in running} == self.model.holders

    # Steps

    def ending(self, held: Delivery, kind: str) -> Settlement:
        settlement = settlements(held, self.clock.now())[kind]
        self.said.append(settlement)
        return settlement

    def seize_and_settle(
        self,
        dead: str,
        by: str,
        death: Death,
        running: list[int] | None,
        keep: Collection[int] = (),
    ) -> None:
        seized = self.broker.seize(dead, by=by, keep=keep)
        held = [each for each in self.model.held_by(dead) if each.token not in keep]
        self.model.seize(held, by, seized)
        self.bury(seized, death, running)

    def bury(self, seized: list[Delivery], death: Death, running: Iterable[int] | None) -> None:
        """Settle what was seized, those counted by *running* having started; or, where that is
        None, leave it to who holds it now."""
        self.deliveries += seized
        if running is None:
            return
        started = {seized[pick % len(seized)].seized_token for pick in running if seized}
        for held in seized:
            settlement = decide(
                held, outcome_of_death(held, started, death), TaskPolicy(),
                now=self.clock.now(), roll=0.5, started=self.clock.now() - 1,
            )  # fmt: skip
            self.said.append(settlement)
            assert self.broker.settle([settlement]) == self.model.settle([settlement]) == []
