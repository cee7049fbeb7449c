"""What Celery has and acked has not, and what to do instead. The errors say it where it is used."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import getattr_static

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

_ON_COMMIT = (
    "transaction.on_commit(partial(task.delay, ...)) does it; where PostgreSQL is the broker, "
    "apply_async(..., using=connection) sends within the transaction"
)

OF_A_TASK = {
    "apply_async_on_commit": _ON_COMMIT,
    "backend": "results are kept with the tasks: app.AsyncResult(task_id)",
    "chunks": "delay_many(calls) sends one task for each call, many in one write",
    "delay_on_commit": _ON_COMMIT,
    "map": "delay_many(calls) sends one task for each call, many in one write",
    "replace": "workflows are not available yet: send the other task, and return",
    "starmap": "delay_many(calls) sends one task for each call, many in one write",
    "subtask": "task.s(...) and task.si(...) make a signature",
}
"""For attributes of a task."""

_NO_CALLBACKS = "callbacks are not available yet: let the task send the next one when it is done"

OF_A_SIGNATURE = {
    "apply": "the task runs here by task.apply(args, kwargs)",
    "freeze": "an id of your own is an option: set(task_id=...)",
    "link": _NO_CALLBACKS,
    "link_error": f"{_NO_CALLBACKS}, or override on_failure in a base class",
    "on_error": f"{_NO_CALLBACKS}, or override on_failure in a base class",
}
"""For attributes of a signature."""

_NO_CHILDREN = "workflows are not available yet: keep the ids of the tasks that a task sends"

_IN_THE_MESSAGE = "`acked show ID` tells them, and app.records.get(id).body has them as JSON"

OF_A_RESULT = {
    "args": _IN_THE_MESSAGE,
    "children": _NO_CHILDREN,
    "collect": _NO_CHILDREN,
    "kwargs": _IN_THE_MESSAGE,
    "parent": _NO_CHILDREN,
    "queue": "app.records.get(id).queue is its name",
    "then": "callbacks are not available yet: get() waits, and a coroutine can await the result",
    "worker": "app.records.get(id).consumer is the process that has it, or had it last",
}
"""For attributes of a result."""


def missing(what: str, thing: object, name: str, instead: Mapping[str, str]) -> AttributeError:
    """The error that *thing*, which is *what* for people, has no attribute *name*.

    Raises:
        AttributeError: It has, as a property of the user's own, in which that error came up.
    """
    if (found := getattr_static(type(thing), name, None)) is not None:
        found.__get__(thing, type(thing))
    remedy = f": {instead[name]}" if name in instead else ""
    return AttributeError(f"{what} has no {name!r}{remedy}.", name=name, obj=thing)


_GREENLETS = "there is no eventlet pool: async def tasks and threads do that work"
_BY_AN_OPTION = "what it changes is an option of the command `acked worker`"
_SUPERVISOR = "the supervisor of a worker runs no code of yours"
_SETUP_LOGGING = "a receiver of setup_logging sets logging up in its place"

OF_THE_SIGNALS = {
    "after_setup_logger": _SETUP_LOGGING,
    "after_setup_task_logger": _SETUP_LOGGING,
    "beat_embedded_init": _CRON,
    "beat_init": _CRON,
    "celeryd_after_setup": _BY_AN_OPTION,
    "celeryd_init": _BY_AN_OPTION,
    "eventlet_pool_apply": _GREENLETS,
    "eventlet_pool_postshutdown": _GREENLETS,
    "eventlet_pool_preshutdown": _GREENLETS,
    "eventlet_pool_started": _GREENLETS,
    "heartbeat_sent": _SUPERVISOR,
    "import_modules": "start the worker with the module that imports all your tasks",
    "task_received": "tasks are claimed hundreds at a time; task_prerun is sent when one starts",
    "worker_before_create_process": f"{_SUPERVISOR}; worker_process_init is sent in each process",
    "worker_shutting_down": f"{_SUPERVISOR}; worker_shutdown is sent when it ends",
}
"""For signals."""

_BY_OPTION = "an option of the command `acked worker` says it"
_EXCHANGES = "brokers here have queues alone: use queue="
_FAILURES = "the retry policy decides what follows a failure"
_IMPORTS = "start the worker with the module that imports all your tasks: acked worker scans:app"
_IN_THE_ADDRESS = "the address says it: broker_url"
_IN_THE_RECORD = "arguments and results are kept with the task"
_JSON = "messages are JSON"
_KEEPS_TRYING = "the worker keeps trying, for as long as the setting watchdog says"
_LOGGING = "--loglevel and --log-format of `acked worker` say it, or receivers of setup_logging"
_NO_BEAT = "periodic tasks are not available yet"
_NO_COMPRESSION = "messages are not compressed"
_NO_EVENTS = "the records tell, without events"
_NO_PREFETCH = "a worker claims as many tasks as will start at once"
_NO_WORKFLOWS = "workflows are not available yet"
_ONE_BROKER = "the broker keeps the results too; for RabbitMQ, results= says where"
_PER_TASK = "give each task its own"
_QUEUES = "a queue is there once it is named, by @app.task(queue=...) and by -Q of a worker"
_SENDS = "a send either is stored or raises, within the setting send_timeout"
_UTC = "times are UTC, and an eta carries its own time zone"

_SETTINGS = {
    "accept_content result_accept_content result_serializer task_serializer": _JSON,
    "backend override_backends result_backend_always_retry"
    " result_backend_base_sleep_between_retries_ms result_backend_max_retries"
    " result_backend_max_sleep_between_retries_ms result_backend_thread_safe"
    " result_backend_transport_options result_cache_max result_exchange result_exchange_type"
    " result_persistent": _IN_THE_RECORD,
    "result_backend": f"{_IN_THE_RECORD}; for RabbitMQ, results= says where",
    "result_extended": f"{_IN_THE_RECORD}: the command `acked show` tells them",
    "result_compression task_compression": _NO_COMPRESSION,
    "result_chord_join_timeout result_chord_retry_interval"
    " task_allow_error_cb_on_chord_header": _NO_WORKFLOWS,
    "broker_channel_error_retry broker_connection_max_retries broker_connection_retry"
    " broker_connection_retry_on_startup": _KEEPS_TRYING,
    "broker_connection_timeout": "send_timeout says how long a call waits for the broker",
    "broker_heartbeat broker_heartbeat_checkrate": "the setting watchdog says how long a broker"
    " may be silent",
    "broker_pool_limit": "a process makes the few connections it needs",
    "broker_failover_strategy broker_host broker_login_method broker_password broker_port"
    " broker_read_url broker_transport broker_user broker_vhost broker_write_url": _IN_THE_ADDRESS,
    "broker_use_ssl": "the address says it: rediss://, amqps://, or sslmode= of postgresql://",
    "broker_transport_options": "workers have a lease: see the settings lease and heartbeat",
    "enable_utc timezone": _UTC,
    "imports include": _IMPORTS,
    "beat_schedule": _NO_BEAT,
    "task_acks_on_failure task_acks_on_failure_or_timeout task_acks_on_timeout": _FAILURES,
    "task_annotations": "give each task its options, or several a class that has them: base=",
    "task_default_priority task_inherit_parent_priority": f"{_PER_TASK}: @app.task(priority=...)",
    "task_default_rate_limit": f"{_PER_TASK}: @app.task(rate_limit=...)",
    "task_routes": "give each task its queue: @app.task(queue=...)",
    "broker_native_delayed_delivery_queue_type task_create_missing_queue_exchange_type"
    " task_create_missing_queue_type task_create_missing_queues task_default_delivery_mode"
    " task_default_queue_type task_queue_max_priority task_queues worker_detect_quorum_queues"
    " worker_direct": _QUEUES,
    "task_default_exchange task_default_exchange_type task_default_routing_key": _EXCHANGES,
    "task_protocol": "there is one form of a message",
    "task_publish_retry task_publish_retry_policy": _SENDS,
    "task_remote_tracebacks": "a traceback is kept as text, with the attempt",
    "task_send_sent_event worker_send_task_events": _NO_EVENTS,
    "task_store_eager_result": "an eager result is held by what `delay` returns",
    "task_store_errors_even_if_ignored": "a failure is always recorded",
    "task_track_started": "a start is always recorded",
    "worker_autoscaler worker_pool": "a worker is a fixed number of processes, --concurrency",
    "worker_cancel_long_running_tasks_on_connection_loss": "a task goes on, and its end counts as"
    " long as no other worker was given it",
    "worker_concurrency": f"{_BY_OPTION}, --concurrency",
    "worker_deduplicate_successful_tasks": "a task that has ended is not delivered again",
    "worker_disable_prefetch worker_enable_prefetch_count_reduction"
    " worker_prefetch_multiplier": _NO_PREFETCH,
    "worker_disable_rate_limits": "leave rate_limit out of the tasks, or set it to 0",
    "worker_enable_remote_control worker_pool_restarts": _NO_BROADCAST,
    "worker_eta_task_limit": "what is due later is held by the broker",
    "worker_hijack_root_logger worker_log_color worker_log_format worker_task_log_format": _LOGGING,
    "worker_lost_wait": "the setting lease says when a worker counts as lost",
    "worker_max_memory_per_child": f"{_BY_OPTION}, --max-memory-per-child",
    "worker_max_tasks_per_child": f"{_BY_OPTION}, --max-tasks-per-child",
    "worker_redirect_stdouts worker_redirect_stdouts_level": "what a task prints is not logged",
    "worker_soft_shutdown_timeout": f"{_BY_OPTION}, --grace",
    "worker_state_db": "what is revoked stands in the records",
}

MEANINGLESS_SETTINGS = {name: why for names, why in _SETTINGS.items() for name in names.split()}
"""Celery's settings that mean nothing here, and why."""

_BACKENDS = (
    "arangodb azureblockblob cache cassandra cosmosdbsql couchbase database dynamodb elasticsearch"
    " gcs mongodb redis s3"
)

FAMILIES = dict.fromkeys([f"{each}_" for each in _BACKENDS.split()], _ONE_BROKER) | {
    "beat_": _NO_BEAT,
    "control_": _NO_BROADCAST,
    "event_": _NO_EVENTS,
    "security_": "signing of messages is not available yet",
    "worker_": "the options of the command `acked worker` say how a worker works",
}
"""How the names of more of them begin."""


def why_no_setting(name: str) -> str | None:
    """Why Celery's setting of that name means nothing here; None where Celery has none."""
    if name in MEANINGLESS_SETTINGS:
        return MEANINGLESS_SETTINGS[name]
    return next((why for start, why in FAMILIES.items() if name.startswith(start)), None)
