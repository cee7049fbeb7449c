"""Checks of the tasks' options: what would surprise whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from acked.cli.checks.finding import Finding, info, ok, warn
from acked.cli.wording import counted, few
from acked.outcome import TaskPolicy

HOT_RETRY = 1.0
"""Waits in seconds below which endless retries are a load of their own."""


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A task's name and rules.

    Args:
        retries_any: `autoretry_for` covers every `Exception`.
    """

    name: str
    policy: TaskPolicy
    retries_any: bool = False


def check_tasks(tasks: Sequence[TaskFacts], *, grace: float) -> Iterator[Finding]:
    """What the options of *tasks* lead to.

    Args:
        grace: Seconds that a worker gives running tasks when it stops.
    """
    if not tasks:
        yield warn(
            "tasks", "the app has no tasks",
            "name the module that defines them, as in -A shop.tasks:app, or import it there",
        )  # fmt: skip
        return
    yield ok("tasks", f"{len(tasks)} registered")
    if names := _names(
        tasks, lambda task: task.policy.acks_late and task.policy.reject_on_worker_lost
    ):
        yield info(
            "repeats",
            f"{counted(len(names), 'task')} may run twice, when a worker is lost: {few(names)}; "
            "what makes that safe: docs/retries.md",
        )
    if names := _names(tasks, lambda task: not task.policy.acks_late):
        yield info(
            "at most once",
            f"{few(names)}: acks_late is off, so a lost worker's task ends as FAILURE",
        )
    if names := _names(
        tasks, lambda task: task.policy.acks_late and not task.policy.reject_on_worker_lost
    ):
        yield info(
            "at most once",
            f"{few(names)}: reject_on_worker_lost is off, so a lost worker's task ends as FAILURE",
        )
    if names := _names(
        tasks, lambda task: task.policy.time_limit is None and task.policy.soft_time_limit is None
    ):
        yield info(
            "time limits", f"{few(names)}: no limit, so an attempt that hangs does so for ever"
        )
    if names := _names(
        tasks,
        lambda task: task.policy.soft_time_limit is not None and task.policy.time_limit is None,
    ):
        yield warn(
            "time limits",
            f"{few(names)}: a soft_time_limit alone does not reach a coroutine that blocks, nor a "
            "call in a thread or in C that does not return",
            "set time_limit as well: it kills the process, whatever the task does",
        )
    if names := _names(tasks, lambda task: (task.policy.time_limit or 0.0) > grace):
        yield warn(
            "grace",
            f"{few(names)}: time_limit is longer than the {grace:g} s that a stopping worker gives",
            "they are then interrupted and start again: continue from self.saved, or start workers "
            "with a longer --grace",
        )
    if names := _names(
        tasks,
        lambda task: (
            task.retries_any
            and task.policy.retry.max_retries is None
            and task.policy.retry.retry_for is None
        ),
    ):
        yield warn(
            "endless retries",
            f"{few(names)}: autoretry_for=(Exception,) with max_retries=None retries a programming "
            "error for ever",
            "list the exceptions that pass by themselves, or set max_retries or retry_for",
        )
    if names := _names(
        tasks,
        lambda task: task.policy.retry.max_retries is None and _settled_wait(task) < HOT_RETRY,
    ):
        yield warn(
            "hot retries",
            f"{few(names)}: retried for ever, less than {HOT_RETRY:g} s apart",
            "set retry_backoff=True or a longer default_retry_delay",
        )


def _names(tasks: Sequence[TaskFacts], concerned: Callable[[TaskFacts], bool]) -> list[str]:
    return sorted(task.name for task in tasks if concerned(task))


def _settled_wait(task: TaskFacts) -> float:
    retry = task.policy.retry
    if retry.backoff is not None:
        # It grows; its cap says how hot it stays.
        return retry.backoff_max
    return retry.delay
