"""Random histories of many tasks in several processes, on the pure core alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from acked.delivery import State
from acked.outcome import MAX_LOSSES
from tests.core.world import POLICY, Kind, World

SEEDS = 10_000 if os.environ.get("ACKED_LONG") == "1" else 200
STEPS = 250

ENDS = {
    Kind.PLAIN: State.SUCCESS,
    Kind.FLAKY: State.SUCCESS,
    Kind.ASKS: State.SUCCESS,
    Kind.REJECTS: State.SUCCESS,
    Kind.BROKEN: State.FAILURE,
    Kind.HOPELESS: State.FAILURE,
    Kind.SLOW: State.FAILURE,
    Kind.POISON: State.FAILURE,
}


def ended_worlds(*, accidents: bool) -> Iterator[World]:
    for seed in range(SEEDS):
        world = World(seed, accidents=accidents)
        for _ in range(STEPS):
            world.step()
            world.check()
        world.drain()
        world.check()
        yield world


@pytest.mark.timeout(3600)
def test_every_task_ends_as_its_own_doing_says_whatever_dies_beside_it() -> None:
    for world in ended_worlds(accidents=False):
        for task_id, kind in world.kinds.items():
            record = world.records[task_id]
            assert record.state is ENDS[kind], record
            if kind is not Kind.POISON:
                # Nobody is charged for a neighbour: neither a loss, nor an attempt, nor a retry.
                assert record.losses == 0
                assert record.attempt == world.endings[task_id]
            if kind in (Kind.FLAKY, Kind.ASKS):
                assert record.retries == 2
            if kind is Kind.HOPELESS:
                assert record.retries == POLICY.retry.max_retries


@pytest.mark.timeout(3600)
def test_a_poison_task_starts_exactly_as_often_as_losses_are_allowed() -> None:
    poisons = 0
    for world in ended_worlds(accidents=True):
        for task_id, kind in world.kinds.items():
            if kind is Kind.POISON:
                poisons += 1
                assert world.starts[task_id] == MAX_LOSSES
                assert "poison" in world.records[task_id].reason
    assert poisons > SEEDS


@pytest.mark.timeout(3600)
def test_only_what_ran_alone_at_each_of_its_last_accidents_is_taken_for_poison() -> None:
    for world in ended_worlds(accidents=True):
        for task_id, record in world.records.items():
            losses = sum(entry.loss for entry in world.history[task_id])
            suspicions = sum(
                entry.reason.endswith("beside other tasks") for entry in world.history[task_id]
            )
            assert suspicions <= 1
            assert record.losses == losses + (suspicions if losses else 0)
            assert ("poison" in record.reason) == (record.losses >= MAX_LOSSES)


def test_the_same_seed_gives_the_same_history() -> None:
    def told(seed: int) -> object:
        world = World(seed, accidents=True)
        for _ in range(STEPS):
            world.step()
        return world.records, world.history

    assert told(7) == told(7)
    assert told(7) != told(8)
