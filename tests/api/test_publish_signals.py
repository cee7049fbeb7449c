"""`before_task_publish` and `after_task_publish`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from acked import Acked, signals
from acked.message import decode
from tests.api.inline import record_of


@pytest.fixture
def told() -> Iterator[list[tuple[str, Any, dict[str, Any]]]]:
    told: list[tuple[str, Any, dict[str, Any]]] = []

    def before(sender: Any, **named: Any) -> None:
        told.append(("before", sender, named))
        named["headers"]["trace"] = "abc"

    def after(sender: Any, **named: Any) -> None:
        told.append(("after", sender, named))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    yield told
    signals.before_task_publish.disconnect(before)
    signals.after_task_publish.disconnect(after)


def test_both_say_what_is_sent_with_celerys_arguments(app: Acked, told: list[Any]) -> None:
    result = app.send_task("mail", (1,), {"a": 2}, queue="slow", headers={"mine": 1})
    assert [(when, sender) for when, sender, _ in told] == [("before", "mail"), ("after", "mail")]
    named = told[0][2]
    assert named["body"] == ([1], {"a": 2}, {})
    assert named["routing_key"] == "slow"
    assert named["headers"]["id"] == result.id
    assert named["headers"]["task"] == "mail"


def test_a_header_that_a_receiver_adds_goes_along(app: Acked, told: list[Any]) -> None:
    result = app.send_task("mail", headers={"mine": 1})
    assert decode(record_of(app, result.id).body).headers == {"mine": 1, "trace": "abc"}
    assert told[1][2]["headers"]["trace"] == "abc"


def test_a_bulk_send_tells_of_each_message(app: Acked, told: list[Any]) -> None:
    app.send_many([app.signature("mail", (n,)) for n in range(3)])
    assert [when for when, _, _ in told] == ["before"] * 3 + ["after"] * 3
