"""The demo in short: it says that all is well when it is, and only then."""

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "run.py"


def run_demo(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(DEMO), *options], capture_output=True, text=True, timeout=110,
        check=False,
    )  # fmt: skip


@pytest.mark.chaos
def test_every_task_ends_with_the_right_result_though_their_processes_are_killed():
    ended = run_demo("--tasks", "40", "--kills", "5", "--timeout", "90")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "nothing lost" in ended.stdout
    assert "PROBLEM" not in ended.stdout


def test_a_run_in_which_nothing_was_killed_proves_nothing_and_fails():
    ended = run_demo("--tasks", "8", "--kills", "0", "--timeout", "60")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "nothing is proven" in ended.stdout


def test_a_run_that_did_not_finish_in_its_time_fails_and_names_the_tasks():
    ended = run_demo("--tasks", "8", "--kills", "0", "--timeout", "0")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "/site/0" in ended.stdout
    assert "nothing lost" not in ended.stdout
