"""The scripts that the server runs, each made of its file and those it builds on.

A script is run from its beginning each time, and makes its functions anew. What that costs grows
with the number of functions times the number of local variables that they refer to. So a script
builds on no more than it needs, and constants (``local NAME = 1``, or several at once) are put in
their places before the server sees the script.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files


class Script:
    """One operation.

    Args:
        name: Of the file.
        after: Files whose functions it uses.
        repeatable: Whether it may be run a second time where the first answer was lost.
    """

    def __init__(self, name: str, *after: str, repeatable: bool = True) -> None:
        self.name = name
        self.text = _in_place("\n".join(_text(each) for each in ("common", *after, name)))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self.repeatable = repeatable


CONSTANTS = re.compile(r"^local ([A-Z][A-Z_,\s]*?)\s*=\s*([\d,\s]*\d)", re.MULTILINE)


def _in_place(text: str) -> str:
    """*text* with the values of its constants where their names were."""
    values: dict[str, str] = {}
    for names, numbers in CONSTANTS.findall(text):
        each = zip(re.split(r"[,\s]+", names), re.split(r"[,\s]+", numbers), strict=True)
        values.update(each)
    named = re.compile(rf"\b({'|'.join(values)})\b")
    code = CONSTANTS.sub("", text)
    lines = [line for line in code.splitlines() if not line.lstrip().startswith("--")]
    return named.sub(lambda found: values[found[0]], "\n".join(lines))


def _text(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")


# A claim whose answer was lost is not repeated: it would take yet more tasks than the caller knows
# of. Whoever claims finds out with `seize` what it holds. What counts something is not repeated
# either, as the second answer would be another.
SEND = Script("send", "lines")
TURN = Script("turn", "lines", "held", "settle", "claim", repeatable=False)
SETTLE = Script("turn", "lines", "held", "settle", "claim")
ADMIT = Script("admit", "lines", "held", "settle", repeatable=False)
SEIZE = Script("seize", "held")
BODIES = Script("bodies")
PROMOTE = Script("promote", "lines")
RENEW = Script("renew", "held")
LEAVE = Script("leave")
LOOK = Script("look", "lines")
READ = Script("read")
SEARCH = Script("search")
RARE = Script("rare")
UPCOMING = Script("upcoming")
HISTORY = Script("history")
NOTE = Script("note")
COUNTS = Script("counts", "lines")
WORKERS = Script("workers", "held")
REVOKE = Script("revoke", "lines", repeatable=False)
REQUEUE = Script("requeue", "lines", repeatable=False)
DELETE = Script("delete", "lines", repeatable=False)
PAUSE = Script("pause", "lines")
COUNT = Script("count", repeatable=False)
COUNTED = Script("counted")
OVERDUE = Script("overdue", "lines")
EXCHANGE = Script("exchange")
TIME = Script("time")
TOUCH = Script("touch")
