"""Health and metrics: who may read them, and what they say."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from acked import Acked
from acked.dashboard import Metrics
from acked.dashboard.metrics import Totals
from acked.delivery import Failure
from acked.errors import BrokerUnavailable, ConfigurationError
from acked.tally import Count, bucket_of
from tests.dashboard.staging import HOSTILE, Past, Shop

TOKEN = "only-prometheus-knows-it"  # noqa: S105 - of nobody


class Counters:
    def __init__(self) -> None:
        self.counts: list[Count] = []
        self.asked: list[tuple[int, int]] = []

    def counted(self, first: int, last: int) -> list[Count]:
        self.asked.append((first, last))
        return [each for each in self.counts if first <= each.minute <= last]


def app() -> Acked:
    return Acked("shop", broker="memory://", clock=Past())


def client(metrics: Metrics, address: str = "127.0.0.1", host: str = "localhost") -> TestClient:
    return TestClient(metrics, base_url=f"http://{host}:9100", client=(address, 1))


def test_metrics_tell_queues_workers_and_attempts() -> None:
    made = app()
    shop = Shop(made)
    shop.beat("box-1.77.a", "default", memory=1000, processes=3)
    shop.failed("shop.scan", 1, failure=Failure("ValueError", "x"))
    shop.send("shop.scan", ago=60)
    shop.send("shop.mail", queue="mails")
    made.records.pause("mails")
    minute = int(made.clock.now() // 60)
    metrics = Metrics(made)
    made.records.count([
        Count(minute, "default", "shop.scan", "success", 4),
        Count(minute, "default", "shop.scan", f"run:{bucket_of(0.05)}", 3),
        Count(minute, "default", "shop.scan", f"run:{bucket_of(1e9)}", 1),
        Count(minute, "default", "shop.scan", f"wait:{bucket_of(0.0)}", 2),
        Count(minute, HOSTILE, HOSTILE, "loss", 1),
    ])  # fmt: skip
    text = client(metrics).get("/metrics").text
    found = {
        (sample.name, *[sample.labels[name] for name in sorted(sample.labels)]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["acked_tasks", "default", "queued"] == 1
    assert found["acked_tasks", "default", "failure"] == 1
    assert found["acked_oldest_waiting_seconds", "default"] == pytest.approx(60, abs=5)
    assert found["acked_queue_paused", "mails"] == 1
    assert found["acked_queue_workers", "default"] == 1
    assert found["acked_queue_workers", "mails"] == 0
    assert found[("acked_workers",)] == 1
    assert found[("acked_worker_processes",)] == 3
    assert found[("acked_worker_memory_bytes",)] == 1000 * 1024
    assert found["acked_attempts_total", "success", "default", "shop.scan"] == 4
    assert found["acked_attempts_total", "loss", HOSTILE, HOSTILE] == 1
    assert not any("run:" in label for sample in found for label in sample)
    ran = {
        sample[1]: number for sample, number in found.items()
        if sample[0] == "acked_run_seconds_bucket"
    }  # fmt: skip
    assert ran["0.016"] == 0, "50 ms are more"
    assert ran["0.064"] == ran["16777.2"] == 3
    assert ran["+Inf"] == 4
    assert found["acked_wait_seconds_bucket", "0.001", "default", "shop.scan"] == 2


def test_counters_only_grow_and_old_minutes_are_read_once() -> None:
    counters: Any = Counters()
    totals = Totals(100)
    key = "q", "t", "success"
    assert totals.read(counters, minute=100)[key] == 0
    counters.counts.append(Count(100, "q", "t", "success", 5))
    assert totals.read(counters, minute=101)[key] == 5
    counters.counts.append(Count(104, "q", "t", "success", 2))
    assert totals.read(counters, minute=104)[key] == 7
    assert totals.read(counters, minute=110)[key] == 7
    counters.counts.clear()  # forgotten by the broker
    assert totals.read(counters, minute=120)[key] == 7
    assert counters.asked[-1] == (107, 120)


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_without_a_token_this_host_alone_may_read(path: str) -> None:
    metrics = Metrics(app())
    assert client(metrics).get(path).status_code == 200
    assert client(metrics, "10.0.0.1").get(path).status_code == 401
    assert client(metrics, host="evil.example").get(path).status_code == 401
    forwarded = {"x-forwarded-for": "10.0.0.1"}
    assert client(metrics).get(path, headers=forwarded).status_code == 401


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_with_a_token_its_holder_alone_may_read(path: str) -> None:
    metrics = Metrics(app(), token=TOKEN)
    far = client(metrics, "10.0.0.1", "shop.example")
    assert far.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    for given in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", TOKEN, "Bearer \xe9", ""):
        headers = {"authorization": given.encode()}
        assert client(metrics).get(path, headers=headers).status_code == 401  # type: ignore[arg-type]  # as bytes


def test_every_answer_is_neither_stored_nor_taken_for_something_else() -> None:
    here, far = client(Metrics(app())), client(Metrics(app()), "10.0.0.1")
    for path in ("/metrics", "/healthz", "/nothing"):
        for answer in (here.get(path), far.get(path)):
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_short_token_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs 16"):
        Metrics(app(), token="short")  # noqa: S106 - of nobody


def test_a_broker_that_is_away_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    made = app()
    metrics = Metrics(made)

    def away() -> Any:
        raise BrokerUnavailable("redis://user:secret@db does not answer")

    monkeypatch.setattr(made.broker, "workers", away)
    for path in ("/metrics", "/healthz"):
        answer = client(metrics).get(path)
        assert (answer.status_code, answer.text) == (503, "the broker is away\n")
    assert client(metrics).post("/metrics").status_code == 405
