"""What a browser is told: a view with the words of its buttons, as JSON."""

from __future__ import annotations

import msgspec

from acked.pages.grants import Action
from acked.pages.view import SETTLED, TaskView
from acked.pages.words import Words


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """A `TaskView` for one holder of a link.

    Args:
        label: What the page calls the task.
        view: What is said.
        settled: There is no use in asking again.
        open, cancel, retry: What the link and the buttons say; None where there is none.
        offline: What to say when the connection is lost.
    """

    label: str
    view: TaskView
    settled: bool
    open: str | None
    cancel: str | None
    retry: str | None
    offline: str


def state_of(
    view: TaskView, *, label: str, actions: frozenset[Action], words: Words
) -> TaskState:  # fmt: skip
    """*view* for somebody who may do *actions*."""
    return TaskState(
        label=label or words.task,
        view=view,
        settled=view.phase in SETTLED,
        open=words.open_result if view.link else None,
        cancel=words.cancel if view.can_cancel and Action.CANCEL in actions else None,
        retry=words.retry if view.can_retry and Action.RETRY in actions else None,
        offline=words.offline,
    )


class Told(msgspec.Struct, frozen=True):
    """One state on its way: `index` is the place of its token in the request, `now` the server's
    wall clock, since the browser's may be wrong."""

    index: int
    now: float
    state: TaskState


def event(index: int, now: float, state: TaskState) -> bytes:
    """A server-sent event. JSON escapes CR and LF, so that no text can end or begin a field."""
    return b"event: task\ndata: " + msgspec.json.encode(Told(index, now, state)) + b"\n\n"
