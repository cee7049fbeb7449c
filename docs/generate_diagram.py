"""Draw the parts of docs/internals.md that the code already says: states and layers.

``python docs/generate_diagram.py`` rewrites what stands between the marks in that page. A test
compares the two, so that the page cannot tell another story than the code.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from acked.delivery import FINAL, TRANSITIONS, Event, State

PAGE = Path(__file__).with_name("internals.md")
PROJECT = PAGE.parent.parent / "pyproject.toml"


def states() -> str:
    """The table of transitions as a Mermaid state diagram, arrows between the same two states
    drawn once."""
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR"]
    lines += [f"    [*] --> {State.QUEUED}: send", f"    [*] --> {State.SCHEDULED}: send with eta"]
    for state, following in TRANSITIONS.items():
        arrows: dict[State, list[Event]] = {}
        for event, after in following.items():
            arrows.setdefault(after, []).append(event)
        for after, events in arrows.items():
            lines.append(f"    {state} --> {after}: {', '.join(event.value for event in events)}")
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join([*lines, "```", ""])


def layers() -> str:
    """The layers that import-linter holds, the highest first."""
    contracts = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]
    ordered = next(each for each in contracts["contracts"] if each["type"] == "layers")
    return "\n".join(["```text", *ordered["layers"], "```", ""])


DRAWN = {"states": states, "layers": layers}


def redrawn(page: str) -> str:
    """*page* with everything between its marks as it should be."""
    for name, draw in DRAWN.items():
        begin = f"<!-- {name}: drawn by docs/generate_diagram.py -->\n"
        end = f"<!-- end of {name} -->\n"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}{draw()}{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
