"""What is said of several tasks together."""

from __future__ import annotations

import pytest

from acked.pages.summary import summary_of
from acked.pages.view import SETTLED, Phase, TaskView
from acked.pages.words import Words


def views(*phases: Phase, fraction: float | None = None) -> list[TaskView]:
    return [
        TaskView(
            phase=phase, headline=phase.value, fraction=fraction if phase not in SETTLED else None
        )
        for phase in phases
    ]


def test_it_counts_what_is_done_and_what_failed() -> None:
    whole = summary_of(
        views(*[Phase.DONE] * 7, Phase.FAILED, Phase.WORKING, Phase.WAITING, fraction=0.0)
    )
    assert (whole.phase, whole.headline) == (Phase.WORKING, "7 of 10 done, 1 failed")
    assert whole.fraction == pytest.approx(0.8)


def test_every_way_to_end_is_counted_apart() -> None:
    whole = summary_of(
        views(Phase.DONE, Phase.FAILED, Phase.CANCELLED, Phase.EXPIRED, Phase.UNKNOWN)
    )
    assert whole.headline == "1 of 5 done, 1 failed, 1 cancelled, 1 expired, 1 unknown"


def test_it_is_done_when_all_are() -> None:
    whole = summary_of(views(Phase.DONE, Phase.DONE))
    assert (whole.phase, whole.headline, whole.amount) == (Phase.DONE, "Done", "2 of 2 done")
    assert whole.fraction == 1.0


@pytest.mark.parametrize("ended", [Phase.FAILED, Phase.CANCELLED, Phase.EXPIRED, Phase.UNKNOWN])
def test_it_ends_as_the_worst_of_its_tasks(ended: Phase) -> None:
    whole = summary_of(views(Phase.DONE, ended, Phase.DONE))
    assert (whole.phase, whole.fraction) == (ended, None)
    assert summary_of(views(ended, Phase.FAILED)).phase is Phase.FAILED


@pytest.mark.parametrize("phase", [each for each in Phase if each not in SETTLED])
def test_it_is_what_its_tasks_are_while_they_are_all_the_same(phase: Phase) -> None:
    assert summary_of(views(phase, phase)).phase is phase


def test_it_works_while_some_have_ended_and_others_not() -> None:
    assert summary_of(views(Phase.WAITING, Phase.DONE)).phase is Phase.WORKING
    assert summary_of(views(Phase.WAITING, Phase.TRYING_AGAIN)).phase is Phase.WORKING


def test_the_share_of_a_task_that_works_counts() -> None:
    assert summary_of(views(Phase.WORKING, Phase.DONE, fraction=0.5)).fraction == 0.75


def test_without_any_share_there_is_none() -> None:
    assert summary_of(views(Phase.WORKING, Phase.WORKING)).fraction is None


def test_a_task_one_may_not_see_does_not_count() -> None:
    assert summary_of(views(Phase.DONE, Phase.REFUSED)).amount == "1 of 1 done"
    assert summary_of(views(Phase.REFUSED)).phase is Phase.REFUSED


def test_it_is_said_in_other_words_where_they_are_given() -> None:
    german = Words(done_of="{count} von {total} fertig", count_failed="{count} gescheitert")
    whole = summary_of(views(Phase.DONE, Phase.FAILED), words=german)
    assert whole.headline == "1 von 2 fertig, 1 gescheitert"
