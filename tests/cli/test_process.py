"""The command line as a process: what scripts and terminals see."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from acked.broker import Engine, WorkerRecord
from acked.cli.processes import task_pids
from acked.cli.root import root
from acked.delivery import State
from acked.message import Message
from tests.cli.conftest import Acked
from tests.cli.scenario import IDS, fill


@pytest.fixture
def filled(store: Engine) -> Engine:
    fill(store, time.time() - 10)
    return store


@pytest.mark.parametrize("args", [("--version",), ("version",)])
def test_the_version_is_told(shell: Acked, args: tuple[str, ...]) -> None:
    ended = shell(*args)
    assert ended.code == 0
    assert ended.out.startswith(f"acked {version('acked')}")


def test_help_shows_the_exit_codes(shell: Acked) -> None:
    ended = shell("--help")
    assert ended.code == 0
    for line in ("  0    done", "  3    the broker is away", "  4    no such task or queue"):
        assert line in ended.out


@pytest.mark.parametrize("command", sorted(root.commands))
def test_every_command_explains_itself_and_shows_an_example(acked: Acked, command: str) -> None:
    ended = acked(command, "--help")
    assert ended.code == 0
    assert "Example" in ended.out or command == "version"


def test_an_unknown_command_or_option_is_one_line(shell: Acked) -> None:
    for args in (("wrok",), ("list", "--colour")):
        ended = shell(*args)
        assert ended.code == 2
        assert ended.err.startswith("acked: ")
        assert len(ended.err.splitlines()) == 1


@pytest.mark.usefixtures("filled")
def test_the_app_is_given_before_or_after_the_command_or_by_the_environment(shell: Acked) -> None:
    ways = [
        shell("-A", "shop:app", "list", "--json"),
        shell("list", "-A", "shop:app", "--json"),
        shell("list", "shop:app", "--json"),
        shell("list", "--json", ACKED_APP="shop:app"),
    ]
    assert [way.code for way in ways] == [0, 0, 0, 0]
    assert len({way.out for way in ways}) == 1
    assert len(json.loads(ways[0].out)) == len(IDS)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "args",
    [
        ("show", "shop:app", IDS["failed"]),
        ("retry", "shop:app", IDS["failed"]),
        ("revoke", "shop:app", IDS["waiting"], IDS["retrying"]),
        ("purge", "shop:app", "--all", "--yes"),
        ("pause", "shop:app", "mails"),
    ],
)
def test_the_app_may_be_the_first_argument_of_commands_that_take_ids_or_names(
    shell: Acked, args: tuple[str, ...]
) -> None:
    assert shell(*args).code == 0


@pytest.mark.usefixtures("shop")
def test_an_id_with_a_colon_is_an_id_wherever_something_else_says_where_the_tasks_are(
    shell: Acked, store: Engine
) -> None:
    store.send([Message(id="order:17", task="shop.scan")])
    for ended in (
        shell("show", "order:17", ACKED_APP="shop:app"),
        shell("show", "order:17", ACKED_BROKER_URL=store.url),
        shell("-A", "shop:app", "show", "order:17", "--json"),
        shell("show", "order:17", "-b", store.url, "--json"),
        shell("revoke", "shop:app", "order:17", "order:17"),
    ):
        assert ended.code == 0, ended.err
    lost = shell("show", "order:17")
    assert "no app and no broker given" in lost.err


@pytest.mark.usefixtures("filled")
def test_what_an_app_prints_while_it_is_imported_is_no_output(shell: Acked) -> None:
    ended = shell("-A", "shop:app", "status", "--json")
    json.loads(ended.out)
    assert "imported" in ended.err


@pytest.mark.usefixtures("filled")
def test_with_the_app_positional_arguments_are_hidden_by_their_parameters_names(
    shell: Acked,
) -> None:
    told = json.loads(shell("-A", "shop:app", "show", IDS["failed"], "--json").out)
    assert told["args"] == ["bob", "***"]


@pytest.mark.usefixtures("filled")
def test_the_doctor_looks_at_the_apps_tasks(shell: Acked) -> None:
    ended = shell("doctor", "shop:app")
    assert ended.code == 1
    assert "ok\ttasks\t2 registered" in ended.out
    assert "info\tat most once\tshop.mail" in ended.out
    assert "fail\tqueues\tno worker consumes 'mails': 1 waiting task" in ended.out


def test_the_doctor_is_content_with_a_fresh_file(shell: Acked, path: Path) -> None:
    assert not path.exists()
    ended = shell("doctor", "shop:app")
    assert (ended.code, ended.err) == (0, "imported\n")
    assert "fail" not in ended.out
    assert "ok\tbroker\t" in ended.out


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    "command",
    [("status",), ("list",), ("ping",), ("show", "a"), ("retry", "a"), ("revoke", "a"),
     ("discard", "a"), ("resume", "mails")],
    ids=" ".join,
)  # fmt: skip
def test_who_looks_at_an_apps_tasks_does_not_make_their_file(
    shell: Acked, path: Path, command: tuple[str, ...]
) -> None:
    ended = shell("-A", "shop:app", *command)
    assert ended.code == 3
    said = f"acked: there is no file {path}: correct the URL, unless nothing was sent there yet"
    assert said in ended.err.splitlines()
    assert not path.exists()


@pytest.mark.parametrize("command", [("pause", "mails"), ("purge", "--all", "--yes")])
def test_what_is_useful_before_the_first_task_needs_no_file(
    shell: Acked, path: Path, command: tuple[str, ...]
) -> None:
    assert not path.exists()
    assert shell("-A", "shop:app", *command).code == 0


@pytest.mark.parametrize("target", ["nothing_there:app", "shop:nothing_there", "broken:app"])
def test_the_doctor_says_why_an_app_cannot_be_imported(
    shell: Acked, shop: Path, target: str
) -> None:
    (shop / "broken.py").write_text("raise RuntimeError('password=canary')")
    ended = shell("doctor", target)
    assert ended.code == 1
    assert "fail\tapp\t" in ended.out
    assert "canary" not in ended.out
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", ["status", "list"])
def test_an_app_that_cannot_be_imported_is_one_line(shell: Acked, command: str) -> None:
    ended = shell("-A", "nothing_there:app", command)
    assert ended.code != 0
    assert len(ended.err.splitlines()) == 1
    assert "nothing_there" in ended.err


def test_debugging_shows_the_traceback(shell: Acked) -> None:
    ended = shell("-A", "nothing_there:app", "status", ACKED_DEBUG="1")
    assert "Traceback (most recent call last)" in ended.err


def test_a_reader_that_has_seen_enough_is_no_error(store: Engine, path: Path) -> None:
    store.send([Message(id=f"task-number-{number}", task="t") for number in range(5_000)])
    command = f"{sys.executable} -m acked --broker sqlite:///{path} list --limit 5000 | head -1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("id\ttask")


def test_a_closed_standard_output_is_no_error(store: Engine, path: Path) -> None:
    command = f"{sys.executable} -m acked --broker sqlite:///{path} status >&-"
    ended = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@contextlib.contextmanager
def on_terminal(*args: str) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    """`acked` on a terminal of 120 columns: its process, and our end of the terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    # A run in the background of a shell has it ignored, and would hand that down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "acked", *args],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read(terminal: int, until: bytes | None = None) -> str:
    """What is written on the terminal, until it says *until* or is closed."""
    output = b""
    while until is None or until not in output:
        try:
            output += os.read(terminal, 65_536)
        except OSError:  # how Linux tells that the other side is gone
            break
    return output.decode()


def test_on_a_terminal_output_is_drawn_and_coloured(filled: Engine) -> None:
    with on_terminal("--broker", filled.url, "list") as (process, terminal):
        text = read(terminal)
        assert process.wait() == 0
    assert "\x1b[" in text
    assert "─" in text
    assert "failed______" in text
    assert IDS["failed"] not in text


@pytest.mark.parametrize(("answer", "left", "code"), [(b"n\n", 1, 1), (b"y\n", 0, 0)])
def test_on_a_terminal_a_purge_asks_first(
    filled: Engine, answer: bytes, left: int, code: int
) -> None:
    command = ("--broker", filled.url, "purge", "--queue", "mails")
    with on_terminal(*command) as (process, terminal):
        assert "Delete 1 waiting task of" in read(terminal, b"[y/N]")
        os.write(terminal, answer)
        read(terminal)
        assert process.wait() == code
    assert {each.queue: each.queued for each in filled.counts()}.get("mails", 0) == left


def test_watching_goes_on_until_interrupted(filled: Engine) -> None:
    with on_terminal("--broker", filled.url, "status", "--watch") as (process, terminal):
        assert "running_____" in read(terminal, b"running_____")
        process.send_signal(signal.SIGINT)
        read(terminal)
        assert process.wait() == 0


def test_a_worker_runs_what_waits_and_ends_when_told_to(shell: Acked, store: Engine) -> None:
    arguments = Raw(b'["bob","password=canary"]')
    store.send([Message(id="run-in-a-burst", task="shop.scan", args=arguments)])
    ended = shell(
        "-A", "shop:app", "worker", "--burst", "-Q", "default,mails", "-c", "1", "-l", "INFO",
        "--log-format", "json",
    )  # fmt: skip
    assert ended.code == 0
    record = store.get("run-in-a-burst")
    assert record is not None
    assert (record.state, record.result) == (State.SUCCESS, b"1")
    lines = [json.loads(line) for line in ended.err.splitlines()]
    assert "run-in-a-burst" in [line.get("task_id") for line in lines]
    assert "canary" not in ended.err


def test_the_task_processes_of_a_worker_of_this_host_are_named(
    shell: Acked, shop: Path, store: Engine
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "acked", "worker", "shop:app", "-c", "2"],
        cwd=shop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        workers: list[WorkerRecord] = []
        pids: list[int] = []
        while len(pids) < 2 and time.monotonic() < deadline:
            workers = store.workers()
            pids = task_pids(workers[0]) if workers else []
            time.sleep(0.05)  # leaves the processor to those it waits for
        assert len(set(pids)) == 2
        assert process.pid not in pids
        (seen,) = json.loads(shell("-A", "shop:app", "status", "--json").out)["workers"]
        assert (seen["pid"], seen["task_pids"]) == (process.pid, pids)
        elsewhere = msgspec.structs.replace(workers[0], host="another-host")
        assert task_pids(elsewhere) == []
    finally:
        process.terminate()
        process.wait(30)


def test_a_worker_whose_app_cannot_be_imported_says_so_in_one_line(shell: Acked) -> None:
    ended = shell("worker", "nothing_there:app")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert "nothing_there" in ended.err


def test_a_worker_whose_app_has_no_tasks_warns_and_names_the_remedy(
    shell: Acked, shop: Path, path: Path
) -> None:
    app = f'from acked import Acked\napp = Acked("empty", broker="sqlite:///{path}")\n'
    (shop / "empty.py").write_text(app)
    ended = shell("worker", "empty:app", "--burst", "-c", "1")
    assert ended.code == 0
    (said,) = [line for line in ended.err.splitlines() if " WARNING " in line]
    assert "app empty has no tasks: name the module that defines them" in said
