"""What a browser is told: a view with the words of its buttons, as JSON."""

from __future__ import annotations

import msgspec

from acked.pages.grants import Action
from acked.pages.view import SETTLED, TaskView
from acked.pages.words import Words


class TaskState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `TaskView` for one holder of a link.

    Args:
        label: What the page calls the task.
        view: What is said.
        settled: There is no use in asking again.
        open, cancel, retry: What the link and the buttons say; None where there is none.
        offline: What to say when the connection is lost.
        not_done: What to say when a button did not work; None where there is none.
        token: For one of several tasks, the token that is for it alone.
    """

    label: str
    view: TaskView
    settled: bool
    open: str | None
    cancel: str | None
    retry: str | None
    offline: str
    not_done: str | None = None
    token: str | None = None


def state_of(
    view: TaskView, *, label: str, actions: frozenset[Action], words: Words,
    token: str | None = None,
) -> TaskState:  # fmt: skip
    """*view* for somebody who may do *actions*."""
    cancel = words.cancel if view.can_cancel and Action.CANCEL in actions else None
    retry = words.retry if view.can_retry and Action.RETRY in actions else None
    return TaskState(
        label=label or words.task,
        view=view,
        settled=view.phase in SETTLED,
        open=words.open_result if view.link else None,
        cancel=cancel,
        retry=retry,
        offline=words.offline,
        not_done=words.not_done if cancel or retry else None,
        token=token,
    )


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """One state on its way: `index` is the place of its token in the request, `now` the server's
    wall clock, since the browser's may be wrong. `place` is that of a task among several of one
    token; without it, the state is of the only one, or of all together."""

    index: int
    now: float
    state: TaskState
    place: int | None = None


def event(told: Told) -> bytes:
    """A server-sent event. JSON escapes CR and LF, so that no text can end or begin a field."""
    return b"event: task\ndata: " + msgspec.json.encode(told) + b"\n\n"


AWAY = b"event: away\ndata: {}\n\n"
"""The tasks cannot be seen at the moment: what was told last may be old. What is told next is
not."""
