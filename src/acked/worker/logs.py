"""Log lines of worker processes: as text, or as JSON for collectors.

Text::

    2026-11-23 12:01:02.123 WARNING shop.scan[6f2a90c1d7e4] message
    2026-11-23 12:01:02.123 INFO acked.worker message

Inside a task a line begins with the task's name and the end of its id, otherwise with the logger's
name. Code that logs about a task without running inside it gives `extra`: ``task_id``,
``task_name``, and ``acked_traceback`` for a traceback it has as text. Every line passes through
`acked.redaction`, and a message is one line whatever it contains; only a traceback has lines of
its own, which are indented.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TextIO

from acked.errors import ConfigurationError
from acked.escaping import indented, one_line
from acked.logs import short_id
from acked.redaction import redact_text
from acked.request import current
from acked.signals import setup_logging
from acked.tasklog import LogLines, cut

FORMATS = ("text", "json")

KEPT_LEVEL = logging.INFO
"""Level from which on the lines of a task are kept with its attempt."""

Keep = Callable[[int, bytes], None]


class Stream(Protocol):
    """Where lines are written to."""

    def write(self, text: str, /) -> object: ...


def configure(
    level: str,
    log_format: str,
    stream: Stream | None = None,
    *,
    worker: str = "",
    keep: Keep | None = None,
) -> None:
    """Send what this process logs to *stream*.

    Leaves logging alone when the `setup_logging` signal has receivers: they are called instead,
    with Celery's arguments. What their loggers let through is kept all the same.

    Args:
        level: Of `logging`, by name.
        log_format: ``text`` or ``json``.
        stream: Where to; the process's standard error unless given.
        worker: Name of the worker, for JSON lines.
        keep: Called with the token of the running task and each line it logs, at `KEPT_LEVEL` and
            above whatever *level* is; the line is kept with the attempt as well.

    Raises:
        ConfigurationError: No such level or format.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigurationError(
            f"loglevel must be DEBUG, INFO, WARNING, ERROR or CRITICAL, got {level!r}."
        )
    if log_format not in FORMATS:
        raise ConfigurationError(f"log_format must be text or json, got {log_format!r}.")
    _never_raise()
    root = logging.getLogger()
    ours = (_Handler, _TaskHandler)
    root.handlers[:] = [each for each in root.handlers if not isinstance(each, ours)]
    if setup_logging.receivers:
        setup_logging.send(None, loglevel=number, logfile=None, format=log_format, colorize=False)
        if keep is not None:
            root.addHandler(_TaskHandler(keep))
        return
    handler = _Handler(stream if stream is not None else _own_stderr())
    handler.setFormatter(JSONFormatter(worker) if log_format == "json" else TextFormatter())
    handler.setLevel(number)
    root.handlers[:] = [handler]
    root.setLevel(number)
    if keep is not None:
        root.handlers.append(_TaskHandler(keep))
        root.setLevel(min(number, KEPT_LEVEL))
        # The worker's own lines are not the task's, and cost something each.
        logging.getLogger("acked").setLevel(number)
    logging.captureWarnings(True)


def _never_raise() -> None:
    """What a handler or a filter of the application raises ends no line of acked's own, or it
    would decide how an attempt ends, and end threads of the worker."""
    for name, known in list(logging.Logger.manager.loggerDict.items()):
        if name.partition(".")[0] == "acked" and isinstance(known, logging.Logger):
            handle = partial(_handle, type(known).handle, known)
            known.handle = handle  # type: ignore[method-assign] # for it alone


def _handle(
    handle: Callable[[logging.Logger, logging.LogRecord], None], logger: logging.Logger,
    record: logging.LogRecord,
) -> None:  # fmt: skip
    with contextlib.suppress(Exception):
        handle(logger, record)


def say_always(text: str) -> None:
    """Log *text* as INFO of the worker at every log level: whoever starts a worker wants to know
    that it runs."""
    logger = logging.getLogger("acked.worker")
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 0, text, (), None)
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, _Handler)]
    if handlers:
        handlers[0].handle(record)
    else:  # the application has set up its own
        logger.handle(record)


def _own_stderr() -> TextIO:
    """Standard error under a descriptor of its own, so that a task that closes or replaces
    `sys.stderr`, or descriptor 2, does not silence the worker."""
    try:
        descriptor = os.dup(2)
    except OSError:
        return sys.stderr
    return os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace")


class _Handler(logging.StreamHandler[Stream]):
    """A full disk or a closed pipe must not stop a worker from settling its tasks."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        pass


class _TaskHandler(logging.Handler):
    """Keeps what tasks log with their attempts, and with *keep*, for the case that their process
    is killed."""

    def __init__(self, keep: Keep) -> None:
        super().__init__(KEPT_LEVEL)
        self._keep = keep
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        request = current.get()
        if request.delivery is None or record.name.partition(".")[0] == "acked":
            return
        try:
            moment = time.strftime("%H:%M:%S", time.gmtime(record.created))
            below = _traceback(_plain, record)
            line = cut(
                f"{moment}.{int(record.msecs):03d} {record.levelname} {_message(record)}"
                + (f"\n{below}" if below else "")
            )
            # Half a character could not be stored.
            stored = line.encode(errors="replace")
            if request.lines is None:
                request.lines = LogLines()
            request.lines.add(stored.decode())
            # Not of what a task forked: it is no part of the process that would be killed, and a
            # thread that it does not have may hold a lock.
            if os.getpid() == self._pid:
                self._keep(request.delivery.token, stored)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        pass


_plain = logging.Formatter()


class TextFormatter(logging.Formatter):
    """One line for people, and an indented traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        task_id, task_name = _task_of(record)
        place = f"{task_name}[{short_id(task_id)}]" if task_id else record.name
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        line = (
            f"{moment}.{int(record.msecs):03d} {record.levelname} {one_line(place)} "
            f"{one_line(_message(record))}"
        )
        below = _traceback(self, record)
        return f"{line}\n{indented(below)}" if below else line


class JSONFormatter(logging.Formatter):
    """One JSON object on one line, in ASCII.

    Keys: time (ISO 8601, UTC), level, logger, message, worker, process (its id); task_id and
    task_name inside a task; exc, a formatted traceback, where there is one.
    """

    def __init__(self, worker: str = "") -> None:
        super().__init__()
        self.worker = worker

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "worker": self.worker,
            "process": record.process,
        }
        task_id, task_name = _task_of(record)
        if task_id:
            line["task_id"] = task_id
            line["task_name"] = task_name
        if below := _traceback(self, record):
            line["exc"] = below
        return json.dumps(line)


def _task_of(record: logging.LogRecord) -> tuple[str, str]:
    """Id and name of the task that *record* is about; empty when it is about none."""
    given = getattr(record, "task_id", None)
    if given is not None:
        return str(given), str(getattr(record, "task_name", ""))
    request = current.get()
    return request.id or "", request.task or ""


def _message(record: logging.LogRecord) -> str:
    try:
        return redact_text(record.getMessage())
    except Exception as error:
        # A wrong call of a logger is the caller's slip, and its line still says something.
        return redact_text(
            f"{record.msg!s} (its arguments could not be put in: {type(error).__name__})"
        )


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    # The worker hands on a failure's traceback as text: the exception may be long gone.
    given = getattr(record, "acked_traceback", "")
    parts = [str(given).rstrip("\n")] if given else []
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    if record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return redact_text("\n".join(parts))
