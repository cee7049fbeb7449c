"""What a page says of a task, decided without a page."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acked import Acked
from acked.delivery import Event, Failure, State
from acked.errors import ConfigurationError
from acked.pages.reading import Reader
from acked.pages.view import (
    SETTLED,
    Known,
    Phase,
    TaskView,
    safe_link,
    seconds_in_words,
    view_of,
)
from acked.pages.words import Words, check_words
from acked.record import Attempt, Progress, Record
from tests.pages.staging import SECRETS, Stage

NOW = 1_000_000.0
PHASES = [phase for phase in Phase if phase is not Phase.REFUSED]


def seen(state: State, *attempts: Attempt, tries: int | None = None, **fields: Any) -> TaskView:
    record = Record(id="a", body=b"{}", state=state, due=NOW, **fields)
    return view_of(Known(record=record, attempts=attempts, tries=tries), now=NOW)


def ended(event: Event, **fields: Any) -> Attempt:
    return Attempt(number=1, event=event, started=NOW - 9, ended=NOW - 5, **fields)


LOST = ended(Event.RELEASE, loss=True)
RETRIED = ended(Event.RETRY)


@pytest.mark.parametrize("phase", PHASES)
def test_each_phase_has_its_name_and_nothing_of_the_inside_on_its_page(phase: Phase) -> None:
    app = Acked("pages", broker="memory://")
    task_id = Stage(app)(phase)
    reader = Reader(app)
    view = view_of(reader.read(task_id), now=app.clock.now())
    assert view.phase is phase
    assert view.headline
    assert view.can_cancel is (phase not in SETTLED)
    assert view.can_retry is (phase in {Phase.FAILED, Phase.CANCELLED, Phase.EXPIRED})
    told = msgspec.json.encode(view).decode()
    assert [word for word in SECRETS if word in told] == []


def test_progress_is_told_in_words_and_as_a_share() -> None:
    view = seen(
        State.RUNNING,
        claimed=NOW - 4,
        progress=Progress(done=3, total=12, message="Packing", at=NOW),
    )
    assert (view.detail, view.amount, view.fraction) == ("Packing", "3 of 12", 0.25)
    assert view.countdown is not None
    assert view.countdown.at == pytest.approx(NOW + 12)


def test_progress_without_a_total_has_no_share_and_no_time_left() -> None:
    view = seen(
        State.RUNNING, claimed=NOW - 4, progress=Progress(done=3, message="Packing", at=NOW)
    )
    assert (view.detail, view.amount, view.fraction, view.countdown) == ("Packing", "", None, None)


@pytest.mark.parametrize("total", [float("nan"), float("inf"), -1.0, 0.0, 1e-320])
def test_a_total_that_cannot_be_is_none(total: float) -> None:
    view = seen(State.RUNNING, claimed=NOW - 4, progress=Progress(done=1e300, total=total, at=NOW))
    assert view.fraction is None or 0.0 <= view.fraction <= 1.0


def test_the_time_left_is_not_told_of_a_run_that_may_have_gone_on_from_a_checkpoint() -> None:
    progress = Progress(done=3, total=12, at=NOW)
    assert seen(State.RUNNING, RETRIED, claimed=NOW - 4, progress=progress).countdown is None


@pytest.mark.parametrize(("silent", "told"), [(3.0, True), (9.9, True), (10.1, False)])
def test_the_time_left_is_not_told_once_the_task_says_nothing_for_long(
    silent: float, told: bool
) -> None:
    """A step took 2 2/3 seconds so far."""
    progress = Progress(done=3, total=12, at=NOW - silent)
    view = seen(State.RUNNING, claimed=NOW - silent - 8, progress=progress)
    assert (view.countdown is not None) is told


def test_a_retry_tells_when_it_comes_and_which_run_it_is() -> None:
    record = Record(id="a", body=b"{}", state=State.SCHEDULED, due=NOW + 30, retries=1)
    view = view_of(Known(record=record, attempts=[RETRIED], tries=5), now=NOW)
    assert (view.phase, view.attempt) == (Phase.TRYING_AGAIN, "Attempt 2 of 5")
    assert view.countdown is not None
    assert view.countdown.text.format(time="30 s") == "Tries again in 30 s"
    assert view.countdown.at == NOW + 30


def test_a_retry_without_a_limit_tells_only_which_run_it_is() -> None:
    assert seen(State.QUEUED, RETRIED, retries=1).attempt == "Attempt 2"


def test_a_run_after_a_lost_one_says_so_for_a_while_and_how_far_it_is() -> None:
    progress = Progress(done=1, total=4, message="Packing", at=NOW)
    for said in (None, progress):
        assert seen(State.RUNNING, LOST, claimed=NOW - 1, progress=said).phase is Phase.INTERRUPTED
        assert seen(State.RUNNING, LOST, claimed=NOW - 60, progress=said).phase is Phase.WORKING
    assert seen(State.RUNNING, LOST, claimed=NOW - 3).phase is Phase.INTERRUPTED
    assert seen(State.RUNNING, LOST, claimed=NOW - 3, progress=progress).phase is Phase.WORKING
    assert seen(State.RUNNING, LOST, claimed=NOW - 1, progress=progress).amount == "1 of 4"


def test_a_task_that_was_stopped_with_its_worker_is_interrupted_and_not_retried() -> None:
    assert seen(State.QUEUED, ended(Event.RELEASE, counted=False)).phase is Phase.INTERRUPTED


def test_a_task_that_somebody_runs_again_waits_whatever_became_of_it_before() -> None:
    for last in (LOST, RETRIED, ended(Event.FAIL), ended(Event.FAIL, loss=True)):
        assert seen(State.QUEUED, last, reason="requeued").phase is Phase.WAITING


def test_a_task_no_worker_knows_yet_waits_and_is_not_scheduled() -> None:
    record = Record(id="a", body=b"{}", state=State.SCHEDULED, due=NOW + 9, reason="no worker ...")
    assert view_of(Known(record=record), now=NOW).phase is Phase.WAITING


def test_a_running_task_that_is_to_stop_says_so_and_offers_no_second_cancel() -> None:
    view = seen(State.RUNNING, claimed=NOW, revoke=2)
    assert (view.phase, view.headline, view.can_cancel) == (Phase.WORKING, "Stopping", False)


@pytest.mark.parametrize("name", ["Declined", "shop.errors.Declined"])
def test_a_failure_is_excused_in_the_words_given_for_its_exception(name: str) -> None:
    failure = Failure("shop.errors.Declined", "card 4000-1234")
    known = Known(record=Record(id="a", body=b"{}", state=State.FAILURE, failure=failure))
    view = view_of(known, now=NOW, safe_errors={name: "The card was declined."})
    assert view.detail == "The card was declined."
    assert view_of(known, now=NOW).detail == "Something went wrong."


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a\r\n\r\nevent: x\x00\u202eevil", "a event: x evil"),
        ("x" * 900, "x" * 299 + "…"),
        ("copying to redis://user:hunter2@host", "copying to redis://user:***@host"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # text is never markup
        ("مرحبا بالعالم", "مرحبا بالعالم"),
    ],
)
def test_what_a_task_says_is_shown_on_one_line_without_secrets(said: str, shown: str) -> None:
    view = seen(State.RUNNING, claimed=NOW, progress=Progress(message=said, at=NOW))
    assert view.detail == shown


@pytest.mark.parametrize(
    "link", ["/files/17", "files/17?x=1#y", "https://shop.example/a", "http://shop.example/"]
)
def test_a_link_to_a_page_is_shown(link: str) -> None:
    assert safe_link(link) == link


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)", "JavaScript:alert(1)", " javascript:alert(1)", "java\nscript:x",
        "data:text/html,x", "vbscript:x", "//evil.example", "/\\evil.example", "http://[", "",
    ],
)  # fmt: skip
def test_a_link_to_anything_else_is_not(link: str) -> None:
    assert safe_link(link) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "1 s"), (0.2, "1 s"), (30, "30 s"), (59.5, "1 min"), (61, "2 min"), (119 * 60, "119 min"),
     (7200, "2 h"), (86_400, "24 h"), (172_800, "2 d")],
)  # fmt: skip
def test_a_time_is_told_the_coarser_the_longer(seconds: float, words: str) -> None:
    assert seconds_in_words(seconds).replace("\u00a0", " ") == words


# -- any record whatsoever -------------------------------------------------------------------------

INNER = "inner-reason-"
secret = st.text(max_size=20).map(lambda text: INNER + text)
moment = st.floats(NOW - 1e6, NOW + 1e6)
failure = st.builds(Failure, type=secret, message=secret, traceback=secret)
attempts = st.builds(
    Attempt, number=st.integers(1, 9), event=st.sampled_from(Event), started=moment, ended=moment,
    consumer=secret, reason=secret, failure=st.none() | failure, counted=st.booleans(),
    loss=st.booleans(),
)  # fmt: skip
numbers = st.floats() | st.integers(-5, 2**70).map(float)
records = st.builds(
    Record, id=secret, body=secret.map(str.encode), task=secret, queue=secret,
    state=st.sampled_from(State), due=moment, retries=st.integers(0, 99),
    claimed=st.none() | moment,
    result=st.none() | secret.map(str.encode), failure=st.none() | failure, consumer=secret,
    reason=secret | st.sampled_from(["", "requeued", "expired"]), revoke=st.integers(0, 2),
    progress=st.none() | st.builds(
        Progress, done=numbers, total=numbers, message=st.text(max_size=400), meta=secret,
        state=st.none() | secret, at=moment,
    ),
)  # fmt: skip


@given(record=records, runs=st.lists(attempts, max_size=3), tries=st.none() | st.integers(0, 9))
def test_no_record_whatsoever_shows_its_inside_or_breaks_the_page(
    record: Record, runs: list[Attempt], tries: int | None
) -> None:
    view = view_of(Known(record=record, attempts=runs, tries=tries), now=NOW)
    told = msgspec.json.encode(view).decode()
    assert INNER not in told
    assert b"\n" not in msgspec.json.encode(view)
    assert view.fraction is None or 0.0 <= view.fraction <= 1.0
    for text in (view.headline, view.detail, view.amount, view.attempt):
        assert text == "" or text.isspace() is False
        assert not any(ord(char) < 32 for char in text)
        assert len(text) <= 400
    assert not (view.can_cancel and view.can_retry)


def test_words_in_another_language_are_used() -> None:
    words = Words(language="de", done="Fertig")
    known = Known(record=Record(id="a", body=b"{}", state=State.SUCCESS))
    assert view_of(known, now=NOW, words=words).headline == "Fertig"


def test_words_that_cannot_be_filled_in_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"Words\(amount=.*\{done\}, \{total\}"):
        check_words(Words(amount="{done} von {alle}"))
    with pytest.raises(ConfigurationError, match="direction"):
        check_words(Words(direction="up"))
