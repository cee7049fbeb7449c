"""Words for numbers of things and for lists of names."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str, adjective: str = "") -> str:
    """``1 task``, ``3 waiting tasks``."""
    words = f"{adjective} {noun}".strip()
    return f"{count} {words}" if count == 1 else f"{count} {words}s"


def few(names: Sequence[str], limit: int = 5) -> str:
    """*names*, the first *limit* of them written out."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
