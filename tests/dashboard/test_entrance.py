"""Who gets in: passwords, users, sessions, and how often one may guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from acked.dashboard import Action, Users, hash_password
from acked.dashboard.entering import inside
from acked.dashboard.passwords import is_hash, verify
from acked.dashboard.sessions import MOST, Sessions
from acked.dashboard.throttle import PER_NAME_AND_ADDRESS, WINDOW, Throttle
from acked.errors import ConfigurationError

PASSWORD = "correct horse battery"  # noqa: S105 - of nobody
HASH = hash_password(PASSWORD)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_password_is_known_by_its_hash_alone() -> None:
    assert is_hash(HASH)
    assert PASSWORD not in HASH
    assert verify(PASSWORD, HASH)
    assert not verify(PASSWORD + " ", HASH)
    assert not verify("", HASH)
    assert not verify(PASSWORD, None)
    assert not verify("x" * 2_000, HASH)
    assert hash_password(PASSWORD) != HASH  # salted


@pytest.mark.parametrize(
    "text",
    ["", "plain", "scrypt$1$8$1$AAAA$AAAA", "scrypt$99999999$8$1$AAAA$AAAA", "scrypt$a$b$c$d$e",
     HASH[:-1], HASH.replace("scrypt", "md5"), HASH + "!"],
    ids=["empty", "plain", "cheap", "dear", "no numbers", "cut", "another method", "longer"],
)  # fmt: skip
def test_what_is_no_hash_lets_nobody_in(text: str) -> None:
    assert not is_hash(text)
    assert not verify("", text)
    assert not verify(PASSWORD, text)


def test_a_short_password_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="10 to 1000 characters"):
        hash_password("short")


def test_users_have_the_rights_of_their_role_and_viewer_is_the_least() -> None:
    users = Users(
        {"ada": HASH, "bob": HASH, "eve": HASH}, {"ada": "operator", "eve": ["retry"]}
    )  # fmt: skip
    found = [users.find(name) for name in ("ada", "bob", "eve", "nobody")]
    assert [each and each.actions for each in found] == [
        frozenset(Action), {Action.VIEW}, {Action.VIEW, Action.RETRY}, None,
    ]  # fmt: skip
    assert users.check("ada", PASSWORD) == found[0]
    assert users.check("ada", "wrong password") is None
    assert users.check("nobody", PASSWORD) is None


@pytest.mark.parametrize(
    ("hashes", "roles", "said"),
    [
        ({}, {}, "nobody"), ({"ada": PASSWORD}, {}, "no hash"), ({"a:b": HASH}, {}, "colon"),
        ({"ada": HASH}, {"bob": "viewer"}, "'bob'"), ({"ada": HASH}, {"ada": "root"}, "'root'"),
        ({"ada": HASH}, {"ada": ["fly"]}, "fly"),
    ],
)  # fmt: skip
def test_users_that_cannot_be_are_refused(
    hashes: dict[str, str], roles: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        Users(hashes, roles)
    assert PASSWORD not in str(caught.value)


def test_a_user_file_is_read_and_its_errors_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"# who\n\nada:operator:{HASH}\neve:view,retry:{HASH}\nbob:retry:{HASH}\n")
    file.chmod(0o600)
    users = Users.read(file)
    eve, bob = users.find("eve"), users.find("bob")
    assert eve is not None and eve.actions == {Action.VIEW, Action.RETRY}
    assert bob is not None and bob.actions == eve.actions
    for text, said in (
        (f"ada:{HASH}", "line 1"), ("", "names nobody"), (f"a:viewer:{HASH}\n" * 2, "there twice"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=said):
            Users.read(file)
    file.chmod(0o620)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Users.read(file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Users.read(tmp_path / "nothing")


def test_a_session_ends_when_it_is_idle_too_old_or_ended() -> None:
    clock = Clock()
    sessions = Sessions(idle=100, lifetime=1000, clock=clock)
    secret = sessions.begin("ada")
    assert len(secret) >= 43
    clock.now += 99
    assert sessions.user(secret) == "ada"
    clock.now += 99
    assert sessions.user(secret, used=False) == "ada"
    clock.now += 2  # refreshing did not prolong it
    assert sessions.user(secret) is None
    busy = sessions.begin("ada")
    for _ in range(12):
        clock.now += 90
        last = sessions.user(busy)
    assert last is None
    ended = sessions.begin("ada")
    sessions.end(ended)
    assert sessions.user(ended) is None
    assert sessions.user(None) is None
    assert sessions.user("\ud800") is None


def test_there_is_an_end_to_the_sessions_that_are_kept() -> None:
    clock = Clock()
    sessions = Sessions(clock=clock)
    first = sessions.begin("ada")
    for _ in range(MOST):
        clock.now += 0.001
        last = sessions.begin("bob")
    assert sessions.user(first) is None
    assert sessions.user(last) == "bob"


def test_guessing_is_slowed_down_without_locking_others_out() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(PER_NAME_AND_ADDRESS):
        assert throttle.wait("ada", "10.0.0.1") == 0
        throttle.failed("ada", "10.0.0.1")
    assert throttle.wait("ada", "10.0.0.1") == WINDOW
    assert throttle.wait("ada", "10.0.0.2") == 0
    assert throttle.wait("bob", "10.0.0.1") == 0
    clock.now += WINDOW
    assert throttle.wait("ada", "10.0.0.1") == 0


def test_one_address_cannot_try_many_names() -> None:
    throttle = Throttle(Clock())
    for number in range(20):
        throttle.failed(f"user{number}", "10.0.0.1")
    assert throttle.wait("another", "10.0.0.1") > 0


@pytest.mark.parametrize(
    ("path", "led_to"),
    [
        ("/", "/"), ("/tasks?state=FAILURE&error=did+not", "/tasks?state=FAILURE&error=did+not"),
        ("//evil.example/x", "/"), ("https://evil.example", "/"), ("/\\evil.example", "/"),
        ("/x\r\nset-cookie: a=b", "/"), ("", "/"), ("/" + "x" * 3_000, "/"), ("javascript:1", "/"),
    ],
)  # fmt: skip
def test_a_login_leads_nowhere_but_to_the_dashboard(path: str, led_to: str) -> None:
    assert inside(path) == led_to
