"""What a check found."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "info", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor's report.

    Args:
        check: What was looked at, in a word or two.
        level: ``fail`` must be mended; ``warn`` will hurt some day; ``info`` is good to know.
        text: What it is.
        remedy: What to do, for ``warn`` and ``fail``.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""


def ok(check: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(check=check, level="ok", text=text)


def info(check: str, text: str) -> Finding:
    """Good to know."""
    return Finding(check=check, level="info", text=text)


def warn(check: str, text: str, remedy: str) -> Finding:
    """It will hurt some day."""
    return Finding(check=check, level="warn", text=text, remedy=remedy)


def fail(check: str, text: str, remedy: str) -> Finding:
    """It must be mended."""
    return Finding(check=check, level="fail", text=text, remedy=remedy)
