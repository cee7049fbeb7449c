"""Everything a progress page says, in one place, to be said in another language."""

from __future__ import annotations

import msgspec

from acked.errors import ConfigurationError


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """The words of a progress page. Names in braces are filled in: keep those you need.

    Args:
        language: Of the other words, as HTML names it (``en``, ``de``, ``pt-BR``).
        direction: ``ltr``, or ``rtl`` for a language that is written from right to left.
    """

    language: str = "en"
    direction: str = "ltr"

    task: str = "Your task"
    page_title: str = "{label}: {headline}"

    waiting: str = "Waiting to start"
    scheduled: str = "Scheduled"
    working: str = "Working"
    stopping: str = "Stopping"
    trying_again: str = "Trying again"
    interrupted: str = "Interrupted, continuing"
    done: str = "Done"
    failed: str = "Failed"
    cancelled: str = "Cancelled"
    expired: str = "Expired"
    unknown: str = "Nothing is known of this task"
    refused: str = "This link does not work"
    unreachable: str = "It cannot be seen at the moment"

    in_line: str = "{count} tasks are waiting, this one included"
    starts_in: str = "Starts in {time}"
    again_in: str = "Tries again in {time}"
    time_left: str = "About {time} left"
    amount: str = "{done} of {total}"
    attempt: str = "Attempt {number}"
    attempt_of: str = "Attempt {number} of {total}"

    numbered: str = "Task {number}"
    done_of: str = "{count} of {total} done"
    count_failed: str = "{count} failed"
    count_cancelled: str = "{count} cancelled"
    count_expired: str = "{count} expired"
    count_unknown: str = "{count} unknown"

    trying_again_detail: str = "Something went wrong. It will be tried again by itself."
    interrupted_detail: str = (
        "What was working on it stopped. It continues as soon as another worker is free."
    )
    failed_detail: str = "Something went wrong."
    cancelled_detail: str = "It was stopped before it was finished."
    expired_detail: str = "It could not be started in time."
    unknown_detail: str = "It may have ended long ago."
    refused_detail: str = "It may be wrong or too old. Go back to where you found it."
    unreachable_detail: str = "Your task goes on. This page looks again by itself."

    open_result: str = "Open the result"
    cancel: str = "Cancel"
    retry: str = "Try again"
    refresh: str = "Look again"
    not_done: str = "That did not work. Try it again in a moment, or load this page again."
    offline: str = "The connection is lost. Your task goes on; this page reconnects by itself."


ENGLISH = Words()

_FILLED = {
    "page_title": {"label": "", "headline": ""},
    "in_line": {"count": ""},
    "starts_in": {"time": ""},
    "again_in": {"time": ""},
    "time_left": {"time": ""},
    "amount": {"done": "", "total": ""},
    "attempt": {"number": ""},
    "attempt_of": {"number": "", "total": ""},
    "numbered": {"number": ""},
    "done_of": {"count": "", "total": ""},
    "count_failed": {"count": ""},
    "count_cancelled": {"count": ""},
    "count_expired": {"count": ""},
    "count_unknown": {"count": ""},
}


def check_words(words: Words) -> Words:
    """*words*, when each of them can be filled in.

    Raises:
        ConfigurationError: One has a brace that nothing fills; it is named.
    """
    for name, values in _FILLED.items():
        text = getattr(words, name)
        try:
            text.format(**values)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            known = ", ".join(f"{{{key}}}" for key in values)
            raise ConfigurationError(
                f"Words({name}={text!r}) cannot be filled in ({error}). It may use {known}; write "
                "{{ and }} for braces."
            ) from None
    if words.direction not in {"ltr", "rtl"}:
        raise ConfigurationError(f"Words(direction={words.direction!r}) must be 'ltr' or 'rtl'.")
    return words
