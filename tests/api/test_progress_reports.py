"""`self.progress`, `self.track`, `self.update_state`, `self.save`: what a running task says."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from acked import Acked, BrokerUnavailable, LeaseLost, NotSendable
from acked.brokers.memory import MemoryBroker
from acked.clock import ManualClock
from acked.delivery import Event
from acked.progress import Throttle, counts_in
from acked.record import Progress
from tests.api.inline import record_of, run_next, run_to_end


class CountingBroker(MemoryBroker):
    """Keeps every report that is written."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.reports: list[Progress] = []
        self.written = threading.Event()
        self.away = False

    def report(self, task_id: str, token: int, progress: Progress) -> bool:
        if self.away:
            raise BrokerUnavailable("away")
        self.reports.append(progress)
        self.written.set()
        return super().report(task_id, token, progress)


@pytest.fixture
def broker(clock: ManualClock) -> CountingBroker:
    return CountingBroker(clock)


@pytest.fixture
def app(broker: CountingBroker, clock: ManualClock) -> Acked:
    return Acked("shop", broker=broker, clock=clock)


def test_the_first_report_is_written_while_the_task_goes_on(
    app: Acked, broker: CountingBroker
) -> None:
    @app.task(bind=True)
    def work(self: Any) -> None:
        self.progress(3, 10, "resizing")
        assert broker.written.wait(30)

    result = work.delay()
    run_next(app)
    progress = result.progress
    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (3, 10, "resizing")


def test_many_reports_are_few_writes_and_the_last_one_is_kept(
    app: Acked, broker: CountingBroker
) -> None:
    @app.task(bind=True)
    def work(self: Any) -> float:
        began = time.monotonic()
        for done in range(2_000):
            self.progress(done + 1, 2_000)
        return time.monotonic() - began

    result = work.delay()
    run_next(app)
    assert len(broker.reports) <= result.get() / 0.1 + 3
    assert broker.reports[-1].done == 2_000


def test_a_report_that_was_held_back_is_written_without_another_one_coming(
    app: Acked, broker: CountingBroker
) -> None:
    @app.task(bind=True)
    def work(self: Any) -> None:
        self.progress(1, 2)
        assert broker.written.wait(30)
        broker.written.clear()
        self.progress(2, 2)
        assert broker.written.wait(30)

    work.delay()
    assert run_next(app).event is Event.SUCCEED
    assert [each.done for each in broker.reports] == [1, 2]


def test_track_reports_each_row_as_done(app: Acked) -> None:
    @app.task(bind=True)
    def work(self: Any) -> list[int]:
        return [row * 2 for row in self.track([1, 2, 3], message="rows")]

    result = work.delay()
    run_next(app)
    progress = result.progress
    assert result.get() == [2, 4, 6]
    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (3, 3, "rows")


def test_track_takes_what_has_no_length(app: Acked) -> None:
    seen: list[tuple[float, float]] = []

    @app.task(bind=True)
    def work(self: Any) -> None:
        for _ in self.track(n for n in range(2)):
            seen.append((self.request.progress.done, self.request.progress.total))
        for _ in self.track((n for n in range(2)), total=2):
            seen.append((self.request.progress.done, self.request.progress.total))

    work.delay()
    run_next(app)
    assert seen == [(0, 0), (1, 0), (0, 2), (1, 2)]


def test_a_broker_that_is_away_never_fails_a_task_that_reports(
    app: Acked, broker: CountingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(bind=True)
    def work(self: Any) -> str:
        broker.away = True
        self.progress(1, 2)
        self.update_state(state="PROGRESS", meta={"current": 2})
        self.request.flush_progress()
        broker.away = False
        return "done"

    result = work.delay()
    with caplog.at_level(logging.WARNING, logger="acked.progress"):
        run_next(app)
    assert result.get() == "done"
    assert "could not be written: away" in caplog.text


def test_update_state_sets_the_state_that_is_shown(app: Acked) -> None:
    seen: list[Any] = []

    @app.task(bind=True)
    def work(self: Any) -> None:
        meta = {"current": 1, "total": 4}
        self.update_state(state="RESIZING", meta=meta)
        meta["current"] = 99
        self.progress(2, 4)
        self.request.flush_progress()
        result = app.AsyncResult(self.request.id)
        seen.append((result.state, result.info, result.progress.done))

    result = work.delay()
    run_next(app)
    assert seen == [("RESIZING", {"current": 1, "total": 4}, 2)]
    assert result.state == "SUCCESS"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"state": "progress"}, "upper-case"),
        ({"state": ""}, "upper-case"),
        ({"meta": {"a": object()}}, r"\['a'\] is an object"),
        ({"task_id": "another", "state": "X"}, "only the worker that holds a task"),
    ],
)
def test_a_state_that_cannot_be_set_is_refused(app: Acked, how: dict[str, Any], said: str) -> None:
    @app.task(bind=True)
    def work(self: Any) -> None:
        with pytest.raises(NotSendable, match=said):
            self.update_state(**how)

    work.delay()
    assert run_next(app).event is Event.SUCCEED


def test_called_directly_nothing_is_reported(app: Acked, broker: CountingBroker) -> None:
    @app.task(bind=True)
    def work(self: Any) -> Any:
        self.progress(1, 2)
        self.update_state(state="PROGRESS", meta={})
        self.save("here")
        return self.saved

    assert work() == "here"
    assert broker.reports == []


def test_a_checkpoint_survives_a_retry(app: Acked, clock: ManualClock) -> None:
    seen: list[Any] = []

    @app.task(bind=True)
    def work(self: Any) -> None:
        seen.append(self.saved)
        if not self.request.retries:
            self.save({"row": 500})
            seen.append(self.saved)
            raise self.retry(countdown=1)

    run_to_end(app, clock, work.delay().id)
    assert seen == [None, {"row": 500}, {"row": 500}]


def test_a_checkpoint_is_stored_before_save_returns(app: Acked) -> None:
    stored: list[Any] = []

    @app.task(bind=True)
    def work(self: Any) -> None:
        self.save([1, 2])
        stored.append(app.records.saved(self.request.id))

    work.delay()
    run_next(app)
    assert stored == [b"[1,2]"]


def test_a_checkpoint_that_would_change_on_its_way_is_refused(app: Acked) -> None:
    @app.task(bind=True)
    def work(self: Any) -> None:
        with pytest.raises(NotSendable, match=r"self.save: the value\['ids'\] is a set"):
            self.save({"ids": {1}})

    work.delay()
    assert run_next(app).event is Event.SUCCEED


def test_a_worker_that_lost_the_task_cannot_save(app: Acked) -> None:
    @app.task(bind=True)
    def work(self: Any) -> None:
        (taken,) = app.broker.seize("inline", by="another/0")
        with pytest.raises(LeaseLost, match="stop this attempt"):
            self.save(1)
        assert taken.id == self.request.id

    result = work.delay()
    with pytest.raises(AssertionError):
        run_next(app)  # its settlement is refused too
    assert record_of(app, result.id).consumer == "another/0"


def test_a_throttle_lets_the_first_through_and_then_one_per_interval() -> None:
    throttle = Throttle(0.1)
    assert throttle.wait(5.0) == 0
    throttle.wrote(5.0)
    assert throttle.wait(5.04) == pytest.approx(0.06)
    assert throttle.wait(5.2) == 0


@pytest.mark.parametrize(
    ("meta", "counts"),
    [
        ({"current": 3, "total": 9}, (3, 9)),
        ({"done": 3, "total": 9}, (3, 9)),
        ({"current": 3}, (3, 0)),
        ({"total": 3}, None),
        ({"current": "3"}, None),
        ({"current": True}, None),
        ("3 of 9", None),
        (None, None),
    ],
)
def test_counts_are_read_from_a_meta_of_celerys_shape(meta: Any, counts: Any) -> None:
    assert counts_in(meta) == counts
