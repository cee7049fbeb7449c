"""How many streams one visitor can hold, however he varies what he asks for."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from acked.pages import Action, Limits
from acked.pages.caps import OpenStreams, keys_of
from tests.pages.mounted import SAME, Site


def keys(task: str, *names: str, address: str | None = "192.0.2.1") -> list[Any]:
    return keys_of(task_ids=frozenset({task}), names=names, address=address)


@pytest.mark.parametrize(
    ("limits", "same", "other"),
    [
        (Limits(streams_per_page=1), keys("a", address=None), keys("b")),
        (Limits(streams_per_address=1), keys("b"), keys("a", address="192.0.2.2")),
        (Limits(streams_per_name=1), keys("b", "ann", address="::1"), keys("a", "bob")),
    ],
)  # fmt: skip
def test_what_has_its_streams_gets_no_other_until_one_ends(
    limits: Limits, same: list[Any], other: list[Any]
) -> None:
    streams = OpenStreams(limits)
    with streams.one_more(keys("a", "ann")):
        assert not streams.admits(same)
        assert streams.admits(other)
    assert streams.admits(same)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),  # one /64 is one visitor's
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("testclient", "testclient", True),
    ],
)
def test_which_addresses_are_one_visitors(one: str, other: str, same: bool) -> None:
    streams = OpenStreams(Limits(streams_per_address=1))
    with streams.one_more(keys("a", address=one)):
        assert streams.admits(keys("b", address=other)) is not same


async def _is_ann(request: Request, task_id: str, action: Action) -> str:
    return "ann"


@pytest.mark.parametrize(
    "options",
    [
        {"limits": Limits(streams_per_address=0)},
        {"limits": Limits(streams_per_name=0), "permission": _is_ann},
    ],
)
def test_a_visitor_with_too_many_streams_is_told_to_poll(options: dict[str, Any]) -> None:
    site = Site(**options)
    token = site.token(site.stage.working())
    answer = site.client.post("/a/b/events", json={"tokens": [token]}, headers=SAME)
    assert answer.status_code == 503
    assert site.states(token)[0]["state"]["view"]["phase"] == "working"


def test_a_name_is_a_yes_and_an_empty_one_is_not() -> None:
    name = "ann"

    async def named(request: Request, task_id: str, action: Action) -> str:
        return name

    site = Site(permission=named, limits=Limits(streams_per_name=1))
    url, token = site.url(site.stage.send(), "cancel"), site.token(site.stage.done())
    assert "Cancel" in site.client.get(url).text
    assert [len(site.events(token)) for _ in range(3)] == [1, 1, 1], "those that ended are free"
    name = ""
    assert site.client.get(url).status_code == 404
