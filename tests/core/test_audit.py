"""The audit: its lines are bounded, and are written whatever the logging of the application is."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from acked.audit import IDS_LIMIT, KEPT, Audit, note


def said_by(configuration: str) -> str:
    """What a program that configures logging so and writes one entry says on standard error."""
    program = "\n".join(
        [
            "import logging, logging.config",
            "from acked.audit import note",
            textwrap.dedent(configuration),
            "note(who='ada', action='purge', source='10.0.0.7', target='mails', count=3)",
        ]
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout == ""
    return ran.stderr


UNAWARE = {
    "nothing": "",
    "warnings alone": "logging.basicConfig()",
    "a handler of warnings": """
        logging.basicConfig(level=logging.INFO)
        logging.getLogger().handlers[0].setLevel(logging.WARNING)
    """,
    "existing loggers off": """
        logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})
        assert logging.getLogger("acked.audit").disabled
    """,
}


@pytest.mark.parametrize("configuration", UNAWARE.values(), ids=UNAWARE)
def test_where_nobody_thought_of_the_audit_it_goes_to_standard_error(configuration: str) -> None:
    (line,) = said_by(configuration).splitlines()
    assert " INFO acked.audit: " in line
    assert json.loads(line.partition("acked.audit: ")[2])["who"] == "ada"


def test_where_lines_of_information_are_logged_the_audit_is_among_them_once() -> None:
    said = said_by("logging.basicConfig(level=logging.INFO, format='MINE %(message)s')")
    assert said.startswith('MINE {"number":1,')
    assert said.count("ada") == 1


@pytest.mark.parametrize(
    "off",
    [
        "logging.getLogger('acked.audit').setLevel(logging.CRITICAL)",
        "logging.getLogger('acked.audit').propagate = False",
        "logging.getLogger('acked.audit').addHandler(logging.NullHandler())\n"
        "logging.getLogger('acked.audit').setLevel(logging.INFO)",
    ],
)
def test_whoever_turns_the_audit_off_by_its_name_is_obeyed(off: str) -> None:
    assert said_by(off) == ""


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(each.message) for each in caplog.records if each.name == "acked.audit"]


def test_the_ids_of_many_tasks_are_told_in_lines_of_bounded_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="acked.audit")
    ids = [f"{number:044}" for number in range(2_000)]
    audit = Audit()
    entry = audit.note(who="ada", action="retry", source="?", target="all", count=7, ids=ids)
    written = lines(caplog)
    assert [task_id for line in written for task_id in line["ids"]] == ids
    assert {(each["number"], each["who"], each["count"]) for each in written} == {
        (entry.number, "ada", 7)
    }
    assert [each.get("part", 1) for each in written] == list(range(1, len(written) + 1))
    assert {each["parts"] for each in written} == {len(written)}
    assert max(len(each.message) for each in caplog.records) < IDS_LIMIT * 1.3
    assert audit.latest() == [entry], "one entry of the page, however many lines"
    assert entry.ids == (), "and it keeps no ids in memory"


def test_no_name_id_or_target_can_forge_or_lengthen_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="acked.audit")
    evil = "x\n\u2028{}\ud800" + "y" * 100_000
    note(who=evil, action="retry", source="?", target=evil, outcome=evil, ids=[evil, "other"])
    (record,) = [each for each in caplog.records if each.name == "acked.audit"]
    assert len(record.message.splitlines()) == 1
    assert len(record.message) < 10_000


def test_entries_of_one_process_have_numbers_of_their_own_and_the_oldest_are_forgotten() -> None:
    one, other = Audit(), Audit()
    numbers = [audit.note(who="?", action="x", source="?").number for audit in (one, other, one)]
    assert numbers == sorted(set(numbers))
    assert one.entry(numbers[0]) is not None and other.entry(numbers[0]) is None
    for _ in range(KEPT):
        one.note(who="?", action="x", source="?")
    assert one.entry(numbers[0]) is None
    assert len(one.latest()) == KEPT


def test_strangers_do_not_push_deeds_out_of_the_audit() -> None:
    audit = Audit()
    audit.note(who="ada", action="purge", source="x", target="mails")
    for _ in range(1_000):
        audit.note(who="?", action="POST /do/" + "z" * 60_000, source="y", outcome="refused: no")
    assert audit.latest()[-1].who == "ada"
    assert sum(len(each.action) for each in audit.latest()) < 100_000
