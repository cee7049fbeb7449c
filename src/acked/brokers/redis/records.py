"""Reading and operating: the methods of `Records` over Redis."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from acked.broker import Beat, Filter, QueueCounts, WorkerRecord, as_json_has_it
from acked.brokers.redis import scripts
from acked.brokers.redis.rows import history, records, storable, storable_ids
from acked.brokers.redis.store import Store
from acked.delivery import State
from acked.record import REVOKE_SOFT, REVOKE_TERMINATE, Attempt, Progress, Record, seen_of
from acked.tally import KEPT_MINUTES, Count

AT_ONCE = 1000
"""Records that one script changes, so that others wait for it for milliseconds only."""

SEEN_AT_ONCE = 4000
"""Records that one script looks at for a search."""

READ_AT_ONCE = 200
"""Whole records in one answer."""

FIRST_PAUSE, LONGEST_PAUSE, SHARE = 0.0005, 0.25, 0.25
"""Seconds between two looks for a change: a quarter of the time waited so far, within bounds. So
what took long is noticed a little late, and a thousand who wait for an hour cost nothing."""

_beat_decoder = msgspec.json.Decoder(Beat)
_field_decoder = msgspec.json.Decoder(tuple[str, str, str])


class TaskRecords(Store):
    """The methods of `acked.broker.Records`."""

    def get(self, task_id: str) -> Record | None:
        _, found = self._run(scripts.READ, "ids", [storable(task_id)])
        return next(iter(records(*found)), None)

    def attempts(self, task_id: str) -> list[Attempt]:
        found = self._history(task_id)
        return history(found[0], found[1]) if found else []

    def saved(self, task_id: str) -> bytes | None:
        found = self._history(task_id)
        return found[2] if found else None

    def search(
        self,
        wanted: Filter,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Record]:
        if limit <= 0 or wanted.states == ():
            return []
        return list(itertools.islice(self._found(wanted, limit, before, after), limit))

    def upcoming(self, *, limit: int = 50, after: tuple[float, int] | None = None) -> list[Record]:
        found: list[Record] = []
        while len(found) < limit:
            part = min(READ_AT_ONCE, limit - len(found))
            due, tag = after if after is not None else (False, 0)
            _, rows = self._run(scripts.UPCOMING, part, due, tag)
            page = records(*rows)
            found += page
            if len(page) < part:
                break
            after = page[-1].due, page[-1].tag
        return found

    def counts(self) -> list[QueueCounts]:
        _, (counted, paused, oldest) = self._run(scripts.COUNTS)
        found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for field, count in _pairs(counted):
            state, _, queue = field.decode().partition(":")
            found[queue][state.lower()] = int(count)
        for queue in paused:
            found[queue.decode()]["paused"] = True
        for queue, since in _pairs(oldest):
            found[queue.decode()]["oldest"] = float(since)
        return [QueueCounts(queue=queue, **about) for queue, about in sorted(found.items())]

    def workers(self) -> list[WorkerRecord]:
        (_, steady, *numbers), (beats,) = self._run(scripts.WORKERS)
        known = []
        for (lease_until, running), text in zip(_pairs(numbers), beats, strict=True):
            beat = _beat_decoder.decode(text)
            known.append(
                WorkerRecord(
                    worker=beat.worker, host=beat.host, pid=beat.pid, started=beat.started,
                    queues=beat.queues, processes=beat.processes, lease_left=lease_until - steady,
                    running=running, memory=beat.memory,
                )
            )  # fmt: skip
        return sorted(known, key=lambda each: each.worker)

    def wait_for_change(self, task_id: str, since: Record | None, timeout: float) -> Record | None:
        began = time.monotonic()
        while True:
            record = self.get(task_id)
            waited = time.monotonic() - began
            left = timeout - waited
            if seen_of(record) != seen_of(since) or left <= 0:
                return record
            time.sleep(min(max(FIRST_PAUSE, waited * SHARE), LONGEST_PAUSE, left))

    def report(self, task_id: str, token: int, progress: Progress) -> bool:
        return self._note("progress", msgspec.json.encode(progress), task_id, token)

    def save(self, task_id: str, token: int, checkpoint: bytes) -> bool:
        return self._note("saved", checkpoint, task_id, token)

    def revoke(self, task_ids: Sequence[str], *, terminate: bool = False) -> int:
        wish = REVOKE_TERMINATE if terminate else REVOKE_SOFT
        return sum(
            self._count(scripts.REVOKE, part, wish) for part in _parts(storable_ids(task_ids))
        )

    def requeue(self, task_ids: Sequence[str]) -> int:
        return sum(self._count(scripts.REQUEUE, part) for part in _parts(storable_ids(task_ids)))

    def discard(self, task_ids: Sequence[str]) -> int:
        return sum(
            self._count(scripts.DELETE, "ids", part, 0) for part in _parts(storable_ids(task_ids))
        )

    def purge(self, queue: str) -> int:
        return self._delete(2**53, "queue", storable(queue))

    def prune(
        self, *, succeeded_before: float | None, failed_before: float | None, limit: int
    ) -> int:
        count = 0
        for state, before in (
            (State.SUCCESS, succeeded_before),
            (State.REVOKED, succeeded_before),
            (State.FAILURE, failed_before),
        ):
            if before is not None:
                count += self._delete(limit - count, "finished", state.value, before)
        return count

    def count(self, counts: Sequence[Count]) -> None:
        rows: list[Any] = []
        for each in counts:
            field = msgspec.json.encode([storable(each.queue), storable(each.task), each.what])
            rows += (each.minute, field.decode(), each.number)
        if rows:
            self._run(scripts.COUNT, rows, KEPT_MINUTES)

    def counted(self, first: int, last: int) -> list[Count]:
        _, (minutes, counters) = self._run(scripts.COUNTED, first, last)
        return [
            Count(int(minute), *_field_decoder.decode(field), int(number))
            for minute, counter in zip(minutes, counters, strict=True)
            for field, number in _pairs(counter)
        ]

    def pause(self, queue: str) -> None:
        self._run(scripts.PAUSE, queue, True)

    def resume(self, queue: str) -> None:
        self._run(scripts.PAUSE, queue, False)

    def _history(self, task_id: str) -> list[Any]:
        reply = self._run(scripts.HISTORY, storable(task_id))
        return reply[1]

    def _note(self, what: str, value: bytes, task_id: str, token: int) -> bool:
        about, _ = self._run(scripts.NOTE, storable(task_id), token, what, stored=[value])
        return bool(about[1])

    def _count(self, script: scripts.Script, *args: Any) -> int:
        about, _ = self._run(script, *args, confirmed=True)
        return int(about[1])

    def _delete(self, limit: int, kind: str, what: str, *more: Any) -> int:
        """Delete up to *limit* records, in scripts of bounded size."""
        count = 0
        while count < limit:
            part = min(AT_ONCE, limit - count)
            deleted = self._count(scripts.DELETE, kind, what, part, *more)
            count += deleted
            if deleted < part:
                break
        return count

    def _found(
        self, wanted: Filter, limit: int, before: int | None, after: int | None
    ) -> Iterator[Record]:
        """What is wanted, newest first, read as it is asked for."""
        about = (
            False if wanted.states is None else [state.value for state in wanted.states],
            False if wanted.queue is None else storable(wanted.queue),
            False if wanted.task is None else storable(wanted.task),
            False if wanted.id_part is None else storable(wanted.id_part),
            after or 0,
            wanted.worker or False,
            False if wanted.sent_from is None else wanted.sent_from,
            False if wanted.sent_before is None else wanted.sent_before,
            False if wanted.text is None else as_json_has_it(wanted.text).decode(),
            False if wanted.error is None else as_json_has_it(wanted.error).decode(),
        )
        page = min(limit, READ_AT_ONCE)
        if before is not None and before <= 1:
            return
        rare = self._rare(wanted, before, after)
        where = 0 if before is None else before
        while True:
            (_, where), found = self._run(
                scripts.SEARCH,
                False if rare is None else rare[:SEEN_AT_ONCE], where, SEEN_AT_ONCE, page, *about,
            )  # fmt: skip
            yield from records(*found)
            if rare is not None:
                del rare[:where]
            if not (where if rare is None else rare):
                return

    def _rare(self, wanted: Filter, before: int | None, after: int | None) -> list[int] | None:
        """Tags of everything in the states that are *wanted*, newest first, where those are states
        that few tasks are in; None where they are not."""
        if wanted.states is None or State.SUCCESS in wanted.states:
            return None
        about, _ = self._run(scripts.RARE, [state.value for state in wanted.states])
        if about[1] is False:
            return None
        return sorted(
            (
                tag
                for tag in map(int, about[1])
                if (before is None or tag < before) and (after is None or tag > after)
            ),
            reverse=True,
        )


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    values = iter(flat)
    return zip(values, values, strict=True)
