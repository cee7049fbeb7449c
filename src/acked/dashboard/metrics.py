"""`Metrics`: health and Prometheus metrics as a small ASGI application of its own, so that neither
needs a login nor is shown to whoever can reach the dashboard."""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from acked.app import Acked
from acked.broker import Records
from acked.dashboard.access import is_local
from acked.errors import AckedError, ConfigurationError
from acked.pages.protection import SafeHeaders, content_policy
from acked.redaction import redact_text
from acked.tally import STEPS, longest_in

logger = logging.getLogger("acked.dashboard")

SHORTEST_TOKEN = 16

OPEN = 3
"""Minutes whose counters are read again: workers write theirs every few seconds."""

OUTCOMES = frozenset({"success", "failure", "retry", "revoked", "loss", "interrupted"})

BOUNDS = range(0, 24 * STEPS + 1, 2 * STEPS)
"""Buckets of `acked.tally` at which a bucket of a histogram ends: 1 ms, 4 ms, …, 4.7 hours."""


class Totals:
    """Counters that only grow, made of the broker's counters per minute, which are forgotten after
    a while. They begin when this process does, as Prometheus expects of a counter."""

    def __init__(self, first: int) -> None:
        self._settled: Counter[tuple[str, str, str]] = Counter()
        self._open_from = first
        self._lock = threading.Lock()

    def read(self, records: Records, *, minute: int) -> Counter[tuple[str, str, str]]:
        """What was counted until *minute*, by queue, task and `acked.tally.Count.what`."""
        with self._lock:
            still_open = max(self._open_from, minute - OPEN)
            total = Counter(self._settled)
            for count in records.counted(self._open_from, minute):
                key = count.queue, count.task, count.what
                total[key] += count.number
                if count.minute < still_open:
                    self._settled[key] += count.number
            self._open_from = still_open
            return total


class QueueCollector(Collector):
    """Reads the broker when Prometheus asks."""

    def __init__(self, app: Acked) -> None:
        self._app = app
        self._totals = Totals(int(app.clock.now() // 60))

    def collect(self) -> Iterator[Metric]:
        """Every metric there is."""
        records, now = self._app.records, self._app.clock.now()
        tasks = GaugeMetricFamily("acked_tasks", "Tasks by state.", labels=["queue", "state"])
        oldest = GaugeMetricFamily(
            "acked_oldest_waiting_seconds",
            "Age of the task that has waited longest since it was due; 0 where none waits.",
            labels=["queue"],
        )
        paused = GaugeMetricFamily("acked_queue_paused", "1 while paused.", labels=["queue"])
        consumers = GaugeMetricFamily(
            "acked_queue_workers", "Live workers that consume it.", labels=["queue"]
        )
        workers = records.workers()
        alive = [each for each in workers if each.lease_left >= 0]
        for each in records.counts():
            for state in ("scheduled", "queued", "running", "success", "failure", "revoked"):
                tasks.add_metric([each.queue, state], getattr(each, state))
            age = 0.0 if each.oldest is None else max(0.0, now - each.oldest)
            oldest.add_metric([each.queue], age)
            paused.add_metric([each.queue], each.paused)
            consumers.add_metric([each.queue], sum(each.queue in w.queues for w in alive))
        yield from (tasks, oldest, paused, consumers)
        yield GaugeMetricFamily("acked_workers", "Live workers.", value=len(alive))
        processes = sum(each.processes for each in alive)
        yield GaugeMetricFamily("acked_worker_processes", "Their processes.", value=processes)
        yield GaugeMetricFamily(
            "acked_worker_memory_bytes", "Resident memory of all workers.",
            value=sum(each.memory for each in alive) * 1024,
        )  # fmt: skip
        attempts = CounterMetricFamily(
            "acked_attempts", "Attempts that ended, since this process started.",
            labels=["queue", "task", "outcome"],
        )  # fmt: skip
        totals = self._totals.read(records, minute=int(now // 60))
        for key, number in totals.items():
            if key[2] in OUTCOMES:
                attempts.add_metric(list(key), number)
        yield attempts
        yield times(totals, "wait", "acked_wait_seconds", "From due to started, of first attempts.")
        yield times(totals, "run", "acked_run_seconds", "From start to end, of every attempt.")


def times(totals: Counter[tuple[str, str, str]], what: str, name: str, meaning: str) -> Metric:
    """A histogram of the times that are counted as *what*. It has no sum: nobody counts that."""
    found: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for (queue, task, counted), number in totals.items():
        kind, _, bucket = counted.partition(":")
        if kind == what:
            found[queue, task][int(bucket)] = number
    histogram = HistogramMetricFamily(name, meaning, labels=["queue", "task"])
    for key, buckets in found.items():
        ends = [
            (f"{longest_in(end):g}", sum(n for bucket, n in buckets.items() if bucket <= end))
            for end in BOUNDS
        ]
        histogram.add_metric(list(key), [*ends, ("+Inf", sum(buckets.values()))], None)
    return histogram


class Metrics:
    """``/metrics`` for Prometheus and ``/healthz`` for probes.

    Args:
        app: Whose tasks are counted.
        token: What a request must carry, as ``Authorization: Bearer …``. Without one, requests from
            this host alone are answered, and none that came through a proxy.

    Raises:
        ConfigurationError: The token is too short to withstand guessing.
    """

    def __init__(self, app: Acked, *, token: str | None = None) -> None:
        if token is not None and len(token) < SHORTEST_TOKEN:
            raise ConfigurationError(
                f"the token for metrics has {len(token)} characters and needs {SHORTEST_TOKEN}."
            )
        self._app = app
        self._token = token
        self._collector = QueueCollector(app)
        routes = [
            Route("/metrics", self._metrics, methods=["GET"]),
            Route("/healthz", self._health, methods=["GET"]),
        ]
        self._site: ASGIApp = SafeHeaders(Starlette(routes=routes), policy=content_policy("'none'"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._site(scope, receive, send)

    def _may(self, request: Request) -> bool:
        if self._token is None:
            return is_local(request)
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.encode(errors="replace"), self._token.encode())
        return right and kind.lower() == "bearer"

    async def _metrics(self, request: Request) -> Response:
        if not self._may(request):
            return _refused()
        try:
            text = await asyncio.to_thread(self._text)
        except AckedError as error:
            logger.warning("no metrics: %s", redact_text(str(error)))
            return Response("the broker is away\n", 503, media_type="text/plain")
        return Response(text, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    def _text(self) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once(list(self._collector.collect())))
        return generate_latest(registry)

    async def _health(self, request: Request) -> Response:
        if not self._may(request):
            return _refused()
        try:
            await asyncio.to_thread(self._app.records.workers)
        except AckedError as error:
            logger.warning("not healthy: %s", redact_text(str(error)))
            return Response("the broker is away\n", 503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")


class _Once(Collector):
    """Metrics that were read already, so that an error of the broker is raised before."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        """Them."""
        return self._metrics


def _refused() -> Response:
    return Response("not permitted\n", 401, {"www-authenticate": "Bearer"}, media_type="text/plain")
