"""The server's clock, read from this host between two answers of the server."""

from __future__ import annotations

import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked.clock import JUMP, ServerClock

START = 1_000.0
OFFSET = 1_700_000_000.0


class Host(ServerClock):
    """A host whose clock moves when told to, and which asks a server."""

    def __init__(self) -> None:
        super().__init__()
        Host.time = START

    time = START

    @staticmethod
    def here() -> float:
        return Host.time

    def ask(self, *, there: float = 0.0, back: float = 0.0, offset: float = OFFSET) -> None:
        """The question takes *there* seconds, the answer *back*; *offset* is the server's."""
        asked = Host.time
        Host.time += there
        server_now = Host.time + offset
        Host.time += back
        self.sync(server_now, asked)

    @property
    def error(self) -> float:
        """Seconds by which this host is wrong about the server's clock."""
        assert self.expected is not None
        return self.expected - (Host.time + OFFSET)


ways = st.floats(0, 30)


@given(st.lists(st.tuples(ways, ways, st.floats(0, 100)), min_size=1))
def test_no_slow_answer_is_taken_for_a_clock_that_was_set(
    answers: list[tuple[float, float, float]],
) -> None:
    host = Host()
    for there, back, pause in answers:
        host.ask(there=there, back=back)
        Host.time += pause
        assert host.since_jump == math.inf


@given(st.lists(st.tuples(ways, ways), min_size=1))
def test_the_quickest_answer_bounds_the_error(answers: list[tuple[float, float]]) -> None:
    host = Host()
    for there, back in answers:
        host.ask(there=there, back=back)
        assert -30.001 < host.error < 0.001
    host.ask(there=0.01, back=0.01)
    assert abs(host.error) < 0.011


@given(st.floats(JUMP + 0.1, 1e6), st.sampled_from([1, -1]), st.floats(0, 0.04))
def test_a_clock_that_was_set_is_noticed_with_the_next_quick_answer(
    seconds: float, sign: int, way: float
) -> None:
    host = Host()
    host.ask(there=way, back=way)
    host.ask(there=way, back=way, offset=OFFSET + sign * seconds)
    assert host.since_jump == 0
    assert host.error == pytest.approx(sign * seconds, abs=0.1)


@pytest.mark.parametrize(("moved", "there", "back"), [(5, 0, 10), (-5, 10, 0)])
def test_what_a_slow_answer_may_explain_is_noticed_with_a_quick_one(
    moved: float, there: float, back: float
) -> None:
    host = Host()
    host.ask()
    host.ask(there=there, back=back, offset=OFFSET + moved)
    assert host.since_jump == math.inf
    host.ask(offset=OFFSET + moved)
    assert host.since_jump == 0


def test_a_clock_that_drifts_is_followed() -> None:
    host = Host()
    for step in range(1000):
        host.ask(offset=OFFSET - step * 0.01)
    assert host.error == pytest.approx(-9.99, abs=0.01)
    assert host.since_jump == math.inf


def test_a_clock_that_was_set_is_said_with_by_how_much(caplog: pytest.LogCaptureFixture) -> None:
    host = Host()
    host.ask()
    with caplog.at_level(logging.WARNING, "acked.broker"):
        host.ask(offset=OFFSET - 3600)
    assert "was set by -3600.0 s" in caplog.text
