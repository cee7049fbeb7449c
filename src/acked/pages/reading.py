"""Reading what the pages show. Everything here blocks, and runs in the pages' own threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from acked.app import Acked
from acked.broker import worker_of
from acked.delivery import State
from acked.errors import MessageUnreadable
from acked.message import decode
from acked.options import with_overrides
from acked.pages.cached import Cached
from acked.pages.view import Known
from acked.record import Record
from acked.result import AsyncResult

logger = logging.getLogger("acked.pages")

COUNTS_EVERY = 2.0
"""Seconds between two counts of the queues."""

WORKERS_EVERY = 1.0
"""Seconds between two looks at who is alive."""

ResultWords = Callable[[AsyncResult[Any]], object]
"""Something the developer says about a task that succeeded; None says nothing."""


class Reader:
    """What is known of tasks.

    Args:
        app: Their application.
        result_link: Where the result of a task is; None where there is nothing to link to.
        show_result: The result in words.
    """

    def __init__(
        self, app: Acked, *, result_link: ResultWords | None = None,
        show_result: ResultWords | None = None,
    ) -> None:  # fmt: skip
        self._app = app
        self._result_link = result_link
        self._show_result = show_result
        self._waiting = Cached(self._count, every=COUNTS_EVERY)
        self._dead = Cached(self._look_who_is_dead, every=WORKERS_EVERY)

    def read(self, task_id: str) -> Known:
        return self.read_all({task_id: None})[task_id]

    def read_all(self, tasks: Mapping[str, Known | None]) -> dict[str, Known]:
        """What is known now of each of *tasks*, by id; the same object as before, if it was given
        and nothing has changed."""
        records = {task_id: self._app.records.get(task_id) for task_id in tasks}
        in_line = self._in_line(records.values())
        return {
            task_id: self._known(record, before, in_line)
            for (task_id, before), record in zip(tasks.items(), records.values(), strict=True)
        }

    def _known(
        self, record: Record | None, before: Known | None, in_line: Mapping[str, int]
    ) -> Known:
        if record is None:
            return before if before is not None and before.record is None else Known(record=None)
        waiting = in_line.get(record.queue) if record.state is State.QUEUED else None
        is_lost = record.state is State.RUNNING and worker_of(record.consumer) in self._dead.get()
        if before is not None and before.record == record:
            if (before.in_line, before.is_lost) == (waiting, is_lost):
                return before
            return msgspec.structs.replace(before, in_line=waiting, is_lost=is_lost)
        done = record.state is State.SUCCESS
        return Known(
            record=record,
            attempts=self._app.records.attempts(record.id) if record.runs else (),
            tries=self._tries(record) if record.retries else None,
            in_line=waiting,
            is_lost=is_lost,
            link=self._say(self._result_link, record) if done else None,
            result=self._say(self._show_result, record) if done else None,
        )

    def _in_line(self, records: Iterable[Record | None]) -> Mapping[str, int]:
        if not any(record and record.state is State.QUEUED for record in records):
            return {}
        return self._waiting.get()

    def _count(self) -> dict[str, int]:
        return {each.queue: each.queued for each in self._app.records.counts()}

    def _look_who_is_dead(self) -> frozenset[str]:
        """Workers whose lease has run out, though nobody has noticed yet: where none is left, that
        is as long as none is started."""
        workers = self._app.records.workers()
        return frozenset(each.worker for each in workers if each.lease_left < 0)

    def _tries(self, record: Record) -> int | None:
        """How many times at most it is run; None for no limit, or one that is not known here."""
        task = self._app.tasks.get(record.task)
        if task is None:
            return None
        try:
            policy = with_overrides(task.policy, decode(record.body))
        except MessageUnreadable:
            return None
        retries = policy.retry.max_retries
        return None if retries is None else retries + 1

    def _say(self, words: ResultWords | None, record: Record) -> str | None:
        if words is None:
            return None
        try:
            said = words(AsyncResult(record.id, self._app, record.task))
            return None if said is None else str(said)
        except Exception:
            # The developer's function: the task is done, whatever is wrong with it.
            logger.exception("cannot say anything about the result of task %s", record.id)
            return None
