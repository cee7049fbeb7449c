"""Finding tasks by what an operator types."""

from __future__ import annotations

import pytest

from acked.broker import Engine
from acked.cli.exits import Exit, Stop
from acked.cli.finding import PAGE, Query, find, resolve
from acked.message import Message
from tests.cli.scenario import IDS


def names(store: Engine, **asked: object) -> set[str]:
    found = {record.id for record in find(store, Query(**asked))}  # type: ignore[arg-type]  # fields of Query
    return {name for name, task_id in IDS.items() if task_id in found}


def test_a_whole_id_is_found(memory: Engine) -> None:
    assert resolve(memory, IDS["done"]).id == IDS["done"]


def test_a_unique_ending_is_enough(memory: Engine) -> None:
    assert resolve(memory, "failed______").id == IDS["failed"]


def test_a_unique_beginning_is_enough(memory: Engine) -> None:
    assert resolve(memory, IDS["running"][:32]).id == IDS["running"]


def test_a_part_from_the_middle_is_not_enough(memory: Engine) -> None:
    with pytest.raises(Stop) as stopped:
        resolve(memory, IDS["failed"][20:38])
    assert stopped.value.code is Exit.NOT_FOUND


def test_an_ambiguous_part_lists_the_candidates(memory: Engine) -> None:
    with pytest.raises(Stop, match="ambiguous") as stopped:
        resolve(memory, "0193a4b8")
    assert stopped.value.code is Exit.USAGE
    assert len(stopped.value.details) == len(IDS)
    assert any("shop.mail" in line for line in stopped.value.details)


def test_a_whole_id_wins_over_ids_that_contain_it(memory: Engine) -> None:
    memory.send([Message(id="order-1", task="t"), Message(id="order-12", task="t")])
    assert resolve(memory, "order-1").id == "order-1"


@pytest.mark.parametrize("part", ["zzzzzzzz", "short", ""])
def test_an_unknown_id_is_not_found(memory: Engine, part: str) -> None:
    with pytest.raises(Stop) as stopped:
        resolve(memory, part)
    assert stopped.value.code is Exit.NOT_FOUND


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("SUCCESS", {"done"}),
        ("FAILURE", {"failed"}),
        ("REVOKED", {"revoked"}),
        ("RUNNING", {"running"}),
        ("STARTED", {"running"}),
        ("SCHEDULED", {"retrying"}),
        ("QUEUED", {"waiting"}),
        ("RETRY", {"retrying"}),
        ("PENDING", {"waiting"}),
    ],
)
def test_states_go_by_their_own_and_by_celerys_names(
    memory: Engine, state: str, found: set[str]
) -> None:
    assert names(memory, states=(state,)) == found


def test_any_of_several_states_will_do(memory: Engine) -> None:
    assert names(memory, states=("RETRY", "QUEUED", "FAILURE")) == {"retrying", "waiting", "failed"}


def test_queue_task_and_reason_narrow_the_search(memory: Engine) -> None:
    assert names(memory, queue="mails") == {"waiting"}
    assert names(memory, task="shop.mail") == {"waiting"}
    assert names(memory, reason="http 503") == {"retrying"}
    assert names(memory, reason="valueerror", states=("FAILURE",)) == {"failed"}


def test_a_search_goes_on_past_the_first_page(memory: Engine) -> None:
    memory.send([Message(id=f"many-{number}", task="many") for number in range(PAGE * 2 + 1)])
    found = [record.id for record in find(memory, Query(task="many"))]
    assert len(found) == len(set(found)) == PAGE * 2 + 1
    assert found[0] == f"many-{PAGE * 2}"
