"""Running a task by hand: a form for the call, then a page that asks, then the call is sent."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from acked.dashboard.desk import Desk, Visit, led_back
from acked.dashboard.rerun import WrongInput, parse, restored
from acked.dashboard.words import data
from acked.errors import AckedError, MessageUnreadable
from acked.message import Message, decode, decode_arguments
from acked.record import Record
from acked.redaction import redact, redact_positional
from acked.story import parameter_names
from acked.task import Task


class _Call(msgspec.Struct, kw_only=True):
    """What the form for a call shows."""

    task: str
    args: str
    kwargs: str
    queue: str = ""
    countdown: str = ""
    priority: str = ""
    again: str = ""


def _may_not_send(desk: Desk, visit: Visit) -> Response:
    return desk.wrong(visit, "Not permitted", f"{visit.visitor.name} may not run tasks.", 403)


async def ask_run(desk: Desk, visit: Visit) -> Response:
    """The form for a call, filled in from a task that was sent before, or from a signature."""
    if not visit.may("send"):
        return _may_not_send(desk, visit)
    again, name = visit.asked("again"), visit.asked("task")
    if not again:
        kwargs = await desk.in_thread(desk.reader.call, name) if name in desk.app.tasks else {}
        return _form(desk, visit, _Call(task=name, args="[]", kwargs=data(kwargs)))
    record = await desk.in_thread(desk.app.records.get, again)
    if record is None:
        return desk.wrong(visit, "No such task", f"No task has the id {again[:200]!r}.", 404)
    try:
        _, shown = _arguments(desk, record)
    except MessageUnreadable as error:
        return desk.wrong(visit, "Not readable", f"Its message cannot be read: {error}", 409)
    call = _Call(
        task=record.task, args=data(shown[0]), kwargs=data(shown[1]), queue=record.queue,
        priority=str(record.priority or ""), again=again,
    )  # fmt: skip
    return _form(desk, visit, call)


async def run(desk: Desk, visit: Visit) -> Response:
    """Ask whether the call is meant so; where that was said, send it."""
    call = _Call(**{name: visit.typed(name) for name in _Call.__struct_fields__})
    step = visit.typed("step")
    if not visit.may("send"):
        desk.note(visit, "send", target=call.task, outcome="not permitted")
        return _may_not_send(desk, visit)
    if step == "edit":
        return _form(desk, visit, call)
    try:
        meant = await desk.in_thread(_meant, desk, call)
        if step != "send":
            return _asked(desk, visit, call, meant)
        sent = await desk.in_thread(meant.send)
    except WrongInput as error:
        return _form(desk, visit, call, wrong=str(error))
    except AckedError as error:
        if not isinstance(error, TypeError):  # NotSendable is one
            desk.note(visit, "send", target=call.task, outcome=f"failed: {error}")
            raise
        return _form(desk, visit, call, wrong=str(error))
    target = f"{call.task} as {sent}" + (f", again after {call.again}" if call.again else "")
    entry = desk.note(visit, "send", target=target, count=1)
    return led_back(visit, "/task", id=sent, entry=entry.number)


class _Meant(msgspec.Struct, frozen=True):
    """A call that can be sent."""

    task: Task[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    message: Message

    def send(self) -> str:
        """Send it; its id."""
        return self.task.apply_async(self.args, self.kwargs, **self.options).id


def _meant(desk: Desk, call: _Call) -> _Meant:
    """What *call* says.

    Raises:
        WrongInput, NotSendable: It is no call of a task; the text says why.
    """
    task = desk.app.tasks.get(call.task)
    if task is None:
        raise WrongInput(
            f"{call.task!r} is not registered in the application that this dashboard was started "
            "with, so its arguments could not be checked. Is its module imported by that one?"
        )
    args = parse(call.args, "Positional arguments", list)
    kwargs = parse(call.kwargs, "Keyword arguments", dict)
    if call.again:
        record = desk.app.records.get(call.again)
        if record is None or record.task != call.task:
            raise WrongInput("The task that this call came from is gone. Type it anew.")
        real, shown = _arguments(desk, record)
        args, kwargs = restored(args, shown[0], real[0]), restored(kwargs, shown[1], real[1])
    options: dict[str, Any] = {}
    if call.queue:
        options["queue"] = call.queue
    for name, kind in (("countdown", float), ("priority", int)):
        if text := getattr(call, name).strip():
            try:
                options[name] = kind(text)
            except ValueError:
                raise WrongInput(f"{name}: {text!r} is no number.") from None
    return _Meant(task, args, kwargs, options, task.message(args, kwargs, options))


Arguments = tuple[list[Any], dict[str, Any]]


def _arguments(desk: Desk, record: Record) -> tuple[Arguments, Arguments]:
    """Those of *record* as they are, and as they are shown."""
    args, kwargs = decode_arguments(decode(record.body))
    names = parameter_names(desk.app, record.task)
    return (args, kwargs), (redact_positional(args, names), redact(kwargs))


def _form(desk: Desk, visit: Visit, call: _Call, wrong: str = "") -> Response:
    task = desk.app.tasks.get(call.task)
    signature = task.arguments.shown if task is not None else ""
    return desk.show(
        visit, "run", status=400 if wrong else 200, call=call, wrong=wrong, signature=signature,
        known=sorted(desk.app.tasks),
    )  # fmt: skip


def _asked(desk: Desk, visit: Visit, call: _Call, meant: _Meant) -> Response:
    fields = [(name, getattr(call, name)) for name in _Call.__struct_fields__]
    return desk.show(visit, "run_confirm", call=call, message=meant.message, fields=fields)
