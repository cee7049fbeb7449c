"""From what is known of tasks to what one visitor is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from acked.pages.grants import Action, Grant
from acked.pages.rights import Shown
from acked.pages.state import TaskState, Told, state_of
from acked.pages.summary import summary_of
from acked.pages.view import Known, TaskView, refused, unreachable, view_of
from acked.pages.words import Words

_NOTHING = frozenset[Action]()

Look = Callable[[str], Known | None]
"""What is known of the task of that id; None before it was read."""


class Teller:
    """Tells visitors of tasks.

    Args:
        now: The wall clock of the application.
        words: What is said.
        safe_errors: What to say when an exception of that name ended a task.
    """

    def __init__(
        self, now: Callable[[], float], words: Words, safe_errors: Mapping[str, str]
    ) -> None:
        self._now = now
        self._words = words
        self._safe_errors = safe_errors

    def told(self, index: int, shown: Shown | None, look: Look) -> list[Told]:
        """What the holder of the token at *index* is told: of its one task; or of all together,
        and then of each. Nothing before all of them were read."""
        now = self._now()
        if shown is None:
            return [Told(index, now, self.refused())]
        views = [self._view(grant, look, now) for grant in shown.grants]
        known = [view for view in views if view is not None]
        if len(known) < len(views):
            return []
        states = [self._state(shown, place, view) for place, view in enumerate(known)]
        if shown.tokens is None:
            return [Told(index, now, states[0])]
        together = self._together(shown.label, summary_of(known, words=self._words))
        return [
            Told(index, now, together),
            *(Told(index, now, state, place) for place, state in enumerate(states)),
        ]

    def state(self, known: Known, grant: Grant) -> TaskState:
        """Of one task."""
        view = view_of(known, now=self._now(), words=self._words, safe_errors=self._safe_errors)
        return state_of(view, label=grant.label, actions=grant.actions, words=self._words)

    def refused(self) -> TaskState:
        """To who may see nothing."""
        return self._together("", refused(self._words))

    def unreachable(self, label: str) -> TaskState:
        """While the broker does not answer."""
        return self._together(label, unreachable(self._words))

    def _view(self, grant: Grant | None, look: Look, now: float) -> TaskView | None:
        if grant is None:
            return refused(self._words)
        known = look(grant.task_id)
        if known is None:
            return None
        return view_of(known, now=now, words=self._words, safe_errors=self._safe_errors)

    def _state(self, shown: Shown, place: int, view: TaskView) -> TaskState:
        grant = shown.grants[place]
        label, actions = (grant.label, grant.actions) if grant else ("", _NOTHING)
        token = None
        if shown.tokens is not None:
            label = label or self._words.numbered.format(number=place + 1)
            token = shown.tokens[place] if grant else None
        return state_of(view, label=label, actions=actions, words=self._words, token=token)

    def _together(self, label: str, view: TaskView) -> TaskState:
        """With nothing to press."""
        return state_of(view, label=label, actions=_NOTHING, words=self._words)
