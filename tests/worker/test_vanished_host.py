"""T03: a host that vanishes with what it runs, and comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence

import pytest

from tests.harness import history
from tests.harness.workers import Worker, until
from tests.worker.conftest import HOSTS, Shop, on
from tests.worker.forms import LEASES, LONG, SHORT_LEASE, report

pytestmark = pytest.mark.chaos
BUSY = 1.0
"""What two loaded cores may add, seconds: the supervisor's tick, the claim, the start."""


def freeze(worker: Worker) -> Callable[[], None]:
    """SIGSTOP everything: on one host, what comes nearest to a host that vanishes."""
    whole = [worker.pid, worker.template or 0, *worker.processes]
    for pid in whole:
        os.kill(pid, signal.SIGSTOP)

    def thaw() -> None:
        for pid in whole:
            os.kill(pid, signal.SIGCONT)

    return thaw


@pytest.mark.parametrize("kind", ["coroutines", *(["processes"] if LONG else [])])
@on("sqlite", *HOSTS, short=("redis", "postgres"))
def test_what_a_vanished_host_ran_restarts_elsewhere_within_its_lease(
    shop: Shop, kind: str
) -> None:
    """Its connections are cut without a word; healed, nothing it says counts any more."""
    lease, heartbeat = LEASES.get(shop.place.kind, SHORT_LEASE)
    shop.environment |= {"SHOP_LEASE": str(lease), "SHOP_HEARTBEAT": str(heartbeat)}
    shop.open()
    elsewhere = shop.directory / "elsewhere"
    elsewhere.mkdir()
    environment = {"ACKED_RUNTIME_DIR": str(elsewhere)}
    detour = shop.detour()
    environment |= detour.environment
    # So many that the processes of both hosts find a connection: PostgreSQL has 100. The tasks
    # outlast the start of the second host, which for twenty processes takes a while.
    count, processes, longer = (50, 1, 4.0) if kind == "coroutines" else (20, 20, 15.0)
    task = shop.tasks.work_async if kind == "coroutines" else shop.tasks.work
    vanishing = shop.work(processes=processes, environment=environment)
    ids = [result.id for result in task.delay_many([(lease + longer,)] * count)]
    until(lambda: len(shop.history("start")) == count, what=f"{count} running")
    surviving = shop.work(processes=processes)
    victims = vanishing.processes
    for pid in victims:
        history.note("cut", victim=pid)
    if shop.place.server is not None:
        detour.set(black_hole=True)
        heal = detour.heal
    else:
        heal = freeze(vanishing)
    restarted(shop, victims, count)
    heal()
    shop.finish(*ids, within=40)
    until(
        lambda: vanishing.output().count("was refused, another worker has it") >= count,
        what="every late settlement is refused",
    )
    verdict = shop.check(ids, lease=lease - heartbeat)
    report(f"vanished host, {kind}, {shop.place.kind}", verdict)
    assert verdict.violations == []
    assert verdict.duplicates == count
    # Who was late himself gives the others the time of a lease, and says so.
    late = "late: other workers' leases" in surviving.output()
    allowed = lease * (2 if late else 1) + heartbeat + BUSY
    assert max(verdict.recovered_after) <= allowed, surviving.output()
    assert {shop.record(one).losses for one in ids} <= {0, 1}


def restarted(shop: Shop, victims: Sequence[int], count: int) -> None:
    def elsewhere() -> int:
        return sum(line["pid"] not in victims for line in shop.history("start"))

    until(lambda: elsewhere() == count, within=40, what=f"{count} running elsewhere")
