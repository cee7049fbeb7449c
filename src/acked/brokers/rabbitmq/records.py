"""Reading and operating: the methods of `Records`, which the ledger has.

What makes a task wait again also sends it a message; what makes it wait no longer leaves its
message to be thrown away when it comes up.
"""

from __future__ import annotations

from collections.abc import Sequence

from acked.broker import Filter, Ledger, QueueCounts, WorkerRecord
from acked.brokers.rabbitmq.queue import TaskQueue
from acked.brokers.rabbitmq.topology import has_lines
from acked.record import Attempt, Progress, Record
from acked.tally import Count


class TaskRecords(TaskQueue):
    """The methods of `acked.broker.Records`."""

    _ledger: Ledger

    @property
    def records_url(self) -> str:
        return self._ledger.records_url

    def get(self, task_id: str) -> Record | None:
        return self._ledger.get(task_id)

    def attempts(self, task_id: str) -> list[Attempt]:
        return self._ledger.attempts(task_id)

    def search(
        self,
        wanted: Filter,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Record]:
        return self._ledger.search(wanted, limit=limit, before=before, after=after)

    def upcoming(self, *, limit: int = 50, after: tuple[float, int] | None = None) -> list[Record]:
        return self._ledger.upcoming(limit=limit, after=after)

    def counts(self) -> list[QueueCounts]:
        return self._ledger.counts()

    def workers(self) -> list[WorkerRecord]:
        return self._ledger.workers()

    def wait_for_change(self, task_id: str, since: Record | None, timeout: float) -> Record | None:
        return self._ledger.wait_for_change(task_id, since, timeout)

    def report(self, task_id: str, token: int, progress: Progress) -> bool:
        return self._ledger.report(task_id, token, progress)

    def save(self, task_id: str, token: int, checkpoint: bytes) -> bool:
        return self._ledger.save(task_id, token, checkpoint)

    def saved(self, task_id: str) -> bytes | None:
        return self._ledger.saved(task_id)

    def revoke(self, task_ids: Sequence[str], *, terminate: bool = False) -> int:
        return self._ledger.revoke(task_ids, terminate=terminate)

    def requeue(self, task_ids: Sequence[str]) -> int:
        count = self._ledger.requeue(task_ids)
        if count:
            with self._sessions.use() as session:
                self.publish_records(session, task_ids)
        return count

    def discard(self, task_ids: Sequence[str]) -> int:
        return self._ledger.discard(task_ids)

    def purge(self, queue: str) -> int:
        if has_lines(queue):
            # The messages first: one that is sent in between goes with its record.
            with self._sessions.use() as session:
                session.ask(session.consumer.purge(queue))
        return self._ledger.purge(queue)

    def count(self, counts: Sequence[Count]) -> None:
        self._ledger.count(counts)

    def counted(self, first: int, last: int) -> list[Count]:
        return self._ledger.counted(first, last)

    def pause(self, queue: str) -> None:
        self._ledger.pause(queue)

    def resume(self, queue: str) -> None:
        self._ledger.resume(queue)
        with self._sessions.use() as session:
            session.consumer.shelves.resume(queue)
        self._bells.ring()

    def prune(
        self, *, succeeded_before: float | None, failed_before: float | None, limit: int
    ) -> int:
        return self._ledger.prune(
            succeeded_before=succeeded_before, failed_before=failed_before, limit=limit
        )
