"""What ``import acked`` gives: the names, their types, their docstrings."""

from __future__ import annotations

import inspect

import pytest

import acked
from acked import exceptions, states
from acked.delivery import FINAL

NAMES = {
    "Acked", "AckedError", "AsyncResult", "BrokerError", "BrokerRefused", "BrokerUnavailable",
    "ConfigurationError", "EagerResult", "Ignore", "LeaseLost", "MaxRetriesExceededError",
    "NotRegistered", "NotSendable", "Reject", "RemoteError", "Retry", "Signature",
    "SoftTimeLimitExceeded", "Task", "TaskFailed", "TaskNotFound", "TaskRevokedError",
    "TimeLimitExceeded", "TimeoutError", "UnknownTask", "WorkerLostError", "signals",
}  # fmt: skip

SIGNALS = {
    "before_task_publish", "after_task_publish", "task_prerun", "task_postrun", "task_success",
    "task_failure", "task_retry", "task_revoked", "task_rejected", "task_unknown",
    "task_internal_error", "worker_init", "worker_ready", "worker_shutdown",
    "worker_process_init", "worker_process_shutdown", "setup_logging",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(acked.__all__) == NAMES


def test_a_star_import_gives_nothing_else() -> None:
    names: dict[str, object] = {}
    exec("from acked import *", names)  # noqa: S102 - what is tested
    assert set(names) - {"__builtins__"} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_is_documented(name: str) -> None:
    thing = getattr(acked, name)
    assert inspect.getdoc(thing)
    if not isinstance(thing, type) or issubclass(thing, BaseException):
        return
    for attribute, value in vars(thing).items():
        if not attribute.startswith("_") and callable(getattr(thing, attribute)):
            assert inspect.getdoc(value), f"{name}.{attribute}"


def test_the_signals_are_celerys() -> None:
    assert {
        name
        for name, value in vars(acked.signals).items()
        if isinstance(value, acked.signals.Signal)
    } == SIGNALS


@pytest.mark.parametrize("name", ["Retry", "Ignore", "SoftTimeLimitExceeded"])
def test_what_steers_a_worker_is_not_caught_by_a_broad_except(name: str) -> None:
    assert not issubclass(getattr(acked, name), Exception)


def test_errors_can_be_caught_by_what_they_are() -> None:
    assert issubclass(acked.TimeoutError, TimeoutError)
    assert issubclass(acked.NotSendable, TypeError)
    assert issubclass(acked.ConfigurationError, ValueError)
    assert issubclass(acked.TaskNotFound, LookupError)


def test_celerys_module_of_exceptions_has_those_of_acked() -> None:
    for name in exceptions.__all__:
        assert getattr(exceptions, name) is getattr(acked, name)


def test_celerys_states_that_are_ready_are_the_final_ones() -> None:
    assert {state.value for state in FINAL} == states.READY_STATES
    assert states.ALL_STATES - states.UNREADY_STATES == states.READY_STATES
    assert states.UNKNOWN not in states.ALL_STATES
