"""What the pages say of more tasks than one look reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from acked import Acked
from acked.delivery import Failure
from acked.outcome import TaskPolicy, Unreadable, decide
from tests.dashboard.test_site import Site, make_app, text_of
from tests.harness.places import BROKERS, Servers

AWAY = Failure("ConnectionError", "the far side refused")
WRONG = Failure("ValueError", "no such order")
LOST = Failure("WorkerLostError", "signal 9; poison: it took its worker 3 times")
FURTHER = "Look further back"


@pytest.fixture
def site() -> Site:
    return Site(make_app(), open_to_this_host=True)


@pytest.fixture(params=BROKERS)
def stored(request: pytest.FixtureRequest, tmp_path: Path, servers: Servers) -> Iterator[Site]:
    """A dashboard on each broker that outlives its process."""
    place = servers.place(request.param, tmp_path)
    app = Acked("shop", broker=place.url, results=place.results)
    yield Site(app, open_to_this_host=True)
    app.close()


def windows_of(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one look be at *size* records."""
    for name in ("WINDOW", "TEXT_WINDOW"):
        monkeypatch.setattr(f"acked.dashboard.finding.{name}", size)
    monkeypatch.setattr("acked.dashboard.failing.TEXT_WINDOW", size)
    monkeypatch.setattr("acked.dashboard.finding.MARGIN", 2)


def shown(page: Any) -> list[str]:
    """Ids of the tasks that a page lists, in their order."""
    return [unescape(each) for each in re.findall(r'class="id" href="[^"]*id=([^"]+)"', page.text)]


def leads(page: Any, label: str) -> str | None:
    """Where a link of *page* leads."""
    found = re.search(rf'href="([^"]*)">{label}</a>', page.text)
    return unescape(found[1]) if found else None


def follow(site: Site, path: str, label: str) -> Iterator[Any]:
    """The page at *path*, and those that its link leads to, one after the other."""
    following: str | None = path
    while following is not None:
        page = site.get(following)
        yield page
        following = leads(page, label)


# -- by id -----------------------------------------------------------------------------------------


def test_a_task_is_found_by_its_whole_id_however_old_it_is(
    stored: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows_of(5, monkeypatch)
    wanted = stored.shop.send("shop.scan", "u", ago=5000)
    for number in range(12):
        stored.shop.send("shop.scan", number)
    assert shown(stored.get(f"/tasks?id={wanted}")) == [wanted]
    assert shown(stored.get(f"/tasks?id={wanted}&state=QUEUED&task=shop.scan&until=1h")) == [wanted]
    assert shown(stored.get(f"/tasks?id={wanted}&state=FAILURE")) == []
    assert shown(stored.get(f"/tasks?id={wanted[:-1]}")) == []
    assert "Revoke 1 task?" in text_of(stored.get(f"/confirm/revoke?matching=1&id={wanted}"))


def test_a_whole_id_does_not_hide_those_that_it_is_a_part_of(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows_of(5, monkeypatch)
    for task_id in ("order-12", "order-1"):
        site.shop.send("shop.scan", "u", task_id=task_id)
    for number in range(12):
        site.shop.send("shop.scan", number)
    newer = site.shop.send("shop.scan", "u", task_id="order-1-again")
    pages = list(follow(site, "/tasks?id=order-1", FURTHER))
    assert shown(pages[0]) == [newer, "order-1"]
    assert {each for page in pages for each in shown(page)} == {newer, "order-1", "order-12"}
    assert "3 tasks" in text_of(site.get("/confirm/revoke?matching=1&id=order-1"))


def test_a_whole_id_does_not_tell_a_secret_either(site: Site) -> None:
    task_id = site.shop.send("shop.scan", "http://x", password="guess")  # noqa: S106 - of nobody
    assert shown(site.get(f"/tasks?id={task_id}&text=guess")) == []
    assert shown(site.get(f"/tasks?id={task_id}&text=http")) == [task_id]


# -- by time ---------------------------------------------------------------------------------------


def test_what_was_sent_before_a_time_is_looked_for_from_there_on(
    stored: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows_of(10, monkeypatch)
    ids = [stored.shop.send("shop.scan", number, ago=3600 - 60 * number) for number in range(60)]
    page = stored.get("/tasks?until=1830s")
    assert shown(page)[:4] == ids[29:25:-1]
    assert "Looked at tasks sent since" in text_of(page)
    found = [each for page in follow(stored, "/tasks?until=1830s", FURTHER) for each in shown(page)]
    assert found == ids[29::-1]


def test_the_place_of_a_time_is_found_in_few_reads(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows_of(10, monkeypatch)
    for number in range(2000):
        site.shop.send("shop.scan", number, ago=4000 - number)
    asked: list[int] = []
    search = site.app.broker.search

    def noted(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["limit"])
        return search(*args, **kwargs)

    monkeypatch.setattr(site.app.broker, "search", noted)
    assert shown(site.get("/tasks?until=3500s"))
    assert len(asked) <= 15
    assert max(asked) <= 51


def test_clocks_that_were_wrong_do_not_lead_a_search_astray(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows_of(30, monkeypatch)
    right: list[str] = []
    for number in range(400):
        wrong = number % 3 == 0
        ago = (-90_000.0 if number % 2 else 90_000.0) if wrong else 4000.0 - 10 * number
        task_id = site.shop.send("shop.scan", number, ago=ago)
        if not wrong and ago > 2005:
            right.append(task_id)
    found = set(shown(site.get("/tasks?until=2005s")))
    assert set(right[-12:]) <= found


def test_a_task_that_a_slow_clock_sent_is_found_from_the_newest_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows_of(10, monkeypatch)
    for number in range(60):
        site.shop.send("shop.scan", number, ago=3600 - 60 * number)
    slow = site.shop.send("shop.scan", "slow", ago=3000)
    page = site.get("/tasks?until=1830s")
    assert slow not in shown(page)
    path = leads(page, "Begin at the newest")
    assert path is not None
    assert shown(site.get(path)) == [slow]
    assert leads(site.get("/tasks?until=0s"), "Begin at the newest") is None


# -- what is due later -----------------------------------------------------------------------------


def test_scheduled_tasks_are_listed_by_due_time_however_old_they_are(
    stored: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows_of(5, monkeypatch)
    monkeypatch.setattr("acked.dashboard.reading.WAITING", 4)
    now, due = stored.shop.now, {}
    for number in range(10):
        later = now + 1000 + number * 37 % 100
        queue = "mails" if number % 3 else "default"
        due[stored.shop.send("shop.scan", number, eta=later, queue=queue, ago=500)] = later
    for number in range(12):
        stored.shop.send("shop.scan", number)
    pages = [shown(page) for page in follow(stored, "/waiting", "Next")]
    assert [len(page) for page in pages] == [4, 4, 2]
    assert [each for page in pages for each in page] == sorted(due, key=lambda each: due[each])


def test_an_address_of_no_page_of_scheduled_tasks_is_the_first_one(site: Site) -> None:
    wanted = site.shop.send("shop.scan", "u", eta=site.shop.now + 60)
    for address in ("due=nan&tag=1", "due=x&tag=1", "due=1", "tag=1", "due=1e999&tag=1"):
        assert shown(site.get(f"/waiting?{address}")) == [wanted], address
    past_the_end = site.get(f"/waiting?due={site.shop.now + 999}&tag=1")
    assert "Nothing is due later than that" in text_of(past_the_end)


def test_a_tag_that_no_task_can_have_is_none(stored: Site) -> None:
    wanted = stored.shop.send("shop.scan", "u", eta=stored.shop.now + 60)
    for digits in (18, 19, 30):
        for path in ("/tasks?before=", "/failures?before=", "/dead?before=", "/waiting?due=1&tag="):
            assert stored.get(path + "9" * digits).status_code == 200, path
    assert shown(stored.get(f"/tasks?before={'9' * 18}")) == [wanted]


# -- failures --------------------------------------------------------------------------------------


def groups(page: Any) -> list[str]:
    """The rows of a page of failures, as text."""
    rows = re.findall(r"<tr>.*?</tr>", page.text.partition("<tbody>")[2], re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]*>", " ", each)).split()) for each in rows]


def test_failures_say_what_their_figures_cover_and_lead_further_back(
    stored: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acked.dashboard.failing.FAILURES", 5)
    for number in range(12):
        stored.shop.failed("shop.scan", number, failure=AWAY if number % 2 else WRONG)
    pages = list(follow(stored, "/failures", FURTHER))
    assert "5 of 12 failures, those of the tasks that were sent last" in text_of(pages[0])
    assert "of these alone" in text_of(pages[1])
    assert [[row.split()[0] for row in groups(page)] for page in pages] == [
        ["3", "2"], ["3", "2"], ["1", "1"],
    ]  # fmt: skip
    assert "There are no older ones" in text_of(stored.get("/failures?before=1"))


def test_failures_that_are_all_told_have_no_limit(site: Site) -> None:
    for number in range(3):
        site.shop.failed("shop.scan", number, failure=AWAY)
    page = site.get("/failures")
    assert "3 failures, grouped" in text_of(page)
    assert leads(page, FURTHER) is None and "alone" not in text_of(page)


def test_an_outage_is_seen_before_retries_run_out(stored: Site) -> None:
    ids = [stored.shop.retried("shop.scan", n, failure=AWAY, wait=300) for n in range(3)]
    stored.shop.send("shop.scan", "later", eta=stored.shop.now + 60)
    page = stored.get("/failures")
    (row,) = groups(page)
    assert row.startswith("0 ConnectionError the far side refused being retried: 3")
    assert "3 tasks failed and will be tried again." in text_of(page)
    assert "/confirm/retry" not in page.text  # which is for what has failed for good
    path = re.search(r'href="(/tasks\?[^"]*error[^"]*)"', page.text)
    assert path is not None
    assert set(shown(stored.get(unescape(path[1])))) == set(ids)


def test_a_retry_that_is_due_and_not_yet_run_is_being_retried(site: Site) -> None:
    site.shop.retried("shop.scan", "u", failure=AWAY, wait=-5)
    site.shop.failed("shop.mail", "u", failure=AWAY)
    site.app.broker.reap(by="box-1.77.a/0")
    assert sum(each.queued for each in site.app.records.counts()) == 1
    assert any("being retried: 1" in row for row in groups(site.get("/failures")))


def test_what_is_being_retried_says_among_how_many_it_was_looked_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acked.dashboard.failing.UPCOMING", 2)
    for number in range(4):
        site.shop.retried("shop.scan", number, failure=AWAY, wait=300)
    assert "2 tasks failed and will be tried again, among the next" in text_of(
        site.get("/failures")
    )


def test_dead_letters_are_found_behind_any_number_of_failures(
    stored: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acked.dashboard.failing.FAILURES", 3)
    monkeypatch.setattr("acked.dashboard.failing.LOOKS", 2)
    dead = stored.shop.failed("shop.resize", "u", failure=LOST, loss=True)
    for number in range(14):
        stored.shop.failed("shop.scan", number, failure=LOST if number == 4 else AWAY)
    pages = list(follow(stored, "/dead", FURTHER))
    assert [shown(page) for page in pages] == [[], [], [dead]]
    assert "None so far" in text_of(pages[0])


def test_dead_letters_follow_each_other_page_by_page(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acked.dashboard.failing.DEAD", 2)
    ids = [site.shop.failed("shop.scan", n, failure=LOST, loss=True) for n in range(5)]
    site.shop.failed("shop.scan", "u", failure=AWAY)
    pages = [shown(page) for page in follow(site, "/dead", "Older")]
    assert pages == [ids[:2:-1], ids[2:0:-1], ids[:1]]


def test_a_message_that_cannot_be_read_is_a_dead_letter(stored: Site) -> None:
    unread = stored.shop.send("shop.scan", "u")
    ended = decide(
        stored.shop.claim(unread), Unreadable("not a message"), TaskPolicy(),
        now=stored.shop.now, roll=0.0,
    )  # fmt: skip
    assert stored.app.broker.settle([ended]) == []
    stored.shop.failed("shop.scan", "u", failure=Failure("MessageUnreadable", "not a message"))
    assert shown(stored.get("/dead")) == [unread]
