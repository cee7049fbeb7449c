"""What Celery has and acked has not, and what to do instead. The errors say it where it is used."""

from __future__ import annotations

_BY_HAND = "app.send_many() sends several at once, and a task may send the next one"
_CRON = "periodic tasks are not available yet: let cron call delay()"
_GIVE_SETTINGS = "give settings to Acked(...), or later to app.configure(...)"
_IMPORT_IT = "make an application, app = Acked(...), and import it where its tasks are defined"
_NO_BROADCAST = (
    "the commands `acked status`, `acked list` and `acked revoke` read and write records"
)
_LIST_OF_RESULTS = "send_many() and delay_many() return a list of results, each with its get()"
_SIGNATURE = "task.s(...) and task.si(...) make one, and app.signature(...) by a task's name"

OF_THE_PACKAGE = {
    "Celery": "Acked is the application",
    "GroupResult": _LIST_OF_RESULTS,
    "ResultSet": _LIST_OF_RESULTS,
    "allow_join_result": "result.get(disable_sync_subtasks=False) waits inside a task",
    "bootsteps": "what is to run in a worker receives worker_init or worker_process_init",
    "chain": _BY_HAND,
    "chord": _BY_HAND,
    "chunks": _BY_HAND,
    "crontab": _CRON,
    "current_app": _IMPORT_IT,
    "current_task": "@app.task(bind=True) gives a task itself as its first argument",
    "get_task_logger": "it is in acked.logs, and logging.getLogger(__name__) does the same",
    "group": _BY_HAND,
    "maybe_signature": _SIGNATURE,
    "schedules": _CRON,
    "shared_task": _IMPORT_IT,
    "signature": _SIGNATURE,
    "subtask": _SIGNATURE,
    "uuid": "each call makes its id; for one of your own, task_id=str(uuid.uuid4()) of Python's",
}
"""For names that are imported."""

OF_AN_APPLICATION = {
    "add_periodic_task": _CRON,
    "autodiscover_tasks": (
        "start the worker with the module that imports all your tasks: acked worker scans:app"
    ),
    "backend": "results are kept with the tasks: app.AsyncResult(task_id)",
    "config_from_object": _GIVE_SETTINGS,
    "control": f"{_NO_BROADCAST}, and in code app.AsyncResult(task_id).revoke(terminate=True)",
    "main": "app.name is its name",
    "on_after_configure": _CRON,
    "on_after_finalize": _CRON,
    "register_task": "use @app.task(base=...) on a function",
    "Task": "subclass acked.Task and name it in @app.task(base=...)",
    "worker_main": "start the worker with the command `acked worker`",
}
"""For attributes of an application."""
