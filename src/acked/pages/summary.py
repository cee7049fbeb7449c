"""What is said of several tasks together: a pure function of what is said of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from acked.pages.view import SETTLED, Phase, TaskView
from acked.pages.words import ENGLISH, Words

_WORST_FIRST = (Phase.FAILED, Phase.CANCELLED, Phase.EXPIRED, Phase.UNKNOWN)


def summary_of(views: Sequence[TaskView], *, words: Words = ENGLISH) -> TaskView:
    """What is said of all of *views*.

    Those that are refused do not count. The phase is that of the tasks while they share one, and
    working while some have ended and others not. In the end it is done where all are, or else the
    worst of what there was.
    """
    seen = [each for each in views if each.phase is not Phase.REFUSED]
    if not seen:
        return TaskView(phase=Phase.REFUSED, headline=words.refused, detail=words.refused_detail)
    counts = Counter(each.phase for each in seen)
    still = counts.keys() - SETTLED
    told = _counted(counts, words)
    if still:
        if len(counts) > 1 or still == {Phase.WORKING}:
            return TaskView(phase=Phase.WORKING, headline=told, fraction=_fraction(seen))
        return TaskView(phase=still.pop(), headline=seen[0].headline, amount=told)
    worst = next((each for each in _WORST_FIRST if counts[each]), None)
    if worst is None:
        return TaskView(phase=Phase.DONE, headline=words.done, amount=told, fraction=1.0)
    return TaskView(phase=worst, headline=told)


def _fraction(views: Sequence[TaskView]) -> float | None:
    """The mean; what has ended has gone all the way, whatever became of it."""
    far = [1.0 if each.phase in SETTLED else each.fraction for each in views]
    if all(each is None for each in far):
        return None
    return sum(each or 0.0 for each in far) / len(far)


def _counted(counts: Counter[Phase], words: Words) -> str:
    total = counts.total()
    rest = (
        (words.count_failed, Phase.FAILED), (words.count_cancelled, Phase.CANCELLED),
        (words.count_expired, Phase.EXPIRED), (words.count_unknown, Phase.UNKNOWN),
    )  # fmt: skip
    return ", ".join(
        [
            words.done_of.format(count=counts[Phase.DONE], total=total),
            *(text.format(count=counts[phase]) for text, phase in rest if counts[phase]),
        ]
    )
