"""`failure_of`: any exception as text, whatever its own methods do."""

from __future__ import annotations

import pytest

from acked.delivery import Failure
from acked.errors import RemoteError, TimeoutError
from acked.failure import TEXT_LIMIT, TRACEBACK_LIMIT, failure_of, rebuild


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Vicious(Exception):
    def __str__(self) -> str:
        raise ValueError

    __repr__ = __str__

    @property
    def __notes__(self) -> list[str]:
        raise ValueError


def raised(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException as caught:
        return failure_of(caught)


def test_the_type_is_named_as_one_imports_it() -> None:
    assert raised(ValueError("x")).type == "ValueError"
    assert raised(Silent()).type == "tests.api.test_failure_text.Silent"
    assert raised(TimeoutError("x")).type == "acked.errors.TimeoutError"


@pytest.mark.parametrize("kind", [Silent, Vicious])
def test_an_exception_whose_own_text_fails_is_still_told(kind: type[Exception]) -> None:
    failure = raised(kind())
    assert "its text could not be made" in failure.message
    assert "in raised" in failure.traceback


def test_a_text_of_a_hundred_megabytes_is_cut_at_both_ends() -> None:
    failure = raised(ValueError("a" * 50_000_000 + "b" * 50_000_000))
    assert failure.message.startswith("aaa")
    assert failure.message.endswith("bbb")
    assert "characters left out" in failure.message
    assert len(failure.message) < TEXT_LIMIT + 100
    assert len(failure.traceback) < TRACEBACK_LIMIT + 100


def test_a_recursion_does_not_fill_the_record() -> None:
    def deeper() -> None:
        deeper()

    try:
        deeper()
    except RecursionError as error:
        assert len(failure_of(error).traceback) < TRACEBACK_LIMIT


def test_the_cause_is_part_of_the_traceback() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        assert "KeyError: 'first'" in failure_of(error).traceback


def test_no_value_of_a_local_variable_is_kept() -> None:
    password = "hunter2"  # noqa: S105 - what must not appear
    failure = raised(ValueError("x"))
    assert password not in failure.traceback


def test_what_cannot_be_encoded_is_replaced() -> None:
    assert raised(ValueError("\ud800")).message == "?"


def test_a_class_named_in_stored_data_is_never_imported() -> None:
    for name in ("os.system", "acked.app.Acked", "subprocess.Popen", "builtins.ValueError"):
        assert isinstance(rebuild(Failure(name, "x")), RemoteError)
