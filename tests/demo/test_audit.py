"""The demo's audit notices what is wrong with a record or its history."""

import importlib
from pathlib import Path

import msgspec
import pytest

from acked.delivery import Event, State
from acked.record import Attempt, Record

DEMO = Path(__file__).parents[2] / "examples" / "demo"
PATH = "/site/7"


class Records:
    """One task, as a broker would show it: one lost attempt, one retry, one success."""

    def __init__(self, report):
        self.record = Record(
            id="a", body=b"{}", state=State.SUCCESS, attempt=3, retries=1, losses=1,
            result=msgspec.json.encode(report(PATH)),
        )  # fmt: skip
        self.history = [
            Attempt(number=1, event=Event.RELEASE, started=1.0, ended=2.0, loss=True),
            Attempt(number=2, event=Event.RETRY, started=3.0, ended=4.0, next_at=5.0),
            Attempt(number=3, event=Event.SUCCEED, started=5.0, ended=6.0),
        ]

    def get(self, task_id):
        return self.record

    def attempts(self, task_id):
        return self.history

    def search(self, wanted, *, limit):
        return [self.record]


@pytest.fixture
def audit(monkeypatch):
    monkeypatch.syspath_prepend(DEMO)
    return importlib.import_module("audit")


@pytest.fixture
def records(audit):
    return Records(audit.report)


def problems(audit, records):
    return audit.audit(records, {"a": PATH}).problems


def test_a_task_with_the_right_result_and_a_whole_history_passes(audit, records):
    found = audit.audit(records, {"a": PATH})
    assert found.problems == []
    assert (found.right, found.attempts, found.retries, found.losses) == (1, 3, 1, 1)


def test_a_task_that_failed_is_noticed(audit, records):
    records.record = msgspec.structs.replace(records.record, state=State.FAILURE, reason="poison")
    assert "FAILURE: poison" in problems(audit, records)[0]


def test_a_wrong_result_is_noticed(audit, records):
    records.record = msgspec.structs.replace(records.record, result=b'{"path": "/site/8"}')
    assert "its result is" in problems(audit, records)[0]


def test_a_record_that_is_gone_is_noticed(audit, records):
    records.record = None
    records.search = lambda wanted, limit: []
    assert "its record is gone" in problems(audit, records)[0]


def test_a_task_that_was_never_sent_is_noticed(audit, records):
    records.search = lambda wanted, limit: [records.record] * 2
    assert problems(audit, records) == ["1 tasks were sent, and 2 are on record"]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_attempt_missing_from_the_history_is_noticed(audit, records, missing):
    del records.history[missing]
    assert problems(audit, records)


def test_a_second_success_is_noticed(audit, records):
    records.history.insert(1, records.history[2])
    assert any("succeed exactly once" in problem for problem in problems(audit, records))


def test_two_attempts_at_the_same_time_are_noticed(audit, records):
    records.history[1] = msgspec.structs.replace(records.history[1], started=1.5)
    assert any("while another ran" in problem for problem in problems(audit, records))


def test_a_retry_that_came_too_early_is_noticed(audit, records):
    records.history[2] = msgspec.structs.replace(records.history[2], started=4.5)
    assert any("before its time" in problem for problem in problems(audit, records))


def test_an_interrupted_attempt_gives_its_number_back(audit, records):
    interrupted = Attempt(number=1, event=Event.RELEASE, started=0.1, ended=0.5, counted=False)
    records.history.insert(0, interrupted)
    assert problems(audit, records) == []
