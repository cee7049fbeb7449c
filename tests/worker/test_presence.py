"""The presence file: slots, journal, and the lock that tells the living from the dead."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from pathlib import Path

import pytest

from acked.delivery import Delivery, Settlement
from acked.worker import presence
from acked.worker.presence import Presence
from acked.worker.section import JOURNAL_HALF, journal_entry


def settlement(number: int, size: int = 10) -> Settlement:
    held = Delivery(id=f"task-{number}", body=b"{}", token=number + 1)
    return Settlement.succeed(held, at=1.0, started=0.5, result=b"x" * size)


@pytest.fixture
def mine(tmp_path: Path) -> Presence:
    return Presence.create(tmp_path, "w1", sections=2, slots=3)


def test_a_slot_says_what_runs_until_it_ends(mine: Presence) -> None:
    section = mine.sections[1]
    section.begin(2, 77, started=5.0, deadline=9.0, limit=4.0)
    (running,) = section.running()
    assert (running.slot, running.token, running.started) == (2, 77, 5.0)
    assert (running.deadline, running.limit) == (9.0, 4.0)
    section.end(2)
    assert section.running() == []


def test_sections_do_not_share_slots(mine: Presence) -> None:
    mine.sections[0].begin(0, 1, 0.0, 0.0, 0.0)
    assert mine.sections[1].running() == []


def test_an_order_reaches_only_the_task_it_was_meant_for(mine: Presence) -> None:
    section = mine.sections[0]
    section.begin(0, 5, 0.0, 0.0, 0.0)
    section.order(0, token=4)
    assert not section.ordered(0)
    section.order(0, token=5)
    assert section.ordered(0)
    section.begin(0, 6, 0.0, 0.0, 0.0)
    assert not section.ordered(0)


def test_the_journal_gives_back_what_was_appended(mine: Presence) -> None:
    section = mine.sections[0]
    written = [settlement(n) for n in range(50)]
    for one in written:
        assert section.append(journal_entry(one))
    assert section.journal() == written


def test_rewriting_the_journal_keeps_only_what_is_still_unwritten(mine: Presence) -> None:
    section = mine.sections[0]
    entries = [journal_entry(settlement(n)) for n in range(10)]
    for entry in entries:
        section.append(entry)
    section.rewrite(entries[7:])
    section.append(journal_entry(settlement(10)))
    assert [s.id for s in section.journal()] == ["task-7", "task-8", "task-9", "task-10"]


def test_a_settlement_that_does_not_fit_is_refused_and_the_others_stay(mine: Presence) -> None:
    section = mine.sections[0]
    section.append(journal_entry(settlement(0)))
    assert not section.append(journal_entry(settlement(1, size=JOURNAL_HALF)))
    assert [s.id for s in section.journal()] == ["task-0"]


def test_a_torn_journal_gives_back_what_is_whole(mine: Presence) -> None:
    section = mine.sections[0]
    for n in range(3):
        section.append(journal_entry(settlement(n)))
    length = section._integers[1] >> 1
    section._halves[0][length - 1] ^= 0xFF
    assert [s.id for s in section.journal()] == ["task-0", "task-1"]


def test_a_living_worker_is_not_among_the_dead(tmp_path: Path) -> None:
    living = Presence.create(tmp_path, "w1", sections=1, slots=1)
    assert list(presence.dead(tmp_path, known="w2")) == []
    living.close()
    (found,) = presence.dead(tmp_path, known="w2")
    assert found.worker == "w1"
    found.remove()
    found.close()
    assert list(presence.dead(tmp_path, known="w2")) == []


def test_a_worker_is_dead_only_when_its_last_process_is(tmp_path: Path) -> None:
    mine = Presence.create(tmp_path, "w1", sections=1, slots=1)
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    mine.close()
    try:
        assert list(presence.dead(tmp_path, known="w2")) == []
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    (found,) = presence.dead(tmp_path, known="w2")
    found.close()


def test_what_a_killed_process_wrote_is_there_to_read(tmp_path: Path) -> None:
    mine = Presence.create(tmp_path, "w1", sections=1, slots=1)
    child = os.fork()
    if child == 0:
        section = mine.sections[0]
        section.begin(0, 42, 1.0, 0.0, 0.0)
        section.append(journal_entry(settlement(9)))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [entry.token for entry in mine.sections[0].running()] == [42]
    assert [s.id for s in mine.sections[0].journal()] == ["task-9"]


def test_a_worker_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            Presence.create(tmp_path, "w1", sections=4, slots=101)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_what_a_worker_was_making_when_it_was_killed_is_deleted(tmp_path: Path) -> None:
    left_over, made_now = tmp_path / ".w1.presence", tmp_path / ".w2.presence"
    left_over.touch()
    with made_now.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert list(presence.dead(tmp_path, known="w3")) == []
        assert list(tmp_path.iterdir()) == [made_now]


def test_a_worker_whose_file_is_deleted_while_it_is_made_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, looked = fcntl.flock, []

    def after_a_neighbour_has_looked(file: int, how: int) -> None:
        if not looked:
            looked.append(file)
            list(presence.dead(tmp_path, known="w2"))
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", after_a_neighbour_has_looked)
    mine = Presence.create(tmp_path, "w1", sections=1, slots=1)
    assert mine.path.exists()


def test_a_file_that_is_no_presence_is_left_alone(tmp_path: Path) -> None:
    strange = tmp_path / "x.presence"
    strange.write_text("hello")
    assert list(presence.dead(tmp_path, known="w1")) == []
    assert strange.exists()
