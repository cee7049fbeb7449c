"""What is counted of attempts, and what is read from the counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked.delivery import Delivery, Failure, Settlement
from acked.tally import SHORTEST, Tally, bucket_of, kind_of, longest_in, percentile

HELD = Delivery(id="a", body=b"{}", token=1)
FAILURE = Failure("ValueError", "no")


@pytest.mark.parametrize(
    ("settlement", "kind"),
    [
        (Settlement.succeed(HELD, at=2.0, started=1.0, result=None), "success"),
        (Settlement.fail(HELD, at=2.0, started=1.0, failure=FAILURE), "failure"),
        (Settlement.fail(HELD, at=2.0, started=None, failure=FAILURE), "failure"),
        (Settlement.fail(HELD, at=2.0, started=1.0, failure=FAILURE, loss=True), "loss"),
        (Settlement.retry(HELD, at=2.0, started=1.0, not_before=9.0, reason="retry"), "retry"),
        (Settlement.lost(HELD, at=2.0, started=1.0, failure=FAILURE, not_before=None), "loss"),
        (Settlement.interrupted(HELD, at=2.0, started=1.0, reason="stopped"), "interrupted"),
        (Settlement.revoke(HELD, at=2.0, started=1.0, reason="terminated"), "revoked"),
        (Settlement.unstarted(HELD, at=2.0), None),
        (Settlement.postponed(HELD, at=2.0, not_before=9.0, reason="unknown"), None),
        (Settlement.revoke(HELD, at=2.0, started=None, reason="expired"), None),
    ],
)
def test_each_ending_is_counted_as_one_kind(settlement: Settlement, kind: str | None) -> None:
    assert kind_of(settlement) == kind


@given(st.floats(0.0, 1e7))
def test_a_time_is_at_most_a_fifth_shorter_than_its_bucket_says(seconds: float) -> None:
    longest = longest_in(bucket_of(seconds))
    assert seconds <= longest * (1 + 1e-9)
    if seconds > SHORTEST:
        assert longest <= seconds * 1.1893


@given(st.lists(st.floats(0.001, 1000.0), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_that_of_the_times_to_within_a_bucket(
    times: list[float], share: float
) -> None:
    found = percentile([(bucket_of(each), 1) for each in times], share)
    assert found is not None
    not_longer = sum(each <= found * (1 + 1e-9) for each in times)
    assert not_longer >= share * len(times)


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile([], 0.5) is None


def test_a_tally_gives_what_it_counted_once() -> None:
    tally = Tally()
    done = Settlement.succeed(HELD, at=121.0, started=120.5, result=None)
    tally.note(done, queue="default", task="shop.scan", waited=0.0)
    tally.note(done, queue="default", task="shop.scan")
    tally.note(Settlement.unstarted(HELD, at=121.0), queue="default", task="shop.scan")
    counted = {(each.minute, each.what): each.number for each in tally.take()}
    assert counted == {(2, "success"): 2, (2, f"run:{bucket_of(0.5)}"): 2, (2, "wait:0"): 1}
    assert tally.take() == []


def test_a_loss_that_ends_the_task_counts_as_a_failure_too() -> None:
    tally = Tally()
    end = Settlement.fail(HELD, at=60.0, started=60.0, failure=FAILURE, loss=True)
    tally.note(end, queue="default", task="shop.scan")
    assert {each.what for each in tally.take()} == {"loss", "failure"}
