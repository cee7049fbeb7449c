"""What a call of `delay` or `apply_async` stores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from acked import Acked, BrokerUnavailable, NotSendable
from acked.brokers.memory import MemoryBroker
from acked.clock import ManualClock
from acked.delivery import State
from acked.message import Message, decode, decode_arguments
from tests.api.inline import record_of, run_next


def message_of(app: Acked, task_id: str) -> Message:
    return decode(record_of(app, task_id).body)


@pytest.fixture
def scan(app: Acked) -> Any:
    @app.task(name="scan", soft_time_limit=5, time_limit=10)
    def scan(url: str, depth: int = 1) -> None: ...

    return scan


def test_a_call_is_in_the_broker_when_delay_returns(app: Acked, scan: Any) -> None:
    result = scan.delay("a", depth=2)
    record = record_of(app, result.id)
    assert (record.task, record.queue, record.state) == ("scan", "default", State.QUEUED)
    assert decode_arguments(message_of(app, result.id)) == (["a"], {"depth": 2})


def test_ids_cannot_be_guessed_and_grow_with_time(app: Acked, scan: Any) -> None:
    ids = [scan.delay("a").id for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(len(each) == 44 for each in ids)
    assert [each[:12] for each in ids] == sorted(each[:12] for each in ids)


def test_delay_raises_when_the_broker_is_away_and_nothing_is_stored() -> None:
    class Away(MemoryBroker):
        def send(self, messages: Any) -> None:
            raise BrokerUnavailable("away")

    app = Acked("shop", broker=Away())

    @app.task
    def scan() -> None: ...

    with pytest.raises(BrokerUnavailable):
        scan.delay()


def test_arguments_that_are_no_list_are_refused(app: Acked, scan: Any) -> None:
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: scan.apply_async(1), "args must be a list or tuple, got 1"),
        (lambda: scan.apply_async("ab"), "args must be a list or tuple, got 'ab'"),
        (lambda: scan.apply_async({"url": "a"}), "args must be a list or tuple, got {'url'"),
        (lambda: scan.apply_async(("a",), [3]), "kwargs must be a dict, got [3]"),
        (lambda: scan.delay_many(["ab", "cd"]), "got 'ab': apply_async((1,)), delay_many([(1,)"),
        (lambda: scan.delay_many([1, 2]), "args must be a list or tuple, got 1"),
    ]
    for call, said in wrong:
        with pytest.raises(NotSendable, match=r"^cannot send scan: ") as refused:
            call()
        assert said in str(refused.value)
    assert app.broker.counts() == []


def test_a_queue_name_that_the_worker_would_split_is_refused(scan: Any) -> None:
    with pytest.raises(NotSendable, match="without commas and blanks, got 'a,b'"):
        scan.apply_async(("a",), queue="a,b")


def test_countdown_schedules_from_now(app: Acked, scan: Any, clock: ManualClock) -> None:
    record = record_of(app, scan.apply_async(("a",), countdown=30).id)
    assert record.state is State.SCHEDULED
    assert record.due == clock.now() + 30


def test_countdown_takes_a_timedelta(app: Acked, scan: Any, clock: ManualClock) -> None:
    result = scan.apply_async(("a",), countdown=timedelta(minutes=1))
    assert record_of(app, result.id).due == clock.now() + 60


def test_eta_is_the_moment_it_names_in_any_time_zone(
    app: Acked, scan: Any, clock: ManualClock
) -> None:
    due = datetime.fromtimestamp(clock.now() + 3600, timezone(timedelta(hours=5)))
    assert record_of(app, scan.apply_async(("a",), eta=due).id).due == due.timestamp()


def test_eta_wins_over_countdown(app: Acked, scan: Any, clock: ManualClock) -> None:
    due = datetime.fromtimestamp(clock.now() + 3600, UTC)
    for options in ({"eta": due, "countdown": 1}, {"countdown": 1, "eta": due}):
        assert record_of(app, scan.apply_async(("a",), **options).id).due == due.timestamp()


def test_expires_is_seconds_or_a_moment(app: Acked, scan: Any, clock: ManualClock) -> None:
    moment = datetime.fromtimestamp(clock.now() + 9, UTC)
    assert message_of(app, scan.apply_async(("a",), expires=9).id).expires == clock.now() + 9
    assert message_of(app, scan.apply_async(("a",), expires=moment).id).expires == clock.now() + 9


def test_a_tasks_own_expires_counts_from_each_call(app: Acked, clock: ManualClock) -> None:
    @app.task(expires=60)
    def ping() -> None: ...

    assert message_of(app, ping.delay().id).expires == clock.now() + 60
    assert message_of(app, ping.apply_async(expires=5).id).expires == clock.now() + 5


def test_the_options_of_the_call_go_along_with_the_message(app: Acked, scan: Any) -> None:
    result = scan.apply_async(
        ("a",), queue="slow", priority=7, task_id="my-id", max_retries=9, soft_time_limit=1,
        time_limit=0, ignore_result=True, headers={"trace": "x"},
    )  # fmt: skip
    message = message_of(app, "my-id")
    assert result.id == "my-id"
    assert (message.queue, message.priority, message.max_retries) == ("slow", 7, 9)
    assert (message.soft_time_limit, message.time_limit) == (1.0, 0.0)
    assert message.ignore_result is True
    assert message.headers == {"trace": "x"}


def test_an_option_that_is_none_is_inherited(app: Acked, scan: Any) -> None:
    message = message_of(app, scan.apply_async(("a",), time_limit=None, queue=None).id)
    assert scan.policy_for(message).time_limit == 10
    assert message.queue == "default"


def test_a_limit_of_zero_is_no_limit(app: Acked, scan: Any) -> None:
    message = message_of(app, scan.apply_async(("a",), time_limit=0).id)
    assert scan.policy_for(message).time_limit is None
    assert scan.policy_for(message).soft_time_limit == 5


def test_the_task_says_its_queue_and_priority(app: Acked) -> None:
    @app.task(queue="slow", priority=3)
    def ping() -> None: ...

    record = record_of(app, ping.delay().id)
    assert (record.queue, record.priority) == ("slow", 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"countdown": 1e12}, "countdown must be from 0"),
        ({"countdown": "5"}, "countdown must be a number"),
        ({"countdown": True}, "countdown must be a number"),
        ({"countdown": float("nan")}, "countdown must be"),
        ({"eta": 5}, "For seconds from now use countdown"),
        ({"eta": datetime(2030, 1, 1)}, "no time zone"),
        ({"expires": float("nan")}, "expires must be"),
        ({"expires": datetime(2030, 1, 1)}, "no time zone"),
        ({"queue": ""}, "queue must be a name"),
        ({"queue": "a\nb"}, "queue must be a name"),
        ({"queue": "q" * 101}, "1 to 100"),
        ({"queue": 5}, "queue must be a name"),
        ({"priority": 256}, "from -255 to 255"),
        ({"priority": 1.5}, "whole number"),
        ({"priority": True}, "whole number"),
        ({"task_id": ""}, "task_id must be a str"),
        ({"task_id": "i" * 201}, "1 to 200"),
        ({"task_id": "\ud800"}, "task_id must be a str"),
        ({"task_id": 5}, "task_id must be a str"),
        ({"max_retries": -1}, "max_retries must be"),
        ({"ignore_result": 1}, "True or False"),
        ({"headers": [1]}, "headers must be a dict"),
        ({"headers": {"at": datetime(2030, 1, 1)}}, "headers"),
        ({"soft_time_limit": 10}, "soft_time_limit=10 must be shorter than time_limit=10"),
        ({"soft_time_limit": 20, "time_limit": 15}, "must be shorter"),
        ({"time_limit": 4}, "soft_time_limit=5 must be shorter than time_limit=4"),
        ({"count_down": 5}, "Did you mean 'countdown'"),
        ({"x": 5}, "Known: countdown, eta"),
        ({"serializer": "pickle"}, "messages are JSON"),
        ({"link": None, "routing_key": "a"}, "use queue="),
        ({"retry": False}, "either is stored or raises"),
    ],
)
def test_an_option_that_cannot_work_is_refused_and_nothing_is_stored(
    app: Acked, scan: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(NotSendable, match="cannot send scan") as refused:
        scan.apply_async(("a",), **options)
    assert said in str(refused.value)
    assert app.records.counts() == []


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument: 'url'"),
        (("a", 1, 2), {}, "too many positional arguments"),
        (("a",), {"dept": 2}, "unexpected keyword argument 'dept'"),
        (("a",), {"url": "b"}, "multiple values for argument 'url'"),
    ],
)
def test_a_call_that_does_not_fit_the_function_names_its_signature(
    scan: Any, args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(TypeError, match=said) as refused:
        scan.delay(*args, **kwargs)
    assert "scan(url: str, depth: int = 1)" in str(refused.value)


def test_keyword_only_and_variable_parameters_are_checked(app: Acked) -> None:
    @app.task
    def free(*rest: int, key: int, **extra: int) -> None: ...

    free.delay(1, 2, key=3, other=4)
    with pytest.raises(NotSendable, match="missing a required argument: 'key'"):
        free.apply_async((1, 2))


def test_a_task_sent_inside_a_task_knows_its_parent_and_root(app: Acked) -> None:
    @app.task
    def leaf() -> None: ...

    @app.task
    def middle() -> str:
        return leaf.delay().id

    @app.task
    def top() -> str:
        return middle.delay().id

    first = top.delay()
    run_next(app)
    second = first.get()
    run_next(app)
    third = app.AsyncResult(second).get()
    assert message_of(app, first.id).parent_id is None
    assert message_of(app, second).parent_id == first.id
    assert message_of(app, third).parent_id == second
    assert message_of(app, third).root_id == first.id


def test_a_function_called_inside_a_task_sends_as_that_task(app: Acked) -> None:
    @app.task
    def leaf() -> None: ...

    @app.task
    def plain() -> str:
        return leaf.delay().id

    @app.task
    def top() -> str:
        return plain()

    first = top.delay()
    run_next(app)
    assert message_of(app, first.get()).parent_id == first.id


def test_a_task_of_another_process_is_sent_by_name(app: Acked) -> None:
    result = app.send_task("mail.send", (1, {"any": "thing"}), {"key": None}, queue="mail")
    message = message_of(app, result.id)
    assert (message.task, message.queue) == ("mail.send", "mail")
    assert decode_arguments(message) == ([1, {"any": "thing"}], {"key": None})


def test_send_task_checks_arguments_that_are_known(app: Acked, scan: Any) -> None:
    with pytest.raises(NotSendable, match="missing a required argument"):
        app.send_task("scan")


def test_many_calls_are_stored_five_thousand_to_a_write(app: Acked, scan: Any) -> None:
    writes: list[int] = []
    send = app.broker.send

    def counting(messages: Any) -> None:
        writes.append(len(messages))
        send(messages)

    app.broker.send = counting  # type: ignore[method-assign]  # watches the writes
    results = scan.delay_many((f"u{n}",) for n in range(12_500))
    assert writes == [5000, 5000, 2500]
    assert decode_arguments(message_of(app, results[12_499].id)) == (["u12499"], {})


def failing_at(app: Acked, write: int, error: BrokerUnavailable, *, stored: bool) -> None:
    """The write of that number fails, whether or not it was *stored*."""
    send, writes = app.broker.send, iter(range(1, 10))

    def failing(messages: Any) -> None:
        number = next(writes)
        if number != write or stored:
            send(messages)
        if number == write:
            raise error

    app.broker.send = failing  # type: ignore[method-assign]  # as an engine that goes away


@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
def test_who_sends_many_calls_can_go_on_where_the_broker_went_away(
    app: Acked, scan: Any, *, stored: bool
) -> None:
    failing_at(app, 2, BrokerUnavailable("away"), stored=stored)
    calls = [(f"u{n}",) for n in range(12_000)]
    with pytest.raises(BrokerUnavailable, match="The first 5000 calls are stored") as failure:
        scan.delay_many(calls)
    error = failure.value
    assert (len(error.stored_ids), len(error.unsure_ids)) == (5000, 5000)
    assert decode_arguments(message_of(app, error.stored_ids[4999])) == (["u4999"], {})

    known = [*error.stored_ids, *error.unsure_ids]
    app.send_many(scan.s(*call).set(task_id=each) for call, each in zip(calls, known, strict=False))
    scan.delay_many(calls[len(known) :])
    (counts,) = app.records.counts()
    assert counts.queued == 12_000


def test_calls_that_are_certainly_not_stored_have_no_unsure_ids(app: Acked, scan: Any) -> None:
    failing_at(app, 2, BrokerUnavailable("away", nothing_stored=True), stored=False)
    with pytest.raises(BrokerUnavailable) as failure:
        scan.delay_many((f"u{n}",) for n in range(12_000))
    assert (len(failure.value.stored_ids), failure.value.unsure_ids) == (5000, ())


def test_the_error_of_one_call_names_the_task_that_may_be_stored(app: Acked, scan: Any) -> None:
    failing_at(app, 1, BrokerUnavailable("away"), stored=True)
    with pytest.raises(BrokerUnavailable) as failure:
        scan.apply_async(("a",), task_id="order-4711")
    assert failure.value.unsure_ids == ("order-4711",)


def test_a_wrong_call_among_many_stores_none_of_them(app: Acked, scan: Any) -> None:
    with pytest.raises(NotSendable, match="missing"):
        scan.delay_many([("a",), ()])
    assert app.records.counts() == []


def test_many_calls_share_their_options(app: Acked, scan: Any, clock: ManualClock) -> None:
    results = scan.delay_many([("a",), ("b",)], countdown=9, queue="slow")
    assert {record_of(app, each.id).due for each in results} == {clock.now() + 9}
    assert {record_of(app, each.id).queue for each in results} == {"slow"}
    with pytest.raises(NotSendable, match="cannot share one task_id"):
        scan.delay_many([("a",)], task_id="x")


async def _send_in_every_way(scan: Any) -> list[Any]:
    return [
        await scan.adelay("a"),
        await scan.aapply_async(("a",), countdown=5),
        *await scan.adelay_many([("a",), ("b",)]),
    ]


def test_coroutines_send_in_the_same_ways(app: Acked, scan: Any) -> None:
    results = asyncio.run(_send_in_every_way(scan))
    assert [each.state for each in results] == ["PENDING"] * 4


def test_sent_is_the_time_of_the_call(scan: Any, app: Acked, clock: ManualClock) -> None:
    assert message_of(app, scan.delay("a").id).sent == clock.now()
    assert abs(clock.now() - time.time()) < 3600
