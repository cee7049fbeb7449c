"""Signals: who is told, and that telling them harms nobody."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from acked import Ignore, SoftTimeLimitExceeded, signals
from acked.instead import OF_THE_SIGNALS
from acked.signals import Signal


class Ear:
    """A receiver that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def __call__(self, **named: Any) -> None:
        self.heard.append(named)


@pytest.fixture
def signal() -> Signal:
    return Signal("task_done")


def test_every_receiver_is_told_with_sender_signal_and_arguments(signal: Signal) -> None:
    first, second = Ear(), Ear()
    signal.connect(first)
    signal.connect(second)

    signal.send("shop", task_id="a")

    told = {"sender": "shop", "signal": signal, "task_id": "a"}
    assert first.heard == second.heard == [told]


def test_receivers_are_told_in_the_order_they_came(signal: Signal) -> None:
    order: list[int] = []
    for number in range(3):
        signal.connect(lambda number=number, **_: order.append(number))

    signal.send(None)

    assert order == [0, 1, 2]


def test_a_receiver_of_one_sender_hears_of_no_other(signal: Signal) -> None:
    ear = Ear()
    signal.connect(ear, sender="shop")

    signal.send("bank")
    signal.send("shop")

    assert [told["sender"] for told in ear.heard] == ["shop"]


@pytest.mark.parametrize("error", [ValueError, Ignore, SystemExit])
def test_what_a_receiver_raises_keeps_nobody_from_being_told(
    signal: Signal, error: type[BaseException]
) -> None:
    def fails(**_: Any) -> None:
        raise error

    ear = Ear()
    signal.connect(fails)
    signal.connect(ear)

    signal.send("shop")

    assert len(ear.heard) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SoftTimeLimitExceeded])
def test_what_strikes_in_a_receiver_and_is_not_of_it_goes_on(
    signal: Signal, error: type[BaseException]
) -> None:
    def struck(**_: Any) -> None:
        raise error

    signal.connect(struck)

    with pytest.raises(error):
        signal.send("shop")


def test_connecting_is_a_decorator_with_or_without_arguments(signal: Signal) -> None:
    heard: list[str] = []

    @signal.connect
    def every(sender: str, **_: Any) -> None:
        heard.append(f"every {sender}")

    @signal.connect(sender="shop", weak=False, dispatch_uid="x")
    def one(sender: str, **_: Any) -> None:
        heard.append(f"one {sender}")

    signal.send("shop")
    signal.send("bank")

    assert heard == ["every shop", "one shop", "every bank"]
    assert callable(every)
    assert callable(one)


def test_a_receiver_defined_inside_a_function_is_kept(signal: Signal) -> None:
    heard: list[int] = []

    def connect() -> None:
        signal.connect(lambda **_: heard.append(1))

    connect()
    signal.send(None)

    assert heard == [1]


def test_a_disconnected_receiver_hears_nothing(signal: Signal) -> None:
    gone, stays = Ear(), Ear()
    signal.connect(gone)
    signal.connect(gone, sender="shop")
    signal.connect(stays)

    signal.disconnect(gone)
    signal.disconnect(Ear())
    signal.send("shop")

    assert gone.heard == []
    assert len(stays.heard) == 1


def test_what_is_connected_twice_is_told_once(signal: Signal) -> None:
    ear = Ear()
    signal.connect(ear)
    signal.connect(ear)
    signal.connect(ear, sender="shop")
    signal.connect(sender="shop")(ear)

    signal.send("bank")

    assert len(ear.heard) == 1
    signal.send("shop")
    assert len(ear.heard) == 3  # of every sender, and of this one


def test_of_two_receivers_with_one_uid_the_first_is_told(signal: Signal) -> None:
    first, second = Ear(), Ear()
    signal.connect(first, dispatch_uid="mail")
    signal.connect(dispatch_uid="mail")(second)
    signal.connect(second, dispatch_uid="mail", sender="shop")

    signal.send("bank")

    assert (len(first.heard), len(second.heard)) == (1, 0)


def test_a_method_is_one_receiver_however_often_it_is_named(signal: Signal) -> None:
    ear = Ear()
    signal.connect(ear.__call__)
    signal.connect(ear.__call__)
    signal.send(None)
    assert len(ear.heard) == 1

    signal.disconnect(ear.__call__)
    signal.send(None)
    assert len(ear.heard) == 1


def test_a_receiver_can_be_disconnected_for_one_sender_or_by_its_uid(signal: Signal) -> None:
    ear, other = Ear(), Ear()
    signal.connect(ear, sender="shop")
    signal.connect(ear, sender="bank")
    signal.connect(other, dispatch_uid="mail")

    signal.disconnect(ear, sender="shop")
    signal.disconnect(dispatch_uid="mail")
    signal.send("shop")
    signal.send("bank")

    assert [told["sender"] for told in ear.heard] == ["bank"]
    assert other.heard == []


@pytest.mark.parametrize("name", sorted(OF_THE_SIGNALS))
def test_a_signal_that_celery_has_besides_says_why_it_is_missing(name: str) -> None:
    with pytest.raises(ImportError) as missing:
        exec(f"from acked.signals import {name}")  # noqa: S102 - as a user writes it
    assert str(missing.value) == f"there is no signal {name}: {OF_THE_SIGNALS[name]}."


def test_an_exception_in_a_receiver_is_logged_and_the_others_are_told(
    signal: Signal, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("lost my way")

    ear = Ear()
    signal.connect(broken)
    signal.connect(ear)

    with caplog.at_level(logging.ERROR, "acked.signals"):
        signal.send(None)

    assert len(ear.heard) == 1
    assert "task_done" in caplog.text
    assert "lost my way" in caplog.text


def test_a_receiver_may_disconnect_itself_while_it_is_told(signal: Signal) -> None:
    ear = Ear()

    def once(**_: Any) -> None:
        signal.disconnect(once)

    signal.connect(once)
    signal.connect(ear)

    signal.send(None)
    signal.send(None)

    assert len(ear.heard) == 2


def test_each_signal_knows_its_name() -> None:
    found = {name: each for name, each in vars(signals).items() if isinstance(each, Signal)}

    assert "task_prerun" in found
    assert all(each.name == name for name, each in found.items())
    assert repr(signals.task_prerun) == "<Signal: task_prerun>"
