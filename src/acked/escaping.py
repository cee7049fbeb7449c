"""Foreign text on one line: what comes from tasks and brokers cannot steer a terminal or forge a
line."""

from __future__ import annotations

import re

# C0 and C1 controls, line and paragraph separators, the bidirectional overrides that make text
# read as something else, and lone surrogates, which no stream can encode.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_BLOCK = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def one_line(text: str) -> str:
    """*text* with control characters and line breaks written as escapes (``\\n``, ``\\x1b``)."""
    return _UNSAFE.sub(_escaped, text)


def indented(text: str, indent: str = "    ") -> str:
    """*text* as a block whose lines are kept, each one indented, so that none of them can pass
    for a line of its own."""
    safe = _UNSAFE_IN_BLOCK.sub(_escaped, text)
    return "\n".join(indent + line for line in safe.split("\n"))


def plain(text: str) -> str:
    """*text* on one line for people who cannot read escapes: a blank for each run of blanks and
    such characters."""
    return " ".join(_UNSAFE.sub(" ", text).split())
