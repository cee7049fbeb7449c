"""Signatures: a call as a value."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest

from acked import Acked, ConfigurationError, NotSendable
from acked.instead import OF_A_SIGNATURE
from acked.message import decode, decode_arguments
from tests.api.inline import record_of


@pytest.fixture
def add(app: Acked) -> Any:
    @app.task(name="add")
    def add(a: int, b: int, c: int = 0) -> int:
        return a + b + c

    return add


def sent(app: Acked, task_id: str) -> tuple[list[Any], dict[str, Any]]:
    return decode_arguments(decode(record_of(app, task_id).body))


def test_a_signature_is_a_call_to_be_sent_later(app: Acked, add: Any) -> None:
    signature = add.s(1, b=2)
    assert app.records.counts() == []
    assert sent(app, signature.delay().id) == ([1], {"b": 2})


def test_arguments_given_later_come_first(app: Acked, add: Any) -> None:
    assert sent(app, add.s(2).delay(1).id) == ([1, 2], {})
    assert sent(app, add.s(2).apply_async((1,), {"c": 3}).id) == ([1, 2], {"c": 3})


def test_an_immutable_signature_takes_no_more_arguments(app: Acked, add: Any) -> None:
    assert sent(app, add.si(1, 2).delay(9, c=9).id) == ([1, 2], {})


def test_options_travel_with_it_and_the_later_ones_win(app: Acked, add: Any) -> None:
    signature = add.signature((1, 2), queue="slow", priority=1)
    assert record_of(app, signature.delay().id).queue == "slow"
    record = record_of(app, signature.set(priority=9).apply_async(queue="fast").id)
    assert (record.queue, record.priority) == ("fast", 9)


def test_set_changes_its_options_in_place(app: Acked, add: Any) -> None:
    signature = add.s(1, 2)
    assert signature.set(countdown=60) is signature
    signature.set(queue="slow")
    record = record_of(app, signature.delay().id)
    assert (record.queue, record.due - record.sent) == ("slow", pytest.approx(60, abs=1))


def test_a_clone_leaves_it_as_it_is(add: Any) -> None:
    signature = add.s(1)
    other = signature.clone((5,), {"c": 1}, queue="slow")
    other.set(priority=3)
    assert (signature.args, dict(signature.kwargs), dict(signature.options)) == ((1,), {}, {})
    assert (other.args, dict(other.options)) == ((5, 1), {"queue": "slow", "priority": 3})
    with pytest.raises(TypeError):
        signature.options["queue"] = "slow"


def test_it_goes_through_json_and_back(app: Acked, add: Any) -> None:
    signature = add.signature((1,), {"b": 2}, immutable=True, queue="slow")
    again = app.signature(json.loads(json.dumps(signature.as_dict())))
    assert again == signature
    assert again.target is add


def test_a_signature_can_name_a_task_of_another_process(app: Acked) -> None:
    result = app.signature("mail.send", (1,), queue="mail").delay()
    assert record_of(app, result.id).task == "mail.send"


def test_an_incomplete_signature_is_refused_when_it_is_sent(add: Any) -> None:
    with pytest.raises(NotSendable, match="missing a required argument: 'b'"):
        add.s(1).delay()


def test_many_of_different_tasks_are_sent_at_once(app: Acked, add: Any) -> None:
    @app.task(queue="slow")
    def ping() -> None: ...

    results = app.send_many([add.si(1, 2), ping.si(), add.s(3, 4).set(countdown=60)])
    assert [record_of(app, each.id).queue for each in results] == ["default", "slow", "default"]
    assert sent(app, results[0].id) == ([1, 2], {})
    assert results[2].state == "PENDING"


def test_what_is_no_signature_is_refused_and_nothing_is_stored(app: Acked, add: Any) -> None:
    with pytest.raises(
        NotSendable, match=r"takes signatures, got <Task: add>. task.s\(...\) makes"
    ):
        app.send_many([add.s(1, 2), add])
    with pytest.raises(NotSendable, match="by its name, a str, got <Task: add>. A task itself has"):
        app.send_task(add, (1, 2))
    with pytest.raises(NotSendable, match="by its name, a str, got <Task: add>"):
        app.signature(add, (1, 2))
    assert app.records.counts() == []


def test_coroutines_send_it_too(app: Acked, add: Any) -> None:
    assert sent(app, asyncio.run(add.s(2).adelay(1)).id) == ([1, 2], {})
    result = asyncio.run(add.s(2).aapply_async((1,), {"c": 3}, queue="slow"))
    assert sent(app, result.id) == ([1, 2], {"c": 3})
    assert record_of(app, result.id).queue == "slow"


def test_coroutines_send_many_of_different_tasks_at_once(app: Acked, add: Any) -> None:
    @app.task(queue="slow")
    def ping() -> None: ...

    results = asyncio.run(app.asend_many(each for each in (add.si(1, 2), ping.si())))
    assert [record_of(app, each.id).queue for each in results] == ["default", "slow"]


def test_a_coroutine_sends_by_name_a_task_of_another_process(app: Acked) -> None:
    result = asyncio.run(app.asend_task("mail.send", (1,), {"now": True}, queue="mail"))
    assert (record_of(app, result.id).task, record_of(app, result.id).queue) == (
        "mail.send", "mail",
    )  # fmt: skip
    assert sent(app, result.id) == ([1], {"now": True})


def test_it_reads_as_the_call_it_is(add: Any) -> None:
    assert repr(add.s(1, b="x")) == "add(1, b='x')"


@pytest.mark.parametrize("name", sorted(OF_A_SIGNATURE))
def test_what_a_signature_of_celery_has_besides_says_what_to_do_instead(
    add: Any, name: str
) -> None:
    signature = add.s(1)
    with pytest.raises(AttributeError, match=f"^a signature has no '{name}': ") as missing:
        getattr(signature, name)
    assert OF_A_SIGNATURE[name] in str(missing.value)
    assert not hasattr(signature, name)
    assert copy.copy(signature) == signature


def test_a_signature_is_not_called_and_makes_no_task(app: Acked, add: Any) -> None:
    with pytest.raises(TypeError, match=r"sent and not called: add\.s\(\.\.\.\)\.delay\(\)"):
        add.s(1)(2)
    with pytest.raises(ConfigurationError, match="a task is made from a function"):
        app.task(add.s(1))
