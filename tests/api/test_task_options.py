"""What ``@app.task`` takes, and what follows from it."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from acked import (
    Acked,
    ConfigurationError,
    MaxRetriesExceededError,
    NotSendable,
    SoftTimeLimitExceeded,
    Task,
    TimeLimitExceeded,
)
from acked.instead import OF_A_TASK
from acked.message import Message
from acked.outcome import TaskPolicy
from acked.retry import RetryPolicy


def made(app: Acked, **options: Any) -> Task[..., Any]:
    app.tasks.pop("t", None)
    return app.task(name="t", **options)(lambda: None)


def test_the_defaults_lose_nothing(app: Acked) -> None:
    @app.task
    def ping() -> None: ...

    assert ping.policy == TaskPolicy()
    assert ping.policy.acks_late
    assert ping.policy.reject_on_worker_lost
    assert ping.policy.max_losses == 3
    assert ping.policy.retry == RetryPolicy(max_retries=3, delay=180.0)


def test_options_become_the_policy(app: Acked) -> None:
    task = made(
        app, acks_late=False, reject_on_worker_lost=False, max_losses=5, max_retries=None,
        default_retry_delay=9, retry_backoff=True, retry_backoff_max=100, retry_jitter=False,
        retry_for=timedelta(hours=1), soft_time_limit=5, time_limit=10, ignore_result=True,
    )  # fmt: skip
    assert task.policy == TaskPolicy(
        retry=RetryPolicy(
            max_retries=None, delay=9, backoff=1.0, backoff_max=100, jitter=0.0, retry_for=3600
        ),
        acks_late=False, reject_on_worker_lost=False, max_losses=5, soft_time_limit=5,
        time_limit=10, ignore_result=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("jitter", "share"), [({}, 0.5), ({"retry_jitter": True}, 1.0), ({"retry_jitter": 0.2}, 0.2)]
)
def test_jitter_is_bounded_unless_full_jitter_is_asked_for(
    app: Acked, jitter: dict[str, Any], share: float
) -> None:
    assert made(app, retry_backoff=2, **jitter).policy.retry.jitter == share


def test_retry_kwargs_are_celerys_way_to_say_the_same(app: Acked) -> None:
    task = made(app, autoretry_for=(OSError,), retry_kwargs={"max_retries": 7, "countdown": 2})
    assert task.policy.retry == RetryPolicy(max_retries=7, delay=2)
    assert task.max_retries == 7


def test_a_limit_of_zero_is_none(app: Acked) -> None:
    task = made(app, soft_time_limit=0, time_limit=0)
    assert (task.soft_time_limit, task.time_limit) == (None, None)


def test_none_takes_the_setting() -> None:
    app = Acked(
        "shop", broker="memory://", task_time_limit=60, task_soft_time_limit=50,
        task_acks_late=False,
    )  # fmt: skip
    task = made(app, time_limit=None, soft_time_limit=None, acks_late=None, ignore_result=None)
    assert (task.time_limit, task.soft_time_limit) == (60, 50)
    assert (task.acks_late, task.ignore_result) == (False, False)


def test_track_started_is_taken_and_starts_are_always_tracked(app: Acked) -> None:
    assert made(app, track_started=False).policy == TaskPolicy()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_retry": 3}, "unknown option 'max_retry'. Did you mean 'max_retries'?"),
        ({"nonsense": 3}, "unknown option 'nonsense'. Known: acks_late"),
        ({"rate_limit": "fast"}, "rate_limit='fast' is no rate. Write how many may start in"),
        ({"soft_time_limit": 10, "time_limit": 10}, "must be shorter than time_limit=10"),
        ({"time_limit": -1}, "time_limit must be from 0"),
        ({"time_limit": "10"}, "time_limit must be a number of seconds"),
        ({"max_retries": -1}, "max_retries must be a number from 0"),
        ({"max_retries": True}, "max_retries must be a number from 0"),
        ({"max_losses": 0}, "max_losses must be a number from 1"),
        ({"max_losses": None}, "max_losses must be a number from 1"),
        ({"acks_late": 1}, "acks_late must be True or False, got 1"),
        ({"serializer": "json"}, "'serializer' has no meaning here (messages are JSON). Leave it"),
        ({"typing": False}, "'typing' has no meaning here (a call is always checked"),
        ({"acks_on_failure_or_timeout": True}, "(the retry policy decides what follows"),
        ({"acks_on_failure": False}, "(the retry policy decides what follows"),
        ({"acks_on_timeout": False}, "(the retry policy decides what follows"),
        ({"exchange": "shop"}, "(brokers here have queues alone: use queue=). Leave it out."),
        ({"routing_key": "shop.slow"}, "(brokers here have queues alone: use queue=)"),
        ({"autoretry_for": (1,)}, "autoretry_for must be exception classes"),
        ({"throws": "ValueError"}, "throws must be exception classes"),
        ({"retry_backoff": 700}, "longer than retry_backoff_max=600"),
        ({"retry_backoff": -1}, "retry_backoff must be from 0"),
        ({"retry_jitter": 2}, "retry_jitter must be"),
        ({"retry_kwargs": {"eta": 1}}, "retry_kwargs takes max_retries and countdown"),
        ({"max_retries": 2, "retry_kwargs": {"max_retries": 3}}, "contradict each other"),
        ({"retry_for_result": 5}, "must be a function"),
        ({"queue": ""}, "queue must be a name"),
        ({"queue": "mails,slow"}, "without commas and blanks, got 'mails,slow'"),
        ({"queue": "slow mails"}, "without commas and blanks, got 'slow mails'"),
        ({"priority": 1000}, "priority must be"),
        ({"expires": -5}, "expires must be"),
        ({"default_retry_delay": None}, "default_retry_delay must be a number"),
    ],
)
def test_an_option_that_cannot_work_is_refused_where_it_is_written(
    app: Acked, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match="^task t: ") as refused:
        made(app, **options)
    assert said in str(refused.value)
    assert app.tasks == {}


def test_a_name_too_long_to_be_read_back_is_refused(app: Acked) -> None:
    with pytest.raises(ConfigurationError, match="at most 1000 characters, got 'xxx"):
        app.task(name="x" * 1001)(lambda: None)
    for name in ("x" * 1001, "half a character: \ud800"):
        with pytest.raises(NotSendable, match="at most 1000 characters"):
            app.send_task(name)


def test_the_options_an_error_lists_are_those_that_can_be_given(app: Acked) -> None:
    with pytest.raises(ConfigurationError) as refused:
        made(app, nonsense=3)
    listed = str(refused.value).partition("Known: ")[2].rstrip(".").split(", ")
    assert {"bind", "base", "name", "queue"} <= set(listed)
    assert "rate_limit" in listed


def test_options_can_be_read_from_the_task_and_not_changed(app: Acked) -> None:
    task = made(app, max_retries=5, queue="slow")
    assert (task.name, task.max_retries, task.queue, task.acks_late) == ("t", 5, "slow", True)
    with pytest.raises(AttributeError, match="shared by every run"):
        task.max_retries = 6
    task.connection = "one for each process"  # type: ignore[attr-defined]  # a user's own


def test_settings_are_the_defaults_of_tasks() -> None:
    app = Acked(
        "shop", broker="memory://", task_default_queue="main", task_time_limit=60,
        task_soft_time_limit=50, task_acks_late=False, task_ignore_result=True,
    )  # fmt: skip
    policy = made(app).policy
    assert (policy.acks_late, policy.ignore_result) == (False, True)
    assert (policy.soft_time_limit, policy.time_limit) == (50, 60)
    assert made(app, time_limit=0).policy.time_limit is None


class Patient(Task[..., Any]):
    autoretry_for = (OSError,)
    max_retries = 8
    retry_backoff = 2
    seen: list[Any]

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        del task_id, args, kwargs, einfo
        self.seen = [exc]


def test_a_base_class_brings_defaults_and_hooks(app: Acked) -> None:
    task = made(app, base=Patient, retry_backoff=4)
    assert isinstance(task, Patient)
    assert (task.max_retries, task.autoretry_for) == (8, (OSError,))
    assert task.policy.retry.max_retries == 8
    assert task.policy.retry.backoff == 4
    assert task.has_hooks


def test_an_option_of_a_base_class_that_means_nothing_is_refused(app: Acked) -> None:
    class Typed(Task[..., Any]):
        serializer = "json"

    with pytest.raises(ConfigurationError, match="'serializer' has no meaning here"):
        made(app, base=Typed)


def test_an_attribute_of_a_base_class_that_looks_like_an_option_is_warned_of(app: Acked) -> None:
    class Hasty(Task[..., Any]):
        soft_time_limt = 3
        timeout = 5

    with pytest.warns(UserWarning, match="Hasty.soft_time_limt is not an option of a task. Did y"):
        assert made(app, base=Hasty).soft_time_limit is None


def test_retry_kwargs_of_a_task_win_over_its_base(app: Acked) -> None:
    assert made(app, base=Patient, retry_kwargs={"max_retries": 9}).max_retries == 9


@pytest.mark.parametrize("base", ["shop.Base", dict, made])
def test_what_cannot_be_a_base_class_is_refused(app: Acked, base: Any) -> None:
    with pytest.raises(ConfigurationError, match="^base must be a subclass of acked.Task, got"):
        made(app, base=base)


def test_a_base_class_may_say_that_it_is_abstract_as_celerys_do(app: Acked) -> None:
    class Base(Task[..., Any]):
        abstract = True
        max_retries = 8

    assert made(app, base=Base).max_retries == 8


def test_an_option_of_a_class_wins_over_retry_kwargs_of_its_base(app: Acked) -> None:
    class Stubborn(Task[..., Any]):
        retry_kwargs: ClassVar = {"max_retries": 9}

    class Hasty(Stubborn):
        max_retries = 1

    assert made(app, base=Stubborn).max_retries == 9
    assert made(app, base=Hasty).max_retries == 1


def test_an_error_in_a_property_of_a_base_class_is_raised_as_it_is(app: Acked) -> None:
    class Connected(Task[..., Any]):
        @property
        def database(self) -> Any:
            return None.cursor()  # type: ignore[attr-defined]  # the mistake that is tested

    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'cursor'"):
        _ = made(app, base=Connected).database


def test_a_hook_can_be_assigned_to_one_task(app: Acked) -> None:
    task, other = made(app), app.task(name="other")(lambda: None)
    task.on_success = lambda *_: None  # type: ignore[method-assign]  # what is tested
    assert task.has_hooks
    assert not other.has_hooks


class Contextual(Task[..., Any]):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ("in context", super().__call__(*args, **kwargs))


def test_a_base_class_may_wrap_the_call(app: Acked) -> None:
    @app.task(base=Contextual, bind=True)
    def who(self: Any) -> Any:
        return self.request.called_directly

    assert who() == ("in context", True)
    assert who.apply().get() == ("in context", False)


def test_autoretry_for_exception_covers_the_soft_limit_too(app: Acked) -> None:
    task = made(app, autoretry_for=(Exception,), dont_autoretry_for=(KeyError,))
    assert task.covers(ValueError())
    assert task.covers(SoftTimeLimitExceeded())
    assert task.policy.retries_time_limit
    assert not task.covers(KeyError())
    assert not task.covers(SystemExit())
    assert not task.covers(MaxRetriesExceededError())


def test_autoretry_of_nothing_covers_nothing(app: Acked) -> None:
    task = made(app)
    assert not task.covers(ValueError())
    assert not task.policy.retries_time_limit


def test_limits_are_retried_when_they_are_listed(app: Acked) -> None:
    task = made(app, autoretry_for=(SoftTimeLimitExceeded, TimeLimitExceeded))
    assert task.covers(SoftTimeLimitExceeded())
    assert task.policy.retries_time_limit
    assert not task.covers(ValueError())
    held_back = made(app, autoretry_for=Exception, dont_autoretry_for=TimeLimitExceeded)
    assert not held_back.policy.retries_time_limit


def test_throws_lists_what_is_expected(app: Acked) -> None:
    task = made(app, throws=(KeyError,))
    assert task.expects(KeyError())
    assert not task.expects(ValueError())


def test_the_policy_is_made_once_unless_the_message_overrides_it(app: Acked) -> None:
    task = made(app, soft_time_limit=5, time_limit=10)
    plain = Message(id="1", task="t")
    assert task.policy_for(plain) is task.policy
    changed = task.policy_for(
        Message(id="1", task="t", max_retries=9, soft_time_limit=0.0, ignore_result=True)
    )
    assert changed.retry.max_retries == 9
    assert (changed.soft_time_limit, changed.time_limit) == (None, 10)
    assert changed.ignore_result


def test_a_task_is_called_like_the_function_it_is_made_of(app: Acked) -> None:
    @app.task(bind=True)
    def add(self: Any, a: int, b: int = 2) -> tuple[bool, int]:
        """Add."""
        return self.request.called_directly, a + b

    assert add(1) == (True, 3)
    assert (add.__name__, add.__doc__) == ("add", "Add.")


@pytest.mark.parametrize("name", sorted(OF_A_TASK))
def test_what_a_task_of_celery_has_besides_says_what_to_do_instead(app: Acked, name: str) -> None:
    task = made(app)
    with pytest.raises(AttributeError, match=f"^a task has no '{name}': ") as missing:
        getattr(task, name)
    assert OF_A_TASK[name] in str(missing.value)
    assert not hasattr(task, name)


def test_a_task_can_be_copied_and_asked_for_what_it_has_not(app: Acked) -> None:
    task = made(app)
    assert copy.copy(task).name == task.name
    with pytest.raises(AttributeError, match="^a task has no 'nonsense'.$"):
        _ = task.nonsense
