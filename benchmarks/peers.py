"""The queues that are measured, and which of them are measured beside each other."""

from __future__ import annotations

from dataclasses import dataclass

PGQUEUER_BATCH = 500
"""Jobs it takes at once (default 10). Its best here, see docs/benchmarks.md."""


@dataclass(frozen=True)
class Peer:
    """One queue on one broker.

    Args:
        name: Short, for options and JSON.
        label: For tables.
        app: Its module in `benchmarks.apps`.
        broker: What kind of server it runs on; "sqlite" is a file.
        worker: The arguments of Python that start two worker processes, quiet as to each task.
        drain: Tasks it drains in a full run: some seconds' worth.
        enqueue: Calls it is timed for in a full run.
        results: Where its results or records are kept, if not nowhere or in the broker itself.
        prepared: Its tables have to be made before it is used.
        bulk: Tasks it sends in one call in a full run; 0 where it has no such call.
    """

    name: str
    label: str
    app: str
    broker: str
    worker: tuple[str, ...]
    drain: int
    enqueue: int
    results: str | None = None
    prepared: bool = False
    bulk: int = 0

    @property
    def is_acked(self) -> bool:
        return self.app == "acked"


def _acked(
    name: str, label: str, broker: str, *,
    drain: int, enqueue: int, bulk: int, results: str | None = None,
) -> Peer:  # fmt: skip
    worker = ("-m", "acked", "worker", "benchmarks.apps.acked_app:app", "-c", "2")
    return Peer(
        name, label, "acked", broker, worker,
        drain=drain, enqueue=enqueue, results=results, bulk=bulk,
    )  # fmt: skip


def _celery(name: str, label: str, broker: str, *, drain: int, results: str | None = None) -> Peer:
    worker = ("-m", "celery", "-A", "benchmarks.apps.celery_app", "worker", "-c", "2")
    return Peer(name, label, "celery", broker, worker, drain=drain, enqueue=3_000, results=results)


def _huey(name: str, label: str, broker: str) -> Peer:
    worker = (
        "-m", "huey.bin.huey_consumer", "benchmarks.apps.huey_app.app",
        "-w", "2", "-k", "process", "-q",
    )  # fmt: skip
    return Peer(name, label, "huey", broker, worker, drain=20_000, enqueue=8_000)


def _dramatiq(name: str, label: str, broker: str, *, enqueue: int) -> Peer:
    worker = ("-m", "dramatiq", "benchmarks.apps.dramatiq_app", "-p", "2", "-t", "8")
    return Peer(name, label, "dramatiq", broker, worker, drain=20_000, enqueue=enqueue)


ACKED = _acked("acked", "acked on SQLite", "sqlite", drain=120_000, enqueue=4_000, bulk=200_000)
ACKED_REDIS = _acked(
    "acked-redis", "acked on Redis", "redis", drain=120_000, enqueue=8_000, bulk=200_000
)
ACKED_POSTGRES = _acked(
    "acked-postgres", "acked on PostgreSQL", "postgres",
    drain=60_000, enqueue=4_000, bulk=100_000,
)  # fmt: skip
ACKED_RABBITMQ = _acked(
    "acked-rabbitmq", "acked on RabbitMQ, records in Redis", "rabbitmq",
    drain=40_000, enqueue=2_000, bulk=50_000, results="redis",
)  # fmt: skip
ACKED_RABBITMQ_SQLITE = _acked(
    "acked-rabbitmq-sqlite", "acked on RabbitMQ, records in SQLite", "rabbitmq",
    drain=40_000, enqueue=2_000, bulk=50_000, results="sqlite",
)  # fmt: skip

CELERY = _celery("celery", "Celery on Redis", "redis", drain=6_000, results="redis")
CELERY_RABBITMQ = _celery(
    "celery-rabbitmq", "Celery on RabbitMQ, no results", "rabbitmq", drain=12_000
)
HUEY = _huey("huey", "huey on SQLite", "sqlite")
HUEY_REDIS = _huey("huey-redis", "huey on Redis", "redis")
DRAMATIQ_REDIS = _dramatiq("dramatiq-redis", "Dramatiq on Redis", "redis", enqueue=8_000)
DRAMATIQ_RABBITMQ = _dramatiq(
    "dramatiq-rabbitmq", "Dramatiq on RabbitMQ, confirms", "rabbitmq", enqueue=2_000
)
TASKIQ = Peer(
    "taskiq", "Taskiq on Redis streams", "taskiq", "redis",
    ("-m", "taskiq", "worker", "benchmarks.apps.taskiq_app:broker", "--workers", "2",
     "--log-level", "WARNING"),
    drain=20_000, enqueue=5_000,
)  # fmt: skip
PGQUEUER = Peer(
    "pgqueuer", f"PgQueuer, batches of {PGQUEUER_BATCH}", "pgqueuer", "postgres",
    ("-m", "benchmarks.twice", "benchmarks.apps.pgqueuer_app", str(PGQUEUER_BATCH)),
    drain=60_000, enqueue=4_000, prepared=True, bulk=50_000,
)  # fmt: skip
PROCRASTINATE = Peer(
    "procrastinate", "Procrastinate", "procrastinate", "postgres",
    ("-m", "benchmarks.twice", "procrastinate", "--app", "benchmarks.apps.procrastinate_app.app",
     "worker", "--concurrency", "10"),
    drain=3_000, enqueue=2_000, prepared=True, bulk=10_000,
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """How many times a rate of others acked's is to be. Of several, the best in each round."""

    what: str
    times: float
    over: tuple[Peer, ...]


@dataclass(frozen=True)
class Field:
    """One broker of acked, and what is measured beside it.

    Args:
        name: For options.
        acked: As it is measured there; the targets are for the first.
        others: The queues beside it.
        engine: The engine alone, for tables.
        engine_drain: Tasks the engine alone drains in a full run.
        drain: What the drain is to reach.
        p50_ms, p99_ms: What the time from a call to the start is to stay under.
    """

    name: str
    acked: tuple[Peer, ...]
    others: tuple[Peer, ...]
    engine: str
    engine_drain: int
    drain: tuple[Wanted, ...]
    p50_ms: float
    p99_ms: float

    @property
    def peers(self) -> tuple[Peer, ...]:
        return self.acked + self.others

    @property
    def subject(self) -> Peer:
        """The acked that the targets are for."""
        return self.acked[0]


SQLITE = Field(
    "sqlite", (ACKED,), (CELERY, HUEY), "SQLite alone", 300_000,
    (Wanted("Celery's on Redis", 20, (CELERY,)), Wanted("huey's", 5, (HUEY,))),
    p50_ms=5.0, p99_ms=20.0,
)  # fmt: skip
REDIS = Field(
    "redis", (ACKED_REDIS,), (CELERY, DRAMATIQ_REDIS, HUEY_REDIS, TASKIQ), "Redis alone", 300_000,
    (
        Wanted("Celery's", 30, (CELERY,)),
        Wanted("the best of the others'", 4, (CELERY, DRAMATIQ_REDIS, HUEY_REDIS, TASKIQ)),
    ),
    p50_ms=1.5, p99_ms=5.0,
)  # fmt: skip
POSTGRES = Field(
    "postgres", (ACKED_POSTGRES,), (PGQUEUER, PROCRASTINATE), "PostgreSQL alone", 100_000,
    (Wanted("PgQueuer's", 1, (PGQUEUER,)),),
    p50_ms=1.5, p99_ms=5.0,
)  # fmt: skip
RABBITMQ = Field(
    "rabbitmq", (ACKED_RABBITMQ, ACKED_RABBITMQ_SQLITE), (CELERY_RABBITMQ, DRAMATIQ_RABBITMQ),
    "RabbitMQ alone", 60_000,
    (Wanted("Dramatiq's", 1, (DRAMATIQ_RABBITMQ,)),),
    p50_ms=1.5, p99_ms=5.0,
)  # fmt: skip

FIELDS = {field.name: field for field in (SQLITE, REDIS, POSTGRES, RABBITMQ)}
