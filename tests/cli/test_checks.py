"""What the doctor makes of facts."""

from __future__ import annotations

from pathlib import Path

import pytest

from acked.broker import Engine, QueueCounts, WorkerRecord
from acked.cli.checks.finding import Finding
from acked.cli.checks.host import clock_finding, open_files
from acked.cli.checks.queues import check_routes, check_unknown, check_workers
from acked.cli.checks.sqlite_file import (
    check_file,
    file_system_finding,
    mode_finding,
    space_finding,
)
from acked.cli.checks.tasks import TaskFacts, check_tasks
from acked.cli.wording import counted, few
from acked.clock import ManualClock
from acked.delivery import Settlement
from acked.outcome import TaskPolicy, TaskUnknown, decide
from acked.retry import RetryPolicy

NOW = 1_800_000_000.0
PATH = Path("/srv/shop/shop.acked.db")


def worker(*queues: str, lease_left: float = 8.0) -> WorkerRecord:
    return WorkerRecord(
        worker="box.1.a", host="box", pid=1, started=NOW, queues=queues, processes=2,
        lease_left=lease_left, running=0,
    )  # fmt: skip


def levels(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(found.check, found.level) for found in findings]


@pytest.mark.parametrize(
    ("kind", "level"),
    [("ext4", "ok"), ("tmpfs", "warn"), ("overlay", "warn"), ("", "info")],
)
def test_a_file_system_that_forgets_warns(kind: str, level: str) -> None:
    assert file_system_finding(PATH, kind).level == level


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, "ok"), (0o400, "ok"), (0o640, "fail"), (0o604, "fail")]
)
def test_a_file_that_others_can_read_fails(tmp_path: Path, mode: int, level: str) -> None:
    file = tmp_path / "a.db"
    file.touch()
    file.chmod(mode)
    found = mode_finding(file, file.stat())
    assert found.level == level
    assert bool(found.remedy) == (level == "fail")


@pytest.mark.parametrize(
    ("free", "level"), [(10 * 1024**2, "fail"), (200 * 1024**2, "warn"), (10 * 1024**3, "ok")]
)
def test_little_free_space_warns_and_almost_none_fails(free: int, level: str) -> None:
    assert space_finding(PATH, free).level == level


def test_a_real_file_is_checked_in_every_respect(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(mode=0o600)
    found = [finding.check for finding in check_file(path)]
    assert found == ["SQLite", "file system", "file mode", "disk space"]


@pytest.mark.parametrize(
    ("now", "step", "newest", "level"),
    [
        (NOW, 0.0, None, "ok"),
        (NOW, 0.001, NOW - 60, "ok"),
        (NOW, 0.0, NOW + 1, "ok"),
        (0.0, 0.0, None, "warn"),
        (NOW, -3.0, None, "warn"),
        (NOW, 0.0, NOW + 3_600, "warn"),
    ],
)
def test_a_clock_that_is_wrong_warns(
    now: float, step: float, newest: float | None, level: str
) -> None:
    assert clock_finding(now, step=step, newest=newest).level == level


@pytest.mark.parametrize(("soft", "level"), [(256, "warn"), (1024, "info"), (-1, "info")])
def test_a_low_limit_of_open_files_warns(soft: int, level: str) -> None:
    assert open_files(soft, -1).level == level


def facts(name: str = "shop.scan", *, retries_any: bool = False, **policy: object) -> TaskFacts:
    return TaskFacts(name=name, retries_any=retries_any, policy=TaskPolicy(**policy))  # type: ignore[arg-type]  # fields of TaskPolicy


def test_an_ordinary_task_is_ok_and_may_be_repeated() -> None:
    found = list(check_tasks([facts(time_limit=10.0)], grace=25.0))
    assert levels(found) == [("tasks", "ok"), ("repeats", "info")]


def test_tasks_that_may_be_repeated_are_counted_and_the_first_ones_named() -> None:
    tasks = [facts(f"shop.task{number}", time_limit=10.0) for number in range(7)]
    once = facts("shop.once", time_limit=10.0, acks_late=False)
    final = facts("shop.final", time_limit=10.0, reject_on_worker_lost=False)
    _, repeats, *_ = check_tasks([*tasks, once, final], grace=25.0)
    assert repeats.text.startswith("7 tasks may run twice, when a worker is lost: shop.task0, ")
    assert "shop.task4 and 2 more" in repeats.text
    assert "docs/retries.md" in repeats.text
    assert "once" not in repeats.text
    assert "final" not in repeats.text


def test_an_app_without_tasks_warns() -> None:
    assert levels(list(check_tasks([], grace=25.0))) == [("tasks", "warn")]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (facts(), ("time limits", "info")),
        (facts(time_limit=1.0, acks_late=False), ("at most once", "info")),
        (facts(time_limit=1.0, reject_on_worker_lost=False), ("at most once", "info")),
        (facts(soft_time_limit=1.0), ("time limits", "warn")),
        (facts(time_limit=600.0), ("grace", "warn")),
        (
            facts(time_limit=1.0, retries_any=True, retry=RetryPolicy(max_retries=None)),
            ("endless retries", "warn"),
        ),
        (
            facts(time_limit=1.0, retry=RetryPolicy(max_retries=None, delay=0.0)),
            ("hot retries", "warn"),
        ),
    ],
)
def test_options_that_surprise_are_named(task: TaskFacts, expected: tuple[str, str]) -> None:
    first, *others = check_tasks([task], grace=25.0)
    assert first.level == "ok"
    (found,) = [each for each in others if each.check != "repeats"]
    assert (found.check, found.level) == expected
    assert "shop.scan" in found.text


@pytest.mark.parametrize(
    "retry",
    [
        RetryPolicy(max_retries=None, backoff=0.5),
        RetryPolicy(max_retries=None, retry_for=3_600.0),
        RetryPolicy(max_retries=3, delay=0.0),
    ],
)
def test_retries_that_end_or_slow_down_are_ok(retry: RetryPolicy) -> None:
    retries_any = retry.retry_for is not None
    found = check_tasks([facts(time_limit=1.0, retries_any=retries_any, retry=retry)], grace=25.0)
    assert levels(list(found)) == [("tasks", "ok"), ("repeats", "info")]


def test_a_queue_that_waits_without_a_worker_fails() -> None:
    queues = [QueueCounts(queue="mails", queued=3, oldest=NOW - 90)]
    found = list(check_workers([worker("default")], queues, now=NOW))
    assert levels(found) == [("workers", "ok"), ("queues", "fail")]
    assert "'mails': 3 waiting tasks, the oldest 1 min 30 s" in found[1].text
    assert found[1].remedy.endswith("-Q mails")


def test_a_queue_with_a_worker_is_ok() -> None:
    queues = [QueueCounts(queue="mails", queued=3), QueueCounts(queue="idle")]
    found = list(check_workers([worker("mails")], queues, now=NOW))
    assert levels(found) == [("workers", "ok"), ("queues", "ok")]


def test_a_paused_queue_that_waits_warns() -> None:
    queues = [QueueCounts(queue="mails", queued=3, paused=True)]
    found = list(check_workers([worker("mails")], queues, now=NOW))
    assert levels(found) == [("workers", "ok"), ("queues", "warn")]


def test_dead_workers_warn_and_consume_nothing() -> None:
    queues = [QueueCounts(queue="mails", queued=1)]
    found = list(check_workers([worker("mails", lease_left=-1.0)], queues, now=NOW))
    assert levels(found) == [("workers", "info"), ("workers", "warn"), ("queues", "fail")]


def test_a_route_to_a_queue_that_no_running_worker_consumes_warns() -> None:
    routes = {"default": ["shop.scan"], "mails": ["shop.mail"]}
    found = list(check_routes(routes, [worker("default")]))
    assert levels(found) == [("routes", "warn")]
    assert "shop.mail" in found[0].text
    assert found[0].remedy.endswith("-Q default,mails")


def test_routes_are_not_judged_while_no_worker_runs() -> None:
    assert list(check_routes({"mails": ["shop.mail"]}, [])) == []


def test_tasks_that_no_worker_knows_are_named(memory: Engine, clock: ManualClock) -> None:
    assert list(check_unknown(memory)) == []
    (held,) = memory.claim("w/0", ["mails"], 1).deliveries
    outcome = TaskUnknown("shop.mail")
    put_off: Settlement = decide(held, outcome, TaskPolicy(), now=clock.now(), roll=0.0)
    memory.settle([put_off])
    (found,) = check_unknown(memory)
    assert found.level == "warn"
    assert "shop.mail (1)" in found.text


def test_long_lists_of_names_are_cut() -> None:
    assert few(["a", "b"]) == "a, b"
    assert few([*"abcdefg"]) == "a, b, c, d, e and 2 more"


def test_numbers_of_things_are_words() -> None:
    assert [counted(number, "task", "waiting") for number in (0, 1, 2)] == [
        "0 waiting tasks", "1 waiting task", "2 waiting tasks",
    ]  # fmt: skip
