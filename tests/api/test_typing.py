"""The types are what a user writes: both checkers take what is right and refuse what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

FILES = Path(__file__).parent / "typing"


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stderr + done.stdout
    return done.stdout


def mypy(directory: Path) -> dict[str, set[int]]:
    """The lines of each file that mypy refuses."""
    said = run("mypy", "--strict", "--cache-dir", "cache", ".", cwd=directory)
    refused: defaultdict[str, set[int]] = defaultdict(set)
    for name, line in re.findall(r"^([^:\n]+):(\d+): error:", said, re.MULTILINE):
        refused[name].add(int(line))
    return refused


def pyright(directory: Path) -> dict[str, set[int]]:
    """The lines of each file that pyright refuses."""
    said = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, cwd=directory))
    assert said["summary"]["filesAnalyzed"] == 2
    refused: defaultdict[str, set[int]] = defaultdict(set)
    for found in said["generalDiagnostics"]:
        refused[Path(found["file"]).name].add(found["range"]["start"]["line"] + 1)
    return refused


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_right_calls_pass_and_wrong_ones_do_not(
    checker: Callable[[Path], dict[str, set[int]]], tmp_path: Path
) -> None:
    # Away from the settings of this project.
    shutil.copytree(FILES, tmp_path / "calls", ignore=shutil.ignore_patterns("__*__*"))
    refused = checker(tmp_path / "calls")
    wrong = (FILES / "wrong.py").read_text().splitlines()
    marked = {number for number, line in enumerate(wrong, start=1) if line.endswith("# wrong")}
    assert len(marked) > 20
    assert refused == {"wrong.py": marked}
