"""What tasks log with, and how a task is named in a line."""

from __future__ import annotations

import logging

SHORT_ID = 12
"""Characters of a task id's end that are shown where space is short. Ids begin with the time, so
that neighbours differ at their end; `acked show` takes such an ending."""


def get_task_logger(name: str) -> logging.Logger:
    """Celery's name for `logging.getLogger`.

    A worker adds the running task's name and id to every line logged inside a task, whichever
    logger it comes from.
    """
    return logging.getLogger(name)


def short_id(task_id: str) -> str:
    """The end of *task_id*, for people."""
    return task_id[-SHORT_ID:]
