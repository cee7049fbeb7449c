"""Foreign text stays on its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked.escaping import indented, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u2028b\u202eb", "a\\u2028b\\u202eb"),
        ("\ud800", "\\ud800"),
        ("größer ✓ 漢字", "größer ✓ 漢字"),
    ],
)
def test_what_would_leave_the_line_is_written_as_an_escape(text: str, shown: str) -> None:
    assert one_line(text) == shown


@given(st.text(alphabet=st.characters()))
def test_any_text_becomes_one_line_that_can_be_written(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()


@given(st.text(alphabet=st.characters()))
def test_every_line_of_a_block_is_indented(text: str) -> None:
    assert all(line.startswith("    ") for line in indented(text).splitlines())
