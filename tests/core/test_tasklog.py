"""What one attempt logs is kept in bounded memory: its beginning and its end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acked.tasklog import HALF, LINE_LIMIT, LogLines, cut


def test_a_short_log_is_kept_whole() -> None:
    lines = LogLines()
    for number in range(3):
        lines.add(f"line {number}")
    assert lines.text() == "line 0\nline 1\nline 2"


def test_of_a_long_log_the_beginning_and_the_end_are_kept_and_the_gap_is_told() -> None:
    lines = LogLines()
    for number in range(10_000):
        lines.add(f"line {number}")
    kept = lines.text().split("\n")
    assert kept[:2] == ["line 0", "line 1"]
    assert kept[-1] == "line 9999"
    (gap,) = [line for line in kept if "left out" in line]
    assert gap == f"… {10_000 - len(kept) + 1} lines left out …"


@given(st.lists(st.text(max_size=LINE_LIMIT)))
def test_no_log_grows_beyond_its_bound(said: list[str]) -> None:
    lines = LogLines()
    for line in said:
        lines.add(line)
    assert len(lines.text()) <= 2 * HALF + 100


def test_a_long_line_is_cut_and_says_so() -> None:
    assert cut("short") == "short"
    assert cut("x" * (LINE_LIMIT + 5)).endswith("… (5 characters left out)")
