"""What Celery's package and its applications have and ours have not, and what to do instead."""

from __future__ import annotations

_BY_HAND = "app.send_many() sends several at once, and a task may send the next one"
_CRON = "periodic tasks are not available yet: let cron call delay()"
_GIVE_SETTINGS = "give settings to Acked(...), or later to app.configure(...)"
_IMPORT_IT = "make an application, app = Acked(...), and import it where its tasks are defined"
_NO_BROADCAST = (
    "the commands `acked status`, `acked list` and `acked revoke` read and write records"
)

OF_THE_PACKAGE = {
    "Celery": "Acked is the application",
    "chain": _BY_HAND,
    "chord": _BY_HAND,
    "chunks": _BY_HAND,
    "current_app": _IMPORT_IT,
    "current_task": "@app.task(bind=True) gives a task itself as its first argument",
    "group": _BY_HAND,
    "shared_task": _IMPORT_IT,
    "signature": "task.s(...) and task.si(...) make one",
}
"""For names that are imported."""

OF_AN_APPLICATION = {
    "add_periodic_task": _CRON,
    "autodiscover_tasks": (
        "start the worker with the module that imports all your tasks: acked worker scans:app"
    ),
    "backend": "results are kept with the tasks: app.AsyncResult(task_id)",
    "config_from_object": _GIVE_SETTINGS,
    "control": _NO_BROADCAST,
    "main": "app.name is its name",
    "on_after_configure": _CRON,
    "on_after_finalize": _CRON,
    "register_task": "use @app.task(base=...) on a function",
    "Task": "subclass acked.Task and name it in @app.task(base=...)",
    "worker_main": "start the worker with the command `acked worker`",
}
"""For attributes of an application."""
