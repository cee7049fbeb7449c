"""What only root may do, and some tests have to."""

from __future__ import annotations

import os

import pytest


def need_root(deed: str) -> None:
    """Skip the test for everybody else; who is root skips nothing.

    Args:
        deed: What it needs root for: ``mount a volume``.
    """
    if os.geteuid() != 0:
        pytest.skip(f"only root may {deed} (see CONTRIBUTING.md, Tests)")
