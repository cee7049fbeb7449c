"""Log lines of a worker process."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from acked.delivery import Delivery
from acked.errors import ConfigurationError
from acked.logs import get_task_logger
from acked.message import Message
from acked.request import Request, current
from acked.signals import setup_logging
from acked.worker.logs import configure

TASK_ID = "0193a4b8c6d2e1f00ad1c5b6e7f8091a2b3c4d5e6f70"


@pytest.fixture(autouse=True)
def root_logger_is_put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def in_task() -> Iterator[None]:
    token = current.set(Request(message=Message(id=TASK_ID, task="shop.scan")))
    yield
    current.reset(token)


def text_of(level: str = "INFO", log_format: str = "text") -> io.StringIO:
    stream = io.StringIO()
    configure(level, log_format, stream, worker="box.1.abc")
    return stream


def test_a_text_line_has_time_level_logger_and_message() -> None:
    stream = text_of()
    logging.getLogger("acked.worker").warning("hello %s", "there")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARNING acked\.worker hello there\n",
        stream.getvalue(),
    )


@pytest.mark.usefixtures("in_task")
def test_inside_a_task_a_text_line_names_the_task_and_the_end_of_its_id() -> None:
    stream = text_of()
    get_task_logger("shop.lib").info("working")
    assert f" INFO shop.scan[{TASK_ID[-12:]}] working\n" in stream.getvalue()


@pytest.mark.usefixtures("in_task")
def test_a_json_line_has_the_whole_id_and_the_logger() -> None:
    stream = text_of(log_format="json")
    logging.getLogger("shop.lib").info("working")
    line = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "INFO", "logger": "shop.lib", "message": "working", "worker": "box.1.abc",
        "process": os.getpid(), "task_id": TASK_ID, "task_name": "shop.scan",
    }  # fmt: skip


def test_outside_a_task_a_json_line_names_no_task() -> None:
    stream = text_of(log_format="json")
    logging.getLogger("acked.worker").info("ready")
    assert "task_id" not in json.loads(stream.getvalue())


def test_who_logs_about_a_task_from_outside_can_name_it() -> None:
    stream = text_of()
    logging.getLogger("acked.worker").error(
        "killed", extra={"task_id": TASK_ID, "task_name": "shop.scan", "acked_traceback": "Trace\n"}
    )
    assert f"ERROR shop.scan[{TASK_ID[-12:]}] killed\n    Trace\n" in stream.getvalue()


def test_a_message_cannot_forge_a_line() -> None:
    stream = text_of()
    logging.getLogger("shop").info("a\n2026-11-23 12:00:00.000 ERROR acked.worker forged\x1b[2J")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_a_traceback_has_lines_of_its_own_and_each_is_indented() -> None:
    stream = text_of()
    try:
        raise ValueError("first\n2026-11-23 12:00:00.000 ERROR acked.worker forged")
    except ValueError:
        logging.getLogger("shop").exception("failed")
    head, *below = stream.getvalue().splitlines()
    assert head.endswith("ERROR shop failed")
    assert below[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in below)


def test_a_json_line_is_one_line_whatever_is_in_it() -> None:
    stream = text_of(log_format="json")
    try:
        raise ValueError("a\nb\u2028\ud800")
    except ValueError:
        logging.getLogger("shop").exception("x\ny\ud800")
    (only,) = stream.getvalue().splitlines()
    assert json.loads(only)["message"] == "x\ny\ud800"
    assert json.loads(only)["exc"].startswith("Traceback")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_secrets_are_not_logged(log_format: str) -> None:
    stream = text_of(log_format=log_format)
    try:
        raise ValueError("password=canary")
    except ValueError:
        logging.getLogger("shop").exception("could not reach %s", "postgres://me:canary@db/shop")
    assert stream.getvalue().count("***") >= 2
    assert "canary" not in stream.getvalue()


def test_a_wrong_call_of_a_logger_still_says_something() -> None:
    stream = text_of()
    logging.getLogger("shop").info("%d rows", "many")
    assert "%d rows (its arguments could not be put in: TypeError)" in stream.getvalue()


def test_lines_below_the_level_are_left_out() -> None:
    stream = text_of(level="warning")
    logging.getLogger("shop").info("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("level", "log_format", "named"), [("LOUD", "text", "LOUD"), ("INFO", "xml", "xml")]
)
def test_an_unknown_level_or_format_is_refused_by_name(
    level: str, log_format: str, named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        configure(level, log_format, io.StringIO())


def test_the_setup_logging_signal_takes_logging_over() -> None:
    before = logging.getLogger().handlers[:]
    told: list[object] = []

    def own_logging(**named: object) -> None:
        told.append(named["loglevel"])

    setup_logging.connect(own_logging)
    try:
        configure("INFO", "text", io.StringIO())
    finally:
        setup_logging.disconnect(own_logging)
    assert told == [logging.INFO]
    assert logging.getLogger().handlers == before


def test_what_a_task_logs_is_kept_whoever_has_set_up_logging() -> None:
    root, kept = logging.getLogger(), list[tuple[int, bytes]]()
    running = current.set(Request(delivery=Delivery(id="a", token=7, body=b"")))
    setup_logging.connect(own := lambda **_: root.setLevel(logging.WARNING))
    try:
        configure("INFO", "text", io.StringIO(), keep=lambda *what: kept.append(what))
        logging.getLogger("shop").warning("low on stock")
        logging.getLogger("shop").info("below the level that was set up")
    finally:
        setup_logging.disconnect(own)
        current.reset(running)
    ((token, line),) = kept
    assert token == 7
    assert line.endswith(b"WARNING low on stock")


def test_a_receiver_that_came_later_takes_logging_over_as_well() -> None:
    stream = text_of()
    setup_logging.connect(nothing := lambda **named: None)
    try:
        configure("INFO", "text", io.StringIO())
    finally:
        setup_logging.disconnect(nothing)
    logging.getLogger("shop").info("not ours any more")
    assert stream.getvalue() == ""


def test_a_task_that_closes_standard_error_does_not_silence_or_stop_the_worker() -> None:
    script = """
import logging, os, sys
from acked.worker.logs import configure
configure("INFO", "text")
sys.stderr.close(); os.close(2)
logging.getLogger("shop").info("still here")
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert "INFO shop still here" in ended.stderr


def test_a_stream_that_fails_does_not_raise_in_the_caller() -> None:
    stream = text_of()
    stream.close()
    logging.getLogger("shop").info("nowhere to go")
