"""What may not be shown: secrets, found by the name of the key that holds them.

Used wherever data of a task or a broker becomes visible: command line, logs, dashboard. It works
on names alone. A secret passed under an innocent name, or by position, is not recognised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"

SECRET_KEYS = (
    "password", "passwd", "secret", "token", "api_key", "authorization", "cookie", "session", "dsn",
)  # fmt: skip
"""A key that contains one of these, in any case and with or without its separators, is secret."""

DEPTH_LIMIT = 100
"""Levels of nesting that are shown; below that, data is cut."""

_BARE_KEYS = tuple(key.replace("_", "") for key in SECRET_KEYS)
_KEY_WORDS = "|".join(key.replace("_", "[-_ ]?") for key in SECRET_KEYS)

# Every repetition is bounded or cannot fail once begun, so that 100 KB of hostile text costs
# milliseconds: task texts come from anybody who can enqueue.
_HEADER_LINE = re.compile(
    r"""((?:authorization|cookie)[\w.-]{0,60}[ \t]{0,3}[:=][ \t]{0,3})[^\s"'\[{(\\][^\r\n"']*""",
    re.IGNORECASE,
)
_NAMED_VALUE = re.compile(
    rf"""
    (?! (?<=\btarget_) session_attrs\b )  # which server of a PostgreSQL's URL is meant
    ( (?:{_KEY_WORDS}) [\w.-]{{0,60}} \\{{0,4}}["']?\]? [ \t]{{0,3}}
      (?: => | := | ={{1,3}} | : ) [ \t]{{0,3}} )
    (?:
        \\{{0,4}} [bru]{{0,2}} \\{{0,4}} " (?: [^"\\\r\n] | \\. )* "?
      | \\{{0,4}} [bru]{{0,2}} \\{{0,4}} ' (?: [^'\\\r\n] | \\. )* '?
      | [\[({{] [^\r\n]*
      | (?: bearer | basic | digest | negotiate ) [ \t]{{1,3}} [^\s,;"']+
      | [^\s,;&)}}\]"']+
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
# What stands for a password in remedies of our own, known by all that is around it: a password that
# is such a word stays hidden, unless its URL is the remedy's, letter for letter.
_PLACEHOLDER = (
    r"(?<=://user:)password@host(?![^\s:/,])(?![^\s/?#]*@)"
    r"|PASSWORD@[^\s/?#@]*/\.\.\.(?!\w)"
)
# Text is cut before it is stored or searched, and the cut may be inside of a password: there is no
# @ then, and what is not a port may be one. `acked.failure` says where it has cut.
_URL_PASSWORD = re.compile(
    rf"(://[^\s:/@]*:)(?!{_PLACEHOLDER})"
    r"(?:[^\s/?#]*@|(?!\d{0,5}(?:\Z|\n…))[^\s/?#\]]+(?=\Z|\n…\ \d))"
)
_REST_OF_PASSWORD = re.compile(r"(?<=left out …\n)/{0,2}[^\s/?#@]*@")


def is_secret(key: str) -> bool:
    """Whether what is stored under *key* may not be shown."""
    bare = key.lower().replace("_", "").replace("-", "").replace(" ", "")
    return any(word in bare for word in _BARE_KEYS)


def redact(value: Any) -> Any:
    """A copy of JSON data with what its secret keys hold replaced by ``***``, at any depth.

    Strings inside it are treated by `redact_text`.
    """
    return _redact(value, DEPTH_LIMIT)


def _redact(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth == 0:
        return "... (nested too deep to show)"
    if isinstance(value, Mapping):
        return {
            key: MASK if is_secret(str(key)) else _redact(inner, depth - 1)
            for key, inner in value.items()
        }
    return [_redact(inner, depth - 1) for inner in value]


def redact_positional(args: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Positional arguments redacted; *names* are the parameters they go to, as far as known."""
    return [
        MASK if position < len(names) and is_secret(names[position]) else redact(value)
        for position, value in enumerate(args)
    ]


def redact_text(text: str) -> str:
    """Running text with ``***`` for passwords in URLs and for values that follow a secret key, as
    in ``password=…``, ``"api_key": "…"`` or ``Authorization: Bearer …``.

    It would rather hide a harmless word (``unexpected token: …``) than show a secret.
    """
    text = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
    text = _REST_OF_PASSWORD.sub(f"{MASK}@", text)
    text = _HEADER_LINE.sub(rf"\1{MASK}", text)
    return _NAMED_VALUE.sub(rf"\1{MASK}", text)
