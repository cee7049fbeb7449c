"""The pages say what is so: their examples run, their links lead somewhere, their names exist."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import json
import keyword
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
import pytest

from acked.calling import MEANINGLESS
from acked.cli import celery_hints
from acked.cli.root import root as command_line
from acked.instead import (
    FAMILIES,
    MEANINGLESS_SETTINGS,
    OF_A_RESULT,
    OF_A_SIGNATURE,
    OF_A_TASK,
    OF_AN_APPLICATION,
    OF_THE_PACKAGE,
    OF_THE_SIGNALS,
)
from acked.options import MEANINGLESS_OPTIONS
from tests.harness.workers import until

ROOT = Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


class Block(NamedTuple):
    """One fenced block: where its first line stands, and the reason it is not run, if any."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def module(self) -> str:
        """The file that the block says it is, in its first line: ``# shop.py``."""
        named = re.match(r"# (\w+)\.py$", self.text.partition("\n")[0])
        return named[1] if named else ""


def blocks(page: Path, *languages: str) -> list[Block]:
    found, reason = [], ""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if opened := re.match(r"^(\s*)```(\w*)$", line):
            body = []
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                body.append(inner.removeprefix(opened[1]))
            if opened[2] in languages:
                found.append(Block(page, number + 1, opened[2], "\n".join(body), reason))
        if line.strip():
            marked = re.match(r"<!-- not run: (.+) -->", line)
            reason = marked[1] if marked else ""
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks and comments."""
    text = re.sub(
        r"^(\s*)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# -- the diagram -----------------------------------------------------------------------------------


def generator() -> ModuleType:
    path = ROOT / "docs" / "generate_diagram.py"
    spec = importlib.util.spec_from_file_location("generate_diagram", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_states_and_layers_are_drawn_as_the_code_has_them() -> None:
    page = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
    assert page == generator().redrawn(page), "run: make format"


# -- examples -------------------------------------------------------------------------------------

EXAMPLES = [block for page in PAGES for block in blocks(page, "python")]
TAUGHT = sorted({block.page for block in EXAMPLES} - {README})

PREAMBLE = """\
from acked import Acked
app = Acked("docs", broker="memory://")
"""


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.where)
def test_every_example_is_python(block: Block) -> None:
    ast.parse(block.text, filename=block.where)


@pytest.mark.parametrize("page", TAUGHT, ids=name)
def test_the_examples_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    program = PREAMBLE.splitlines()
    for block in blocks(page, "python"):
        if block.not_run:
            continue
        # Each line stands where it stands in the page, so that a traceback names the right one.
        program += [""] * (block.line - 1 - len(program)) + block.text.splitlines()
    script = tmp_path / f"{page.stem.replace('-', '_')}_examples.py"
    script.write_text("\n".join(program), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, "ACKED_BROKER_URL": "memory://"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_the_examples_satisfy_a_strict_type_checker(tmp_path: Path) -> None:
    for page in PAGES:
        program = PREAMBLE.splitlines()
        for block in blocks(page, "python"):
            if block.module:
                (tmp_path / f"{block.module}.py").write_text(block.text, encoding="utf-8")
            elif not block.not_run:
                program += [""] * (block.line - 1 - len(program)) + block.text.splitlines()
        script = tmp_path / f"{page.stem.replace('-', '_').lower()}_examples.py"
        script.write_text("\n".join(program), encoding="utf-8")
    # An example may call what it does not define (`draw(scene)`), whose type is not known then, and
    # may define what an earlier one of its page did.
    allowed = ("name-defined", "no-any-return", "no-redef")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports",
         *(f"--disable-error-code={code}" for code in allowed), "."],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def is_task(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
        re.match(r"app\.task\b", ast.unparse(each)) for each in node.decorator_list
    )


@pytest.mark.parametrize("page", TAUGHT, ids=name)
def test_a_task_that_a_page_sends_by_name_is_one_it_defines(page: Path) -> None:
    defined, sent = set(), set()
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block.text)):
            match node:
                case ast.FunctionDef(name=task) | ast.AsyncFunctionDef(name=task) if is_task(node):
                    defined.add(f"{block.module}.{task}")
                case ast.Call(
                    func=ast.Attribute(attr="send_task" | "asend_task"),
                    args=[ast.Constant(value=str(task)), *_],
                ):
                    sent.add(task)
                case _:
                    pass
    assert sent <= defined


def kill_as_written(text: str, *, cwd: Path, environment: dict[str, str]) -> None:
    """``acked status`` tells a process, and ``kill -9 PID`` ends it."""
    look, kill = text.splitlines()
    assert kill == "kill -9 PID"
    shown = subprocess.run(
        [*shlex.split(look), "--json"], cwd=cwd, env=environment, text=True, capture_output=True,
        timeout=60, check=True,
    )  # fmt: skip
    (pid,) = [pid for each in json.loads(shown.stdout)["workers"] for pid in each["task_pids"]]
    os.kill(pid, signal.SIGKILL)


def story_of(task: str, *, cwd: Path, environment: dict[str, str]) -> dict[str, Any]:
    shown = subprocess.run(
        ["acked", "-A", "shop:app", "show", task, "--json"], cwd=cwd, env=environment, text=True,
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


@pytest.mark.timeout(180)
def test_the_five_minute_start_works_as_written(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("ACKED_BROKER_URL", None)
    worker: subprocess.Popen[bytes] | None = None
    started: list[str] = []
    said: list[str] = []

    def stop() -> None:
        if worker is not None:
            worker.terminate()
            # Told to stop while it is still importing, it ends by the signal itself.
            assert worker.wait(60) in {0, -signal.SIGTERM}

    def state(task: str) -> str:
        return str(story_of(task, cwd=tmp_path, environment=environment)["state"])

    try:
        for block in blocks(README, "python", "sh"):
            if block.not_run:
                continue
            if block.module:
                (tmp_path / f"{block.module}.py").write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                script = tmp_path / "console.py"
                script.write_text(block.text, encoding="utf-8")
                run = subprocess.run(
                    [sys.executable, script.name], cwd=tmp_path, env=environment, text=True,
                    capture_output=True, timeout=60, check=False,
                )  # fmt: skip
                assert run.returncode == 0, f"{block.where}: {run.stderr}"
                expected = re.findall(r"^print\(.*?#\s*(.*)$", block.text, re.MULTILINE)
                assert run.stdout.splitlines() == expected, block.where
                said += expected
            elif block.text.startswith("acked worker"):
                stop()
                worker = subprocess.Popen(shlex.split(block.text), cwd=tmp_path, env=environment)
                started.append(block.text)
            elif "kill -9 PID" in block.text:
                until(lambda: state("first-nap") == "RUNNING", within=60)
                kill_as_written(block.text, cwd=tmp_path, environment=environment)
                until(lambda: state("first-nap") == "SUCCESS", within=60)
            elif block.text.startswith("acked "):
                for line in block.text.splitlines():
                    run = subprocess.run(
                        shlex.split(line, comments=True), cwd=tmp_path, env=environment,
                        capture_output=True, text=True, timeout=60, check=False,
                    )  # fmt: skip
                    assert run.returncode == 0, f"{block.where}: {line}: {run.stderr}{run.stdout}"
        nap = story_of("first-nap", cwd=tmp_path, environment=environment)
        assert [attempt["ended_by"] for attempt in nap["attempts"]] == ["lost", "success"]
    finally:
        stop()
    assert len(started) == 3
    assert said


# -- links ----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors that headings make, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


# -- names ----------------------------------------------------------------------------------------


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every ``acked ...`` that a page tells its reader to type."""
    for page in PAGES:
        fenced = [block.text for block in blocks(page, "sh")]
        inline = re.findall(r"`(acked [^`]+)`", prose(page))
        for text in [*fenced, *inline]:
            for line in text.splitlines():
                words = shlex.split(line.partition(" >> ")[0], comments=True)
                if words[:1] == ["acked"] and "..." not in words:
                    yield f"{name(page)}: {line.strip()}", words[1:]


def commands() -> dict[str, click.Command]:
    assert isinstance(command_line, click.Group)
    with click.Context(command_line) as context:
        found = {
            n: command_line.get_command(context, n) for n in command_line.list_commands(context)
        }
    return {command: made for command, made in found.items() if made is not None}


@pytest.mark.parametrize(("where", "words"), list(command_lines()))
def test_every_command_line_of_the_pages_is_one_the_program_takes(
    where: str, words: list[str]
) -> None:
    try:
        with command_line.make_context("acked", list(words)) as context:
            _, command, rest = command_line.resolve_command(context, context._protected_args)
            if command is not None and (rest or context.args):
                command.make_context(command.name, [*rest, *context.args], parent=context)
    except click.exceptions.Exit:
        pass  # --help and --version
    except click.ClickException as error:
        pytest.fail(f"{where}: {error.format_message()}")


def options() -> set[str]:
    parameters = [p for command in [command_line, *commands().values()] for p in command.params]
    named = {option for p in parameters for option in [*p.opts, *p.secondary_opts]}
    return named | {"--help"}


OTHER_OPTIONS = {"--forwarded-allow-ips", "--preload", "--seconds", "--strict", "--workers"}
"""Options of programs that are not acked, and of its tests that measure."""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_option_the_text_names_exists(page: Path) -> None:
    named = set(re.findall(r"`(?:[^`\n]*\s)?(--[a-z][a-z-]+)", prose(page)))
    assert named - options() - OTHER_OPTIONS - celery_hints.OPTIONS.keys() == set()


CELERY_ALONE = {
    "accept_content", "acks_on_failure_or_timeout", "after_setup_logger",
    "after_setup_task_logger", "autodiscover_tasks", "broker_transport_options",
    "celeryd_after_setup", "celeryd_init", "compression", "delay_on_commit", "EncodeError",
    "control", "current_app", "enable_utc",
    "heartbeat_sent", "import_modules", "inspect", "on_message", "result_backend",
    "result_extended", "result_serializer", "send_events",
    "serializer", "shared_task", "store_errors_even_if_ignored",
    "task_acks_on_failure_or_timeout", "task_default_rate_limit", "task_received",
    "task_serializer", "task_track_started",
    "timezone", "typing", "visibility_timeout", "worker_before_create_process",
    "worker_concurrency", "worker_disable_rate_limits", "worker_max_memory_per_child",
    "worker_max_tasks_per_child", "worker_prefetch_multiplier", "worker_redirect_stdouts",
    "worker_shutting_down", "worker_soft_shutdown_timeout",
}  # fmt: skip
"""Names of Celery that have no counterpart; the pages say so."""

ELSEWHERE = {
    "chaos", "consumer_timeout", "cp", "dbstat", "flushAppendOnlyFile", "helpers", "httpx", "kills",
    "LimitNICE", "Nice", "nice", "SafeString",
    "make", "manager",
    "scan", "scans", "shop", "synchronous_standby_names", "INSERT", "NOTIFY", "ProxyFix", "RPUSH",
    "SSL_CERT_FILE", "UPDATE",
}  # fmt: skip
"""Names of other programs and packages, of pytest's marks, and of what the examples call so."""


def names_of_the_code() -> set[str]:
    found = {*dir(builtins), *keyword.kwlist, *(path.name for path in ROOT.iterdir())}
    found |= MEANINGLESS_SETTINGS.keys() | celery_hints.COMMANDS.keys()
    for path in (ROOT / "src").rglob("*.py"):
        found |= {path.stem, path.parent.name}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text):
                    found.add(text)
                case ast.FunctionDef(name=text) | ast.ClassDef(name=text):
                    found.add(text)
                case ast.AsyncFunctionDef(name=text) | ast.keyword(arg=str(text)):
                    found.add(text)
                case ast.Constant(value=str(text)):
                    found.add(text)
                case ast.alias(name=text):
                    found.update(text.split("."))
                case _:
                    pass
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_name_in_the_text_is_a_name_of_the_code(page: Path) -> None:
    known = names_of_the_code() | CELERY_ALONE | ELSEWHERE
    for block in blocks(page, "python"):
        known |= {n.id for n in ast.walk(ast.parse(block.text)) if isinstance(n, ast.Name)}
    unknown = set()
    for span in re.findall(r"`([^`\n]+)`", prose(page)):
        # A dotted name, perhaps called or given a value; not a sentence, a path or a command.
        shape = re.fullmatch(r"@?([A-Za-z_][\w.]*)(\([^)]*\)|=[^=]*)?", span)
        if shape and not re.search(r"\.(md|toml|py)$", span):
            unknown |= {part for part in shape[1].split(".") if part and part not in known}
    assert not unknown, ", ".join(sorted(unknown))


REFUSED = {
    "an option of a task": MEANINGLESS_OPTIONS,
    "an option of a call": MEANINGLESS.keys() - {"using"},  # which is none of Celery's
    "a setting": MEANINGLESS_SETTINGS,
    "a family of settings": FAMILIES,
    "a name of an application": OF_AN_APPLICATION,
    "a name of the package": OF_THE_PACKAGE,
    "a signal": OF_THE_SIGNALS,
    "a name of a result": OF_A_RESULT,
    "a name of a signature": OF_A_SIGNATURE,
    "a name of a task": OF_A_TASK,
    "a command": celery_hints.COMMANDS,
    "an option of the worker": celery_hints.OPTIONS,
}


@pytest.mark.parametrize("what", REFUSED)
def test_whatever_of_celerys_is_refused_is_told_to_those_who_come_from_it(what: str) -> None:
    spans = " ".join(re.findall(r"`([^`\n]+)`", prose(ROOT / "docs" / "from-celery.md")))
    told = {*re.findall(r"\w+", spans), *re.findall(r"(?<![\w-])--?[\w-]+", spans)}
    assert set(REFUSED[what]) - told == set()
