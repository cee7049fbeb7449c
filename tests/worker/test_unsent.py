"""What a program is told of a call that its broker does not take, on every server."""

from __future__ import annotations

import pytest

from acked.errors import BrokerError, BrokerUnavailable
from tests.worker.conftest import Shop, on_every_server


@on_every_server
def test_a_call_is_not_stored_when_its_server_is_away(shop: Shop) -> None:
    shop.place.running.kill()

    with pytest.raises(BrokerUnavailable) as refusal:
        shop.tasks.noop.apply_async([1], task_id="order-4711")

    assert str(refusal.value).startswith("tests.harness.shop.noop[order-4711]: not stored. ")
    assert refusal.value.nothing_stored


@on_every_server
def test_a_call_may_be_stored_when_its_server_falls_silent(shop: Shop) -> None:
    shop.environment["SHOP_SEND_TIMEOUT"] = "0.5"
    shop.open()
    shop.tasks.noop.delay(1)
    shop.place.running.freeze()

    with pytest.raises(BrokerUnavailable) as refusal:
        shop.tasks.noop.apply_async([2], task_id="order-4711")

    assert str(refusal.value).startswith(
        "tests.harness.shop.noop[order-4711]: may be stored, and sending it again with the same id "
        "is harmless. "
    )
    assert not refusal.value.nothing_stored
    shop.place.running.thaw()
    shop.tasks.noop.apply_async([2], task_id="order-4711")
    assert shop.record("order-4711").is_waiting


@on_every_server
def test_several_calls_are_named_by_the_first_of_them(shop: Shop) -> None:
    shop.place.running.kill()

    with pytest.raises(BrokerError, match=r"^tests\.harness\.shop\.noop\[\S+\] and 2 more: not st"):
        shop.tasks.noop.delay_many([(1,), (2,), (3,)])
