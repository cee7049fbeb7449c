"""Several tasks on one page, from one token, over HTTP."""

from __future__ import annotations

import hashlib
import re

import pytest
from starlette.requests import Request

from acked.errors import ConfigurationError
from acked.pages import Action, Limits, TaskPages
from acked.pages.view import Phase
from tests.pages.mounted import SAME, Site, words_of
from tests.pages.staging import UNKNOWN

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def site() -> Site:
    return Site()


def test_the_page_sums_its_tasks_up_and_shows_each(site: Site) -> None:
    tasks = [site.stage.done(), site.stage.working(), site.stage.failed()]
    page = site.client.get(
        site.pages.url_for_many(tasks, label="Imports", labels=["a.csv", "b.csv", "c.csv"])
    )
    assert page.status_code == 200
    text = words_of(page.text)
    assert "Imports 1 of 3 done, 1 failed" in text
    assert "a.csv Done" in text
    assert "b.csv Working Packing 3 of 10" in text
    assert "c.csv Failed Something went wrong." in text
    assert "<title>Imports: 1 of 3 done, 1 failed</title>" in page.text
    assert page.text.count('role="progressbar"') == 3
    assert '<meta http-equiv="refresh"' in page.text


def test_tasks_without_names_are_numbered(site: Site) -> None:
    page = site.client.get(site.pages.url_for_many([site.stage.done(), site.stage.done()]))
    text = words_of(page.text)
    assert "Your task Done 2 of 2 done Task 1 Done Task 2 Done" in text
    assert "refresh" not in page.text


def test_a_task_that_was_sent_in_bulk_is_taken_as_it_is_given_back(site: Site) -> None:
    @site.app.task
    def resize(name: str) -> None:
        pass

    url = site.pages.url_for_many(resize.delay_many([("a",), ("b",)]))
    assert "Waiting to start 0 of 2 done" in words_of(site.client.get(url).text)


def test_permission_is_asked_for_each_task() -> None:
    seen: list[str] = []

    async def but_one(request: Request, task_id: str, action: Action) -> bool:
        return task_id in seen

    site = Site(permission=but_one)
    mine, other = site.stage.done(), site.stage.done()
    url = site.pages.url_for_many([mine, other])
    assert site.client.get(url).status_code == 404
    seen.append(mine)
    text = words_of(site.client.get(url).text)
    assert "Done 1 of 1 done Task 1 Done" in text
    assert "Task 2 This link does not work" in text


def test_what_may_be_done_with_each_is_done_with_its_own_form(site: Site) -> None:
    first, second = site.stage.send(), site.stage.send()
    url = site.pages.url_for_many([first, second], allow=["cancel"])
    forms = re.findall(r'action="\.\./(task/[^"]+/cancel)"', site.client.get(url).text)
    assert len(forms) == 2
    assert site.client.post(f"/a/b/{forms[1]}", headers=SAME).status_code == 303
    text = words_of(site.client.get(url).text)
    assert "0 of 2 done, 1 cancelled" in text
    assert "Task 2 Cancelled" in text


def test_a_link_to_see_several_tasks_has_no_forms(site: Site) -> None:
    assert "<form" not in site.client.get(site.pages.url_for_many([site.stage.send()])).text


@pytest.mark.parametrize("lasts", [-1, 60])
def test_a_link_that_is_old_or_of_others_gets_the_answer_of_a_wrong_one(
    site: Site, lasts: float
) -> None:
    pages = TaskPages(site.app, secrets=["o" * 32], path="/a/b") if lasts > 0 else site.pages
    answer = site.client.get(pages.url_for_many([site.stage.done()], lasts=lasts))
    wrong = site.client.get("/a/b/tasks/nonsense")
    assert (answer.status_code, answer.text) == (404, wrong.text)
    assert "This link does not work" in wrong.text


def test_a_token_for_one_task_and_one_for_several_are_not_taken_for_each_other(site: Site) -> None:
    task_id = site.stage.send()
    one = site.token(task_id, "cancel")
    several = site.pages.token_for_many([task_id], allow=["cancel"])
    assert site.client.get(f"/a/b/tasks/{one}").status_code == 404
    assert site.client.get(f"/a/b/task/{several}").status_code == 404
    assert site.client.post(f"/a/b/task/{several}/cancel", headers=SAME).status_code == 404


def test_tasks_that_are_gone_are_counted_as_unknown(site: Site) -> None:
    both = site.client.get(site.pages.url_for_many([site.stage.done(), UNKNOWN]))
    assert (both.status_code, "1 of 2 done, 1 unknown" in both.text) == (200, True)
    gone = site.client.get(site.pages.url_for_many([UNKNOWN]))
    assert (gone.status_code, "refresh" in gone.text) == (404, False)


def test_hostile_names_are_text(site: Site) -> None:
    page = site.client.get(
        site.pages.url_for_many([site.stage.done()], label=HOSTILE, labels=[HOSTILE])
    )
    assert "alert" in page.text
    assert "<script>" not in page.text


# -- how many --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 101])
def test_none_and_too_many_are_refused_with_the_number_and_the_remedy(
    site: Site, count: int
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{count} tasks.*1 to 100.*several links"):
        site.pages.url_for_many([UNKNOWN] * count)


def test_as_many_as_a_page_may_show_fit_into_an_address_with_names(site: Site) -> None:
    @site.app.task
    def resize(name: str) -> None:
        pass

    names = [f"holiday-{number}.png" for number in range(100)]
    url = site.pages.url_for_many(resize.delay_many([(name,) for name in names]), labels=names)
    assert len(url) < 7_000
    assert "0 of 100 done" in site.client.get(url).text


def test_labels_must_be_as_many_as_tasks(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="2 texts for 1 task"):
        site.pages.url_for_many([UNKNOWN], labels=["a", "b"])


def test_a_link_that_no_address_can_hold_is_refused(site: Site) -> None:
    labels = [hashlib.sha512(bytes([number])).hexdigest() for number in range(100)]
    with pytest.raises(ConfigurationError, match="shorter labels"):
        site.pages.url_for_many([UNKNOWN] * 100, labels=labels)


def test_the_tasks_of_all_tokens_of_a_page_are_bounded() -> None:
    site = Site(limits=Limits(tasks=3))
    two = site.pages.token_for_many([site.stage.done(), site.stage.done()])
    assert len(site.states(two, site.token(UNKNOWN))) == 4
    for path in ("states", "events"):
        answer = site.client.post(f"/a/b/{path}", json={"tokens": [two, two]}, headers=SAME)
        assert (answer.status_code, answer.text) == (400, "One page shows 1 to 3 tasks.\n")


# -- states and streams ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["states", "events"])
def test_the_whole_is_told_first_and_then_each_in_its_place(site: Site, way: str) -> None:
    token = site.pages.token_for_many(
        [site.stage.done(), site.stage.failed()], label="Imports", allow=["retry"]
    )
    told = getattr(site, way)("nonsense", token)
    seen = [(each["index"], each.get("place"), each["state"]["view"]["phase"]) for each in told]
    assert seen == [
        (0, None, Phase.REFUSED), (1, None, Phase.FAILED), (1, 0, Phase.DONE), (1, 1, Phase.FAILED)
    ]  # fmt: skip
    assert told[1]["state"]["view"]["headline"] == "1 of 2 done, 1 failed"
    assert told[3]["state"]["retry"] == "Try again"
    (alone,) = site.states(told[3]["state"]["token"])
    assert alone["state"]["view"]["phase"] == "failed"
