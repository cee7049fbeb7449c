"""What holds for every file of this repository, checked by reading it."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "tests", "docs", "examples", "benchmarks")


def lines(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """Each line with where it stands."""
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(ROOT)}:{number}", line


def written(*folders: str, suffix: str = "") -> list[Path]:
    """The text files of *folders*, without what running them leaves behind."""
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob(f"*{suffix}")
        if path.is_file() and path.suffix not in {".pyc", ".png"} and path.name != "py.typed"
    )


RULES = re.compile(r":\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*|\[[A-Za-z-]+(,\s*[A-Za-z-]+)*\]")


def test_every_exception_to_a_lint_rule_names_the_rule_and_its_reason() -> None:
    bare = []
    sources = [path for path in written(*FOLDERS, suffix=".py") if path != Path(__file__)]
    for where, line in lines(sources):
        for mark in ("# noqa", "# type: ignore", "# pyright: ignore"):
            _, found, after = line.partition(mark)
            rules = RULES.match(after) if found else None
            reason = after[rules.end() :].strip(" #-:()") if rules else ""
            if found and len(reason.split()) < 2:
                bare.append(f"{where}: {line.strip()}")
    assert bare == []


def test_every_lint_rule_switched_off_in_pyproject_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lint = text[text.index("[tool.ruff.lint]\n") : text.index("[tool.ruff.lint.mccabe]")]
    entries = re.findall(r'^ +("[A-Z]+[0-9]*".*)$', lint[lint.index("ignore = [") :], re.MULTILINE)
    parsed = tomllib.loads(text)["tool"]["ruff"]["lint"]
    assert len(entries) == len(parsed["ignore"]) + sum(
        len(rules) for rules in parsed["per-file-ignores"].values()
    )
    assert [entry for entry in entries if not re.fullmatch(r'"\w+",\s+# \S.*', entry)] == []


def test_no_path_of_somebodys_home_is_written_down() -> None:
    homes = re.compile(r"(?<![\w.])/(?:home|Users|root)" + r"/\w")
    pages = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml"}]
    found = [where for where, line in lines([*written(*FOLDERS), *pages]) if homes.search(line)]
    assert found == []


UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
"""Reading what these wrote runs code of the writer's choice."""

UNSAFE_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load"}


def unsafe(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from {alias.name.partition(".")[0] for alias in names} & UNSAFE_MODULES
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in UNSAFE_MODULES:
                yield module
            case ast.Call(func=func, keywords=keywords):
                if ast.unparse(func) in UNSAFE_CALLS:
                    yield ast.unparse(func)
                if any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in keywords):
                    yield f"shell=True at line {node.lineno}"
            case _:
                pass


def test_no_source_file_unpickles_evaluates_or_starts_a_shell() -> None:
    found = {
        str(path.relative_to(ROOT)): sorted(unsafe(path.read_text(encoding="utf-8")))
        for path in written("src", suffix=".py")
    }
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from marshal import loads", "eval(text)", "os.system(command)",
        "yaml.load(text)", "subprocess.run(command, shell=True)",
    ],
)  # fmt: skip
def test_the_search_for_unsafe_calls_finds_them(line: str) -> None:
    assert len(list(unsafe(line))) == 1


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").strip().splitlines()[-1] == "exec make test"
    assert "\nmake test" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_make_target_the_pages_name_is_there_and_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    explained = set(re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE))
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    named = {
        target
        for page in pages
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert named <= explained
