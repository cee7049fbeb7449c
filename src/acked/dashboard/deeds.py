"""What an operator can do to tasks and queues, and what is said before and after it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from acked.broker import Records
from acked.dashboard.permissions import Action
from acked.delivery import FINAL, TRANSITIONS, WAITING, Event, State

CHUNK = 500
"""Tasks in one write, so that a large one does not hold the broker up."""

STEP = 2_000
"""Tasks that one click does something to; the next click goes on."""


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do.

    Args:
        name: In addresses and in the audit.
        action: The permission it needs.
        verb: On its button.
        done: What was done to ``3 tasks``: ``requeued``.
        means: What it does, for the page that asks.
        states: Of tasks that it can be done to; empty for queues.
        by_default: Those of a search that names no state.
        dangerous: It cannot be taken back.
    """

    name: str
    action: Action
    verb: str
    done: str
    means: str
    states: tuple[State, ...] = ()
    by_default: tuple[State, ...] = ()
    dangerous: bool = False

    @property
    def for_tasks(self) -> bool:
        """Whether it is done to tasks, and not to a queue."""
        return bool(self.states)


_REQUEUED = tuple(state for state in State if Event.REQUEUE in TRANSITIONS[state])
_UNFINISHED = tuple(state for state in State if state not in FINAL)

DEEDS = {
    deed.name: deed
    for deed in (
        Deed(
            name="retry", action=Action.RETRY, verb="Retry", done="requeued",
            means="It runs again with the same id, arguments, history and checkpoint, and gets all "
            "its retries back.",
            states=_REQUEUED, by_default=(State.FAILURE,),
        ),
        Deed(
            name="revoke", action=Action.CANCEL, verb="Revoke", done="revoked",
            means="A waiting task ends as REVOKED at once. A running one finishes its attempt and "
            "is not run again.",
            states=_UNFINISHED, by_default=tuple(state for state in State if state in WAITING),
        ),
        Deed(
            name="terminate", action=Action.CANCEL, verb="Terminate", done="stopped",
            means="It is stopped where it runs: a coroutine is cancelled, otherwise its process is "
            "killed. Whatever else ran in that process is run again.",
            states=_UNFINISHED, by_default=(State.RUNNING,), dangerous=True,
        ),
        Deed(
            name="discard", action=Action.DISCARD, verb="Discard", done="discarded",
            means="The task is deleted with its arguments, history and result. It cannot be "
            "brought back.",
            states=tuple(state for state in State if state is not State.RUNNING),
            by_default=(State.FAILURE,), dangerous=True,
        ),
        Deed(
            name="pause", action=Action.PAUSE, verb="Pause", done="paused",
            means="No worker starts its tasks until it is resumed. What runs goes on, and tasks "
            "can still be sent.",
        ),
        Deed(
            name="resume", action=Action.PAUSE, verb="Resume", done="resumed",
            means="Workers start its tasks again.",
        ),
        Deed(
            name="purge", action=Action.PURGE, verb="Purge", done="deleted",
            means="Every task that waits in it is deleted for good, those that wait for a retry "
            "included. Running and finished ones stay.",
            dangerous=True,
        ),
    )
}  # fmt: skip


def do_to_tasks(records: Records, deed: Deed, ids: Sequence[str]) -> int:
    """Do *deed* to those of the tasks whose state allows it; how many there were."""
    calls = {
        "retry": records.requeue,
        "revoke": records.revoke,
        "terminate": lambda chunk: records.revoke(chunk, terminate=True),
        "discard": records.discard,
    }
    act = calls[deed.name]
    return sum(act(ids[start : start + CHUNK]) for start in range(0, len(ids), CHUNK))


def do_to_queue(records: Records, deed: Deed, queue: str) -> int | None:
    """Do *deed* to a queue; how many tasks it touched, where it touches tasks."""
    if deed.name == "purge":
        return records.purge(queue)
    if deed.name == "pause":
        records.pause(queue)
    else:
        records.resume(queue)
    return None
