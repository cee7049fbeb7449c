"""What is read again after a while."""

from __future__ import annotations

import pytest

from acked.pages import cached
from acked.pages.cached import Cached


class Source:
    """Something to read, on a clock that its reading moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.takes = 0.001
        self.readings = 0
        monkeypatch.setattr(cached.time, "monotonic", lambda: self.now)

    def read(self) -> int:
        self.now += self.takes
        self.readings += 1
        return self.readings


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source(monkeypatch)


def test_it_is_read_once_within_its_time(source: Source) -> None:
    value = Cached(source.read, every=2.0)
    assert [value.get(), value.get()] == [1, 1]
    source.now += 2.0
    assert value.get() == 2


def test_what_takes_long_each_time_is_read_less_often(source: Source) -> None:
    source.takes = 1.0
    value = Cached(source.read, every=2.0)
    value.get()
    source.now += 2.0
    value.get()
    source.now += 19.0
    assert value.get() == 2
    source.now += 1.0
    assert value.get() == 3


def test_one_reading_that_took_long_does_not_put_off_the_next(source: Source) -> None:
    value = Cached(source.read, every=2.0)
    value.get()
    source.now += 2.0
    source.takes = 4.0  # as of a broker that hangs and goes on
    value.get()
    source.now += 2.0
    assert value.get() == 3


def test_what_was_forgotten_is_read_again(source: Source) -> None:
    value = Cached(source.read, every=2.0)
    value.get()
    value.forget()
    assert value.get() == 2
