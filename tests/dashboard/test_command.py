"""`acked dashboard`: what it refuses, what it prints, and that it serves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from acked import cli
from acked.dashboard import hash_password
from acked.dashboard.passwords import is_hash
from tests.harness.workers import ROOT, until
from tests.pages.conftest import answers
from tests.servers.server import free_port

HASH = hash_password("correct horse battery")


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/shop.db"
    for name in ("ACKED_DASHBOARD_USERS", "ACKED_METRICS_TOKEN", "ACKED_APP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DASHBOARD_BROKER", url)
    return url


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "would let everybody in"),  # noqa: S104 - which is refused
        (["--host", "::"], "would let everybody in"),
        (["--host", "shop.example"], "would let everybody in"),
        (["--metrics-port", "9", "--metrics-host", "0.0.0.0"], "ACKED_METRICS_TOKEN"),  # noqa: S104 - as above
        (["--users", "/nowhere/users"], "cannot be read"),
        (["--trust-proxy", "10.0.0.7"], "--users FILE"),
    ],
)
def test_what_would_let_anybody_in_is_refused_with_the_remedy(
    broker: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["dashboard", "tests.dashboard.shop:app", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("proxy.example", "'proxy.example' does not appear to be"), ("*", "'*'"),
        ("10.0.0.7/24", "10.0.0.7/24 has host bits set"), ("0.0.0.0/0", "everybody"),
        ("::/0", "everybody"),
    ],
)  # fmt: skip
def test_a_proxy_that_cannot_be_one_is_refused(
    broker: str, given: str, said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("ACKED_DASHBOARD_USERS", f"ada:operator:{HASH}")
    options = ["--trust-proxy", "10.0.0.8", "--trust-proxy", given]
    assert cli.run(["dashboard", "tests.dashboard.shop:app", *options]) == 2
    assert said in capsys.readouterr().err


class From(requests.adapters.HTTPAdapter):
    """Requests that come from another address of this host."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, source_address=(self._address, 0), **options)


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_what_a_trusted_proxy_says_of_its_visitor_is_believed_and_of_no_other(
    broker: str, tmp_path: Path, host: str
) -> None:
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "acked", "dashboard", "tests.dashboard.shop:app", "--port",
             str(port), "--host", host, "--trust-proxy", "127.0.0.2", "--trust-proxy",
             "127.1.0.0/16"],
            cwd=ROOT, env={**os.environ, "ACKED_DASHBOARD_USERS": f"ada:operator:{HASH}"},
            stdout=out, stderr=out,
        )  # fmt: skip
    secure = {}
    try:
        until(lambda: answers(port), what="it to answer")
        for number, proxy in enumerate(("127.0.0.2", "127.1.2.3", "127.0.0.3")):
            session = requests.Session()
            session.mount("http://", From(proxy))
            session.headers.update({
                "host": "ops.example", "origin": "https://ops.example",
                "x-forwarded-for": f"192.0.2.{number}", "x-forwarded-proto": "https",
            })  # fmt: skip
            page = session.get(f"http://127.0.0.1:{port}/login", timeout=20)
            cookie = page.headers["set-cookie"]
            secure[proxy] = (
                cookie.startswith("__Host-") and "Secure" in cookie,
                "strict-transport-security" in page.headers,
            )
            token = re.search(r'name="token" value="(\w+)"', page.text)
            assert token is not None
            session.post(
                f"http://127.0.0.1:{port}/login", timeout=20, allow_redirects=False,
                data={"name": "ada", "password": "wrong password", "token": token[1]},
                headers={"cookie": cookie.partition(";")[0]},
            )  # fmt: skip
    finally:
        process.terminate()
        process.wait(10)
    assert secure == {
        "127.0.0.2": (True, True), "127.1.2.3": (True, True), "127.0.0.3": (False, False),
    }  # fmt: skip
    lines = re.findall(r"acked\.audit: (.*)", log.read_text())
    assert [json.loads(line)["outcome"] for line in lines] == ["refused: wrong"] * 3
    sources = [json.loads(line)["source"].removeprefix("::ffff:") for line in lines]
    assert sources == ["192.0.2.0", "192.0.2.1", "127.0.0.3"]


def test_wrong_users_in_the_environment_are_refused(
    broker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACKED_DASHBOARD_USERS", "ada:operator:plain-text-password")
    assert cli.run(["dashboard", "tests.dashboard.shop:app"]) == 2
    said = capsys.readouterr().err
    assert "is no hash" in said
    assert "plain-text-password" not in said


def test_a_line_for_a_user_is_made_without_showing_the_password() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "acked", "dashboard", "--make-password"], cwd=ROOT, text=True,
        input="ada\noperator\ncorrect horse battery\ncorrect horse battery\n",
        capture_output=True, check=True,
    )  # fmt: skip
    name, role, kept = ended.stdout.strip().split(":")
    assert (name, role) == ("ada", "operator")
    assert is_hash(kept)
    assert "correct horse" not in ended.stdout + ended.stderr


def get(url: str, **headers: str) -> tuple[int, str]:
    answer = requests.get(url, headers=headers, timeout=10)
    return answer.status_code, answer.text


def test_it_serves_pages_and_metrics_and_ends_when_told(broker: str, tmp_path: Path) -> None:
    port, metrics_port = free_port(), free_port()
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "acked", "dashboard", "tests.dashboard.shop:app", "--port",
             str(port), "--metrics-port", str(metrics_port)],
            cwd=ROOT, env={**os.environ}, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(lambda: answers(port) and answers(metrics_port), what="both to answer")
        status, page = get(f"http://127.0.0.1:{port}/")
        assert status == 200
        assert "Overview" in page
        assert get(f"http://127.0.0.1:{port}/", host="evil.example")[0] == 403
        assert get(f"http://127.0.0.1:{port}/metrics")[0] == 404
        assert "acked_workers 0.0" in get(f"http://127.0.0.1:{metrics_port}/metrics")[1]
        assert get(f"http://127.0.0.1:{metrics_port}/healthz") == (200, "ok\n")
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(10)
    assert code in {0, -signal.SIGTERM}
    said = log.read_text()
    assert f"dashboard on http://127.0.0.1:{port}/" in said
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_told(broker: str, tmp_path: Path) -> None:
    import socket  # noqa: PLC0415 - only here

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "acked", "dashboard", "tests.dashboard.shop:app",
             "--port", port], cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 3
    assert "cannot listen on 127.0.0.1 port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broker_without_its_application_can_be_shown(broker: str) -> None:
    from acked.brokers.sqlite import SQLiteBroker  # noqa: PLC0415 - only here

    store = SQLiteBroker(Path(broker.removeprefix("sqlite:///")))
    store.setup()
    store.close()
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "acked", "dashboard", "--broker", broker, "--port", str(port)],
        cwd=ROOT, env={**os.environ}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: answers(port), what="it to answer")
        assert "has no tasks" in get(f"http://127.0.0.1:{port}/registered")[1]
    finally:
        process.terminate()
        process.wait(10)
