"""Tokens: what they give, and to whom they give nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from acked.errors import ConfigurationError
from acked.pages.grants import Action, Grant, ManyGrant, Secrets

NOW = 1_000_000.0
OLD, NEW = "o" * 32, "n" * 32

grants = st.builds(
    Grant, task_id=st.text(max_size=60), expires=st.floats(NOW + 1, NOW + 1e9),
    actions=st.frozensets(st.sampled_from(Action)), label=st.just("Importing customers.csv"),
)  # fmt: skip


def grant(expires: float = NOW + 60) -> Grant:
    return Grant(task_id="a", expires=expires, actions=frozenset({Action.VIEW, Action.RETRY}))


@given(grant=grants)
def test_a_token_says_what_was_signed(grant: Grant) -> None:
    secrets = Secrets([NEW])
    assert secrets.verify(secrets.sign(grant), now=NOW) == grant


@given(
    tasks=st.lists(st.tuples(st.text(max_size=44), st.just("a.csv")), min_size=1, max_size=20),
    actions=st.frozensets(st.sampled_from(Action)),
)
def test_a_token_for_several_says_what_was_signed_and_the_same_for_each(
    tasks: list[tuple[str, str]], actions: frozenset[Action]
) -> None:
    ids, labels = zip(*tasks, strict=True)
    many = ManyGrant(
        task_ids=ids, labels=labels, expires=NOW + 60, actions=actions, label="Imports"
    )
    secrets = Secrets([NEW])
    assert secrets.verify(secrets.sign(many), now=NOW) == many
    assert many.each() == [
        Grant(task_id=task_id, label=label, expires=NOW + 60, actions=actions)
        for task_id, label in tasks
    ]


@given(grant=grants, place=st.integers(0, 10_000), other=st.sampled_from("Ab0-_.~ \u00e9"))
def test_a_changed_token_says_nothing_else(grant: Grant, place: int, other: str) -> None:
    secrets = Secrets([NEW])
    token = secrets.sign(grant)
    place %= len(token)
    changed = token[:place] + other + token[place + 1 :]
    # The last character of base64 has bits that mean nothing, so it may still be the same token.
    assert secrets.verify(changed, now=NOW) in {None, grant}


@given(token=st.text(max_size=200) | st.text("AbC.-_0", max_size=200))
def test_any_text_whatsoever_is_refused_without_an_error(token: str) -> None:
    assert Secrets([NEW]).verify(token, now=NOW) is None


def test_a_token_is_worth_nothing_from_its_end_on() -> None:
    secrets = Secrets([NEW])
    token = secrets.sign(grant(expires=NOW))
    assert secrets.verify(token, now=NOW - 0.1) is not None
    assert secrets.verify(token, now=NOW) is None


def test_a_secret_can_be_replaced_while_the_tokens_of_the_old_one_are_still_good() -> None:
    before, between, after = Secrets([OLD]), Secrets([NEW, OLD]), Secrets([NEW])
    old, new = before.sign(grant()), between.sign(grant())
    assert between.verify(old, now=NOW) == between.verify(new, now=NOW) == grant()
    assert after.verify(new, now=NOW) == grant()
    assert after.verify(old, now=NOW) is None


def test_what_the_same_secret_signed_for_another_purpose_is_no_token() -> None:
    other = URLSafeSerializer(NEW, salt="session").dumps([1, "a", NOW + 9, ["view"], ""])
    assert Secrets([NEW]).verify(str(other), now=NOW) is None


def test_a_token_is_short_enough_for_a_link_and_has_only_what_links_may_have() -> None:
    full = Grant(task_id="f" * 44, expires=NOW, actions=frozenset(Action), label="x" * 500)
    token = Secrets([NEW]).sign(full)
    assert len(token) < 500
    assert token.replace(".", "").replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("secrets", [[], [b""], ["short"], [NEW, "x" * 31]])
def test_a_secret_that_could_be_guessed_is_refused_with_the_remedy(
    secrets: list[str | bytes],
) -> None:
    with pytest.raises(ConfigurationError, match=r"secrets.token_hex\(32\)"):
        Secrets(secrets)


def test_a_secret_outside_of_a_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"secrets=\[SECRET\]"):
        Secrets(NEW)
