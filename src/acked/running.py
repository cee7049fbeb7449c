"""What a task can do about the run it is in: ask for a retry, report progress, save a checkpoint.

Everything here acts on `current`, the request of the attempt; nothing is kept on the task object.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from acked import errors, exact
from acked import message as messages
from acked.arguments import Arguments
from acked.calling import call_options, check_max_retries, delay_seconds, moment
from acked.chance import roll
from acked.errors import LeaseLost, NotSendable, Retry
from acked.failure import failure_of
from acked.options import TaskOptions
from acked.outcome import RetryAsked
from acked.progress import amount, counts_in
from acked.record import Progress
from acked.request import DIRECT, Request, current
from acked.retry import RetryPolicy, retry_after
from acked.sending import Application
from acked.shield import shielded

T = TypeVar("T")


class RunningTask:
    """The part of `Task` that works inside a run, on ``self``."""

    name: str
    app: Application
    options: TaskOptions
    arguments: Arguments
    MaxRetriesExceededError = errors.MaxRetriesExceededError

    @property
    def request(self) -> Request:
        """The attempt of this task that runs here; `called_directly` where none does."""
        request = current.get()
        message = request.message
        return request if message is None or message.task == self.name else DIRECT

    # -- retrying ----------------------------------------------------------------------------------

    def retry(  # noqa: PLR0917 - Celery's order
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | type[BaseException] | str | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """End this attempt and run the task again: ``raise self.retry(countdown=15)``.

        Nothing is scheduled before the function has ended; then the attempt's end and the next
        attempt are one write. From this call on the attempt ends as a retry, whatever the function
        does next: a broad ``except`` cannot turn it into a success.

        Args:
            args, kwargs: Arguments of the next attempt; the same ones if left out.
            exc: Why: an exception, its class, or a text. It is kept with the attempt, and raised
                when no retry is left.
            throw: False returns the `Retry` instead of raising it.
            eta: When, a datetime with a time zone; wins over `countdown`.
            countdown: Seconds to wait. With neither, what `exc` asks for (`Retry-After`), then the
                task's back-off, then `default_retry_delay`.
            max_retries: In place of the task's, for this call alone.
            options: Those of `apply_async` (`queue`, `priority`, `expires`, `time_limit`, ...),
                for this and later attempts.

        Raises:
            Retry: Unless `throw` is false.
            MaxRetriesExceededError: No retry is left and there is no `exc`.
            NotSendable: The new arguments or options cannot be sent.
        """
        request = self.request
        given = None if exc is None else _exception(exc)
        cause = given if given is not None else sys.exc_info()[1]
        if request.message is None or request.delivery is None:
            raise cause if cause is not None else Retry("the task was called directly")
        policy = request.policy.retry
        if max_retries is not None:
            check_max_retries(max_retries)
            policy = msgspec.structs.replace(policy, max_retries=max_retries)
        now = self.app.clock.now()
        if policy.exhausted(request.retries, age=now - request.delivery.sent):
            raise given if given is not None else self._exhausted(request)
        due = None if eta is None else moment("eta", eta)
        wait = self._wait(countdown, cause, policy, request.retries, now)
        asked = RetryAsked(
            wait=wait,
            eta=due,
            failure=None if cause is None else failure_of(cause),
            body=self._changed_body(request, args, kwargs, options, now),
        )
        request.retry_asked = asked
        retry = Retry(exc=given, when=eta or wait, is_eager=request.is_eager)
        if throw:
            raise retry
        return retry

    def _wait(
        self, countdown: float | None, cause: BaseException | None, policy: RetryPolicy,
        retries: int, now: float,
    ) -> float | None:  # fmt: skip
        """Seconds to wait; None leaves it to the policy's back-off."""
        if countdown is not None:
            return delay_seconds("countdown", countdown)
        asked = None if cause is None else retry_after(cause, now)
        if policy.backoff is None:
            return self.options.default_retry_delay if asked is None else asked
        if asked is None:
            return None
        return max(asked, policy.wait_after(retries, roll=roll()))

    def _exhausted(self, request: Request) -> errors.MaxRetriesExceededError:
        error = errors.MaxRetriesExceededError(
            f"cannot retry {self.name}[{request.id}]: no retry is left after {request.retries}"
        )
        error.task_args, error.task_kwargs = request.args, request.kwargs
        return error

    def _changed_body(
        self, request: Request, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any], now: float,
    ) -> bytes | None:  # fmt: skip
        """The message of the next attempt where it differs from this one's."""
        message = request.message
        if message is None or (args is None and kwargs is None and not options):
            return None
        changes = call_options(self.name, options, request.policy, now=now)
        if "id" in changes:
            raise NotSendable(f"cannot retry {self.name}: a retry keeps its task_id.")
        if args is not None or kwargs is not None:
            raw_args, raw_kwargs = self.arguments.dump(
                request.args if args is None else args,
                request.kwargs if kwargs is None else kwargs,
                limit=self.app.settings.max_message_size,
            )
            changes.update(args=msgspec.Raw(raw_args), kwargs=msgspec.Raw(raw_kwargs))
        return messages.encode(msgspec.structs.replace(message, **changes))

    # -- progress ----------------------------------------------------------------------------------

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far this run is: ``self.progress(3, 10, "resizing")``.

        Cheap enough for every step: it is written from another thread, ten times a second at
        most, and the latest one wins. It never fails for the broker.

        Args:
            done, total: In whatever is counted; a total of None or 0 is unknown.
            message: What it is doing.

        Raises:
            TypeError, ValueError: One of them is no number.
        """
        how_far = amount("done", done), 0.0 if total is None else amount("total", total)
        request = self.request
        if request.message is None:
            return
        before = request.progress or _NOTHING
        said = Progress(
            done=how_far[0], total=how_far[1], message=str(message), meta=before.meta,
            state=before.state, at=self.app.clock.now(),
        )  # fmt: skip
        request.report(said)

    def track(
        self, rows: Iterable[T], total: float | None = None, message: str = ""
    ) -> Iterator[T]:
        """Go through *rows* and report each as done: ``for row in self.track(rows): ...``.

        Args:
            rows: Anything to iterate over.
            total: How many; their length, where they have one.
            message: What is being done.
        """
        length = operator.length_hint(rows, 0) if total is None else total
        self.progress(0, length, message)
        for done, row in enumerate(rows, start=1):
            yield row
            self.progress(done, length, message)

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None
    ) -> None:
        """Set the state that is shown while this run goes on, and its `meta` (`AsyncResult.info`).

        ``meta={"current": 3, "total": 10}``, as Celery's users write it, is progress as well.
        Called directly it does nothing.

        Args:
            task_id: This task's own id, or left out.
            state: An upper-case name: ``PROGRESS``. Left out it stays what it was.
            meta: Any JSON value.

        Raises:
            NotSendable: `meta` has no JSON form, or the id is another task's.
        """
        request = self.request
        if task_id is not None and task_id != request.id:
            raise NotSendable(
                f"update_state is for the running task ({request.id}), not for {task_id!r}: only "
                "the worker that holds a task may write to it."
            )
        if state is not None and (not state or state != str(state).upper()):
            raise NotSendable(f"state must be an upper-case name such as PROGRESS, got {state!r}.")
        if request.message is None:
            return
        before = request.progress or _NOTHING
        # A copy: the task may go on changing the dict it gave.
        limit = self.app.settings.max_result_size
        copied = exact.decode(exact.dump_text("update_state(meta)", meta, limit=limit))
        done, total = counts_in(copied) or (before.done, before.total)
        own = Progress(
            done=done, total=total, message=before.message, meta=copied,
            state=state or before.state, at=self.app.clock.now(),
        )  # fmt: skip
        request.own_state = own
        request.report(own)

    # -- checkpoints -------------------------------------------------------------------------------

    def save(self, value: Any) -> None:
        """Keep *value*, durably when this returns, for `saved` of this and every later attempt.

        Raises:
            NotSendable: JSON would not give it back as it is.
            LeaseLost: The task was given to another worker; this run counts no more.
            BrokerError: It could not be stored.
        """
        request = self.request
        limit = self.app.settings.max_message_size
        checkpoint = exact.dump_exact(f"{self.name}: self.save", value, limit=limit)
        if request is DIRECT:
            return
        if request.records is not None and request.delivery is not None:
            held = request.delivery
            with shielded():
                kept = request.records.save(held.id, held.token, checkpoint)
            if not kept:
                raise LeaseLost(
                    f"{self.name}[{held.id}] was given to another worker; stop this attempt"
                )
        request.checkpoint = checkpoint

    @property
    def saved(self) -> Any:
        """What `save` kept last, in this attempt or an earlier one; None if nothing was."""
        request = self.request
        if request.checkpoint is None and request.records is not None and request.id is not None:
            request.checkpoint = request.records.saved(request.id)
        return None if request.checkpoint is None else exact.decode(request.checkpoint)


def _exception(given: BaseException | type[BaseException] | str) -> BaseException:
    """What was given to `retry` as its reason, as something that can be raised."""
    if isinstance(given, type):
        try:
            return given()
        except Exception:  # it takes arguments
            return Exception(given.__name__)
    return given if isinstance(given, BaseException) else Exception(given)


_NOTHING = Progress()
