"""What a supervisor decides when a process dies: pure functions of plain data."""

from __future__ import annotations

import signal
from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from acked.delivery import Delivery
from acked.outcome import HardLimit, Interrupted, Lost, Outcome, Revoked, Unstarted

CRASH_WINDOW = 60.0
CRASHES_FREE = 3
RESTART_DELAY_MAX = 30.0
SHORT_LIFE = 0.5
"""Seconds. A process that lived longer has worked; its death, however often, is no crash loop."""

RECONCILE_EVERY = 10.0
"""Seconds after which a consumer compares what it holds, for the broker, with what it knows of."""

ASK_AGAIN = (0.1, 1.0)
"""Shortest and longest pause in seconds before a process asks a broker anew that has failed it."""

GIVE_UP_AFTER = 5
"""Watchdog intervals without an answer of the broker after which a worker stops."""


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """How a process, or a whole worker, came to its end.

    Args:
        how: For people: ``signal 9 (SIGKILL), pid 4711``, ``exit code 1, pid 4711``,
            ``its lease ran out``.
        stopping: It was being stopped on purpose and its grace had run out.
        overran: Token of the running task whose hard limit made the supervisor kill the process.
        limit: That hard limit in seconds.
        revoked: Token of the running task whose revocation made the supervisor kill it.
        whole: The whole worker died, or was not heard of any more.
    """

    how: str
    stopping: bool = False
    overran: int | None = None
    limit: float = 0.0
    revoked: int | None = None
    whole: bool = False


def outcome_of_death(held: Delivery, running: Collection[int], death: Death) -> Outcome:
    """How the attempt *held* ended, when its process died.

    Args:
        held: One of the deliveries the process held, seized from it.
        running: Tokens of those that were running in the same process; the others were claimed
            ahead and had not started.
        death: How the process died.
    """
    token = held.seized_token or held.token
    if token not in running:
        return Unstarted()
    if token == death.overran:
        return HardLimit(death.limit)
    if token == death.revoked:
        return Revoked("terminated")
    if death.stopping:
        return Interrupted("worker stopped")
    if death.overran is not None:
        return Interrupted("a task beside it passed its time limit")
    if death.revoked is not None:
        return Interrupted("a task beside it was terminated")
    if len(running) > 1:
        # A worker is rarely lost for what one task did, and hundreds of coroutines that each ran
        # alone afterwards would wait for hours. Lost again, they are looked at one by one, so that
        # a task that takes its host down does not run for ever.
        suspect = not death.whole or interrupted_before(held)
        return Interrupted(f"its process died ({death.how}) beside other tasks", suspect=suspect)
    return Lost(death.how)


def interrupted_before(held: Delivery) -> bool:
    """Whether an earlier run of it was cut off: it ran more often than attempts were counted."""
    return held.runs >= held.attempt


def must_run_alone(held: Delivery) -> bool:
    """Whether nothing else may run in its process: its process died before, and beside others
    nobody could tell which of them did it."""
    return held.losses > 0 or held.suspected > 0


def restart_delay(deaths: Sequence[float], now: float) -> float:
    """Seconds to wait before a process is started again.

    The first few deaths within a minute cost nothing, so that a killed process is replaced at
    once; a process that keeps dying is started ever more slowly.

    Args:
        deaths: Monotonic times at which processes of this place ended that had a `SHORT_LIFE` and
            ran no task: it is not a task that kills them.
        now: Monotonic time.
    """
    recent = sum(1 for at in deaths if now - at < CRASH_WINDOW)
    if recent <= CRASHES_FREE:
        return 0.0
    return min(RESTART_DELAY_MAX, 0.5 * 2.0 ** min(recent - CRASHES_FREE - 1, 10))


def pause_after(failures: int, roll: float) -> float:
    """Seconds before a process asks its broker anew: twice as long after each failure.

    Args:
        failures: In a row, from 1.
        roll: A random number from 0 to 1, so that the processes of a fleet do not all come back
            at the same moment.
    """
    shortest, longest = ASK_AGAIN
    return min(longest, shortest * 2.0 ** min(failures - 1, 10)) * (1 - roll / 2)


def on_silence(
    silent: float, watchdog: float, *, rebuilt: int
) -> Literal["wait", "rebuild", "give up"]:
    """What a worker does whose broker does not answer.

    A driver may go on for ever with a connection that is dead: reports of workers that looked
    alive and consumed nothing until they were restarted (Celery #8030, #10205, #10302) are of that
    kind. So everything is let go of and made anew, once each interval; and where that does not
    help, the worker ends with an error, for whoever supervises it to see.

    Args:
        silent: Seconds since the last answer.
        watchdog: The interval, seconds.
        rebuilt: How often everything was made anew since that answer.
    """
    if silent >= watchdog * GIVE_UP_AFTER:
        return "give up"
    return "rebuild" if silent >= watchdog * (rebuilt + 1) else "wait"


def how_it_died(status: int) -> str:
    """An exit status as `os.waitstatus_to_exitcode` gives it, for people."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"
