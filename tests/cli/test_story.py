"""What `show` tells of one task."""

from __future__ import annotations

import datetime

import msgspec
import pytest

from acked.broker import Engine
from acked.clock import ManualClock
from acked.delivery import Failure, Settlement
from acked.message import Message
from acked.story import Story, story
from tests.cli.scenario import IDS, WORKER


def told(store: Engine, clock: ManualClock, name: str) -> Story:
    record = store.get(IDS.get(name, name))
    assert record is not None
    return story(store, record, now=clock.now(), app=None)


def test_every_attempt_is_told_with_its_ending(memory: Engine, clock: ManualClock) -> None:
    first, second = told(memory, clock, "failed").attempts
    assert (first.number, first.ended_by, first.seconds) == (1, "retry", 1.0)
    assert (second.number, second.ended_by, second.process) == (2, "failure", f"{WORKER}/1")
    assert second.failure is not None
    assert second.failure.type == "ValueError"
    assert first.next_at == first.started


def test_the_running_attempt_is_told_as_well(memory: Engine, clock: ManualClock) -> None:
    clock.advance(90)
    (attempt,) = told(memory, clock, "running").attempts
    assert (attempt.ended_by, attempt.seconds, attempt.ended) == ("running", 90.0, None)


def test_progress_and_checkpoint_are_told(memory: Engine, clock: ManualClock) -> None:
    seen = told(memory, clock, "running")
    assert seen.progress is not None
    assert (seen.progress.share, seen.progress.message) == (0.75, "resizing")
    assert seen.checkpoint_bytes == len(b'{"page":3}')


def test_the_calls_own_options_are_told(memory: Engine, clock: ManualClock) -> None:
    assert told(memory, clock, "failed").options == {"time_limit": 5.0}
    assert told(memory, clock, "done").options == {}


@pytest.mark.parametrize("name", ["done", "failed", "retrying"])
def test_what_secret_keys_hold_is_not_told(memory: Engine, clock: ManualClock, name: str) -> None:
    seen = told(memory, clock, name)
    text = msgspec.json.encode(msgspec.structs.replace(seen, args=None)).decode()
    assert "canary" not in text
    assert "http://x" in text or name != "done"


def test_times_are_in_utc(memory: Engine, clock: ManualClock) -> None:
    sent = told(memory, clock, "done").sent
    assert sent == datetime.datetime.fromtimestamp(clock.now(), datetime.UTC)


def test_a_message_that_cannot_be_read_is_told_by_its_digest(
    clock: ManualClock, memory: Engine
) -> None:
    record = memory.get(IDS["waiting"])
    assert record is not None
    broken = msgspec.structs.replace(record, body=b"{not a message")
    seen = story(memory, broken, now=clock.now(), app=None)
    assert seen.args is None
    assert seen.unreadable is not None
    assert "SHA-256" in seen.unreadable


@pytest.mark.parametrize(
    ("settle", "ending"),
    [
        ("interrupted", "interrupted"),
        ("lost", "lost"),
        ("requeued", "put back"),
        ("revoke", "revoked"),
        ("succeed", "success"),
    ],
)
def test_each_ending_has_its_word(
    memory: Engine, clock: ManualClock, settle: str, ending: str
) -> None:
    now = clock.now()
    memory.send([Message(id="one-more-task", task="t")])
    (held,) = memory.claim("w/0", ["default"], 1).deliveries
    endings: dict[str, dict[str, object]] = {
        "interrupted": {"reason": "worker stopped"},
        "lost": {"failure": Failure("WorkerLostError", "signal 9"), "not_before": None},
        "requeued": {"reason": "rejected", "not_before": None},
        "revoke": {"reason": "terminated"},
        "succeed": {"result": b"1"},
    }
    memory.settle([getattr(Settlement, settle)(held, at=now, started=now, **endings[settle])])
    assert told(memory, clock, "one-more-task").attempts[0].ended_by == ending


def test_hostile_times_do_not_break_the_story(memory: Engine, clock: ManualClock) -> None:
    memory.send([Message(id="far-far-away", task="t", eta=1e300, expires=1e18)])
    assert told(memory, clock, "far-far-away").due == datetime.datetime.max.replace(
        tzinfo=datetime.UTC
    )
