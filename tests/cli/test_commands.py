"""The commands of operators, on a broker's file."""

from __future__ import annotations

import json
import re
import time

import pytest

from acked.broker import Engine, Filter
from acked.cli.celery_hints import COMMANDS, OPTIONS
from acked.delivery import State
from acked.message import Message
from tests.cli.conftest import Acked
from tests.cli.scenario import IDS, fill


@pytest.fixture(autouse=True)
def one_task_in_each_state(store: Engine) -> None:
    fill(store, time.time() - 10)


def state(store: Engine, name: str) -> State | None:
    record = store.get(IDS[name])
    return None if record is None else record.state


# status


def test_status_in_a_pipe_is_plain_tables(acked: Acked) -> None:
    ended = acked("status")
    assert ended.code == 0
    assert "default\t1\t0\t1\t1\t1\t1\t" in ended.out
    assert "\x1b" not in ended.out


def test_status_as_json_has_iso_times(acked: Acked) -> None:
    seen = json.loads(acked("status", "--json").out)
    assert [queue["queue"] for queue in seen["queues"]] == ["default", "mails"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", seen["queues"][1]["oldest"])
    assert seen["workers"][0]["alive"] is True
    assert seen["running"][0]["progress"]["share"] == 0.75


def test_watching_needs_a_terminal(acked: Acked) -> None:
    ended = acked("status", "--watch")
    assert ended.code == 2
    assert "terminal" in ended.err


# ping


def test_ping_finds_a_worker_that_lives_by_the_brokers_word(acked: Acked, store: Engine) -> None:
    ended = acked("ping", "--any-host")
    assert ended.code == 0
    assert ended.out.startswith("box.77.abc: alive")
    (found,) = json.loads(acked("ping", "--any-host", "--json").out)
    assert (found["worker"], found["host"]) == ("box.77.abc", "box")


def test_ping_asks_for_a_worker_of_this_host(acked: Acked) -> None:
    ended = acked("ping")
    assert ended.code == 1
    assert ended.out.startswith("no worker is alive on ")


def test_ping_finds_no_worker_that_has_left(acked: Acked, store: Engine) -> None:
    store.leave("box.77.abc")
    assert acked("ping", "--any-host").code == 1


# list


def test_list_is_newest_first_with_whole_ids(acked: Acked) -> None:
    heading, *rows = acked("list").out.splitlines()
    assert heading == "id\ttask\tstate\tqueue\tattempts\tage\treason"
    order = ["waiting", "revoked", "running", "retrying", "failed", "done"]
    assert [row.split("\t")[0] for row in rows] == [IDS[name] for name in order]


def test_list_takes_celerys_states_in_any_case(acked: Acked) -> None:
    rows = acked("list", "--state", "started", "--state", "Retry").out.splitlines()[1:]
    assert [row.split("\t")[0] for row in rows] == [IDS["running"], IDS["retrying"]]


def test_list_pages_with_limit_and_before(acked: Acked) -> None:
    first = acked("list", "--limit", "2", "--json")
    last = json.loads(first.out)[-1]["id"]
    second = json.loads(acked("list", "--limit", "2", "--before", last, "--json").out)
    assert [task["id"] for task in second] == [IDS["running"], IDS["retrying"]]


def test_a_list_that_stops_early_says_how_to_see_more(acked: Acked) -> None:
    ended = acked("list", "--limit", "2")
    assert ended.err == f"2 shown; --limit N or --before {IDS['revoked']} for more\n"
    assert acked("list", "--limit", str(len(IDS))).err == ""


def test_an_empty_list_is_fine(acked: Acked) -> None:
    ended = acked("list", "--task", "nobody.knows")
    assert (ended.code, len(ended.out.splitlines())) == (0, 1)


def test_an_unknown_state_is_a_usage_error(acked: Acked) -> None:
    ended = acked("list", "--state", "BORED")
    assert ended.code == 2
    assert "BORED" in ended.err


# show


def test_show_tells_the_whole_story(acked: Acked) -> None:
    ended = acked("show", "failed______")
    assert ended.code == 0
    for told in (
        IDS["failed"],
        "FAILURE",
        "2 (retries 1, losses 0)",
        "time_limit\t5.0",
        "box.77.abc/1",
    ):
        assert told in ended.out
    assert "Traceback:" not in ended.out
    assert "Traceback:" in acked("show", "failed______", "--traceback").out


def test_show_as_json_is_the_same_story(acked: Acked) -> None:
    told = json.loads(acked("show", "failed______", "--json").out)
    assert [attempt["ended_by"] for attempt in told["attempts"]] == ["retry", "failure"]
    assert told["options"] == {"time_limit": 5.0}
    assert told["failure"]["traceback"].startswith("Traceback:")


@pytest.mark.parametrize("more", [(), ("--json",), ("--traceback",)])
def test_secrets_are_not_shown(acked: Acked, more: tuple[str, ...]) -> None:
    shown = acked("show", "done________", *more).out + acked("list", *more[:0]).out
    assert "canary" not in shown
    assert "***" in shown


def test_an_ambiguous_id_lists_its_candidates(acked: Acked) -> None:
    ended = acked("show", "0193a4b8c6d2")
    assert ended.code == 2
    assert ended.err.startswith("acked: the id '0193a4b8c6d2' is ambiguous")
    assert IDS["done"] in ended.err


def test_an_unknown_id_is_not_found(acked: Acked) -> None:
    ended = acked("show", "ffffffffffff")
    assert ended.code == 4
    assert len(ended.err.splitlines()) == 1


# retry


def test_retry_requeues_by_id(acked: Acked, store: Engine) -> None:
    ended = acked("retry", "failed______", IDS["revoked"])
    assert (ended.code, ended.out) == (0, "requeued 2 tasks\n")
    assert state(store, "failed") is state(store, "revoked") is State.QUEUED


def test_retry_names_those_whose_state_does_not_allow_it(acked: Acked, store: Engine) -> None:
    ended = acked("retry", IDS["failed"], IDS["done"])
    assert ended.code == 1
    assert ended.out == "requeued 1 task\n"
    assert f"{IDS['done']}  shop.scan  SUCCESS" in ended.err
    assert state(store, "done") is State.SUCCESS


def test_nothing_is_requeued_when_one_id_is_wrong(acked: Acked, store: Engine) -> None:
    assert acked("retry", IDS["failed"], "ffffffffffff").code == 4
    assert state(store, "failed") is State.FAILURE


def test_retry_all_takes_failures_alone_unless_told_otherwise(acked: Acked, store: Engine) -> None:
    ended = acked("retry", "--all", "--yes")
    assert (ended.code, ended.out) == (0, "requeued 1 task\n")
    assert "1  shop.scan" in ended.err
    assert state(store, "revoked") is State.REVOKED
    assert acked("retry", "--all", "--state", "REVOKED", "--yes").code == 0
    assert state(store, "revoked") is State.QUEUED


def test_retry_all_goes_by_task_queue_and_reason(acked: Acked, store: Engine) -> None:
    for other in (("--task", "shop.mail"), ("--queue", "mails"), ("--reason", "HTTP 503")):
        assert acked("retry", "--all", *other, "--yes").code == 1
    assert state(store, "failed") is State.FAILURE
    assert acked("retry", "--all", "--reason", "valueerror", "--yes").code == 0
    assert state(store, "failed") is State.QUEUED


def test_retry_of_many_needs_yes_without_a_terminal(acked: Acked, store: Engine) -> None:
    ended = acked("retry", "--all")
    assert ended.code == 2
    assert "--yes" in ended.err
    assert state(store, "failed") is State.FAILURE


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--all", IDS["failed"]),
        (IDS["failed"], "--task", "t"),
        (IDS["failed"], "--state", "REVOKED"),
    ],
)
def test_retry_takes_ids_or_all(acked: Acked, args: tuple[str, ...]) -> None:
    assert acked("retry", *args).code == 2


# revoke and discard


def test_revoke_takes_waiting_tasks_back_and_marks_running_ones(
    acked: Acked, store: Engine
) -> None:
    ended = acked("revoke", "waiting_____", "running_____")
    assert (ended.code, ended.out) == (
        0, "revoked 1 task\n1 task is running and will finish; --terminate stops it\n",
    )  # fmt: skip
    assert state(store, "waiting") is State.REVOKED
    assert state(store, "running") is State.RUNNING
    assert "asked for" in acked("show", "running_____").out


def test_revoking_a_running_task_with_terminate_stops_it(acked: Acked) -> None:
    ended = acked("revoke", "running_____", "--terminate")
    assert (ended.code, ended.out) == (0, "1 task is running and will be stopped\n")


def test_a_finished_task_cannot_be_revoked(acked: Acked) -> None:
    ended = acked("revoke", IDS["done"])
    assert (ended.code, ended.out) == (1, "")


def test_discard_deletes_all_but_running_tasks(acked: Acked, store: Engine) -> None:
    assert acked("discard", IDS["done"], IDS["waiting"]).out == "discarded 2 tasks\n"
    assert state(store, "done") is None
    assert acked("discard", IDS["running"]).code == 1
    assert state(store, "running") is State.RUNNING


# purge, pause, resume


def test_purge_refuses_to_guess(acked: Acked, store: Engine) -> None:
    assert acked("purge").code == 2
    assert acked("purge", "--yes").code == 2
    assert acked("purge", "--queue", "mails").code == 2
    assert state(store, "waiting") is State.QUEUED


def test_purge_deletes_what_waits_in_a_queue(acked: Acked, store: Engine) -> None:
    ended = acked("purge", "--queue", "mails", "--yes")
    assert (ended.code, ended.out) == (0, "deleted 1 waiting task\n")
    assert state(store, "waiting") is None
    assert state(store, "retrying") is State.SCHEDULED


def test_purge_takes_celerys_options(acked: Acked, store: Engine) -> None:
    assert acked("purge", "-Q", "mails,default", "-f").out == "deleted 2 waiting tasks\n"
    assert state(store, "waiting") is None
    assert state(store, "retrying") is None
    assert acked("purge", "--all", "--force").out == "nothing waits there\n"


def test_purging_everything_leaves_running_and_finished_tasks(acked: Acked, store: Engine) -> None:
    assert acked("purge", "--all", "--yes").out == "deleted 2 waiting tasks\n"
    assert {record.state for record in store.search(Filter())} == {
        State.SUCCESS, State.FAILURE, State.RUNNING, State.REVOKED,
    }  # fmt: skip
    assert acked("purge", "--all", "--yes").code == 0


def test_purge_of_an_unknown_queue_is_not_found(acked: Acked) -> None:
    ended = acked("purge", "--queue", "mial", "--yes")
    assert ended.code == 4
    assert "'mails'" in ended.err


def test_pause_and_resume_hold_for_every_worker(acked: Acked, store: Engine) -> None:
    assert acked("pause", "mails").out == "paused mails\n"
    assert store.claim("w/0", ["mails"], 1).deliveries == []
    assert acked("resume", "mails").out == "resumed mails\n"
    assert len(store.claim("w/0", ["mails"], 1).deliveries) == 1


def test_pausing_a_queue_nobody_uses_is_remarked(acked: Acked) -> None:
    ended = acked("pause", "mial")
    assert ended.code == 0
    assert "'mial'" in ended.err


# what Celery has


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("inspect", "active"), "acked status"),
        (("control",), "revoke"),
        (("beat", "-l", "info"), "cron"),
        (("flower",), "--watch"),
        (("events",), "acked show"),
        (("worker", "shop:app", "-B"), "cron"),
        (("worker", "shop:app", "-E"), "records"),
        (("worker", "shop:app", "-Ofair"), "-O"),
        (("worker", "shop:app", "--autoscale=10,3"), "-c N"),
        (("worker", "shop:app", "-f", "w.log"), "standard error"),
        (("worker", "shop:app", "-Xslow"), "-Q names the queues"),
        (("worker", "shop:app", "--time-limit=60"), "Acked(..., task_time_limit=...)"),
        (("worker", "shop:app", "--uid", "www"), "User="),
        (("--workdir=/srv", "worker", "shop:app"), "WorkingDirectory="),
        (("call", "shop.scan"), "app.send_task(NAME, args)"),
        (("purge",), "--queue NAME"),
        (("purge", "-f"), "--all for every queue"),
    ],
)
def test_what_celery_has_and_acked_has_not_is_answered_with_what_there_is(
    acked: Acked, args: tuple[str, ...], told: str
) -> None:
    ended = acked(*args)
    assert ended.code == 2
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_an_option_of_celerys_worker_is_no_slip_for_another(acked: Acked, option: str) -> None:
    ended = acked("worker", "shop:app", option)
    assert ended.code == 2
    assert ended.err.startswith(f"acked: no option {option}: {OPTIONS[option]}")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_of_celerys_is_no_slip_for_another(acked: Acked, command: str) -> None:
    ended = acked("-A", "shop:app", command)
    assert ended.code == 2
    assert ended.err.startswith(f"acked: no command {command}: {COMMANDS[command]}")


# text of tasks


def test_text_of_tasks_cannot_forge_rows(acked: Acked, store: Engine) -> None:
    store.send([Message(id="hostile-task", task="x\ty\nz\x1b[2J", queue="evil")])
    rows = acked("list", "--queue", "evil").out.splitlines()
    assert len(rows) == 2
    assert rows[1].startswith("hostile-task\tx\\ty\\nz\\x1b[2J\tQUEUED\t")
