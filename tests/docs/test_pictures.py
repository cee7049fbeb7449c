"""Every picture that was drawn can be found from the pages."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_gallery_shows_or_links_every_picture_and_no_other() -> None:
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\((images/[^)]+)\)", text))
    drawn = {path.relative_to(DOCS).as_posix() for path in (DOCS / "images").rglob("*.png")}
    assert linked == drawn


def test_pictures_stay_small() -> None:
    large = [
        path.name for path in (DOCS / "images").rglob("*.png") if path.stat().st_size > 100_000
    ]
    assert large == []
