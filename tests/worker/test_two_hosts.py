"""Workers on two hosts that see nothing of each other but the broker, cut off and healed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.harness import history
from tests.harness.workers import Worker
from tests.servers.networks import Host, Network
from tests.worker.conftest import Shop, on_every_host
from tests.worker.forms import LONG, report, sizes

pytestmark = pytest.mark.chaos
LEASE, HEARTBEAT = (2.0, 0.5) if LONG else (1.2, 0.3)


@dataclass
class Site:
    """A host, and the worker on it."""

    host: Host
    worker: Worker

    def cut(self) -> None:
        for pid in self.worker.processes:
            history.note("cut", victim=pid)
        self.host.cut()


class Hosts:
    """A shop whose workers are on hosts of their own."""

    def __init__(self, shop: Shop, network: Network) -> None:
        self.shop = shop
        self._network = network
        self._environment = shop.detour(network.address).environment

    def work(self, number: int) -> Site:
        host = self._network.hosts[number]
        runtime = self.shop.directory / host.name
        runtime.mkdir()
        environment = {**self._environment, "ACKED_RUNTIME_DIR": str(runtime)}
        worker = self.shop.work(
            "-n", f"host{number}", processes=2, environment=environment, prefix=host.prefix
        )
        return Site(host, worker)


@pytest.fixture
def hosts(shop: Shop) -> Iterator[Hosts]:
    shop.environment |= {"SHOP_LEASE": str(LEASE), "SHOP_HEARTBEAT": str(HEARTBEAT)}
    shop.open()
    with Network(2) as network:
        yield Hosts(shop, network)
        # Before their network goes: cut off, they would take their time.
        for host in network.hosts:
            host.heal()
        shop.end()


@on_every_host
@pytest.mark.timeout(1800 if LONG else 180)
def test_hosts_cut_off_from_each_other_and_from_the_broker_break_no_rule(hosts: Hosts) -> None:
    """One host for longer than its lease, then the other for less, then both; healed each time."""
    shop = hosts.shop
    # A task that is cut off three times looks like poison, which it is not.
    shop.environment["SHOP_MAX_LOSSES"] = "100"
    roll = random.Random(os.urandom(4))
    sites = [hosts.work(0), hosts.work(1)]
    rounds = sizes(1, 10)
    producer = shop.produce("steady", 350 * rounds, pause=0.02)
    long = [shop.tasks.work.delay(roll.uniform(0.5, 3.0)).id for _ in range(8 * rounds)]
    for _ in range(rounds):
        for victims, seconds in (
            (sites[:1], LEASE + 2 * HEARTBEAT), (sites[1:], LEASE / 2), (sites, LEASE * 1.5),
        ):  # fmt: skip
            for site in victims:
                site.cut()
            time.sleep(seconds + roll.uniform(0.0, HEARTBEAT))  # how long they are cut off
            for site in victims:
                site.host.heal()
            time.sleep(LEASE + HEARTBEAT)  # in which who was cut off finds out
    producer.wait(120)
    # RabbitMQ may have a task in the ledger alone, and finds that out after 15 s.
    shop.drain(within=2 * LEASE + (30 if shop.place.kind == "rabbitmq" else 10))
    sent, unsure = shop.produced()
    verdict = shop.check([*sent, *long], unsure=unsure, lease=LEASE - HEARTBEAT)
    report(f"two hosts, {rounds} rounds of cuts, {shop.place.kind}", verdict)
    assert verdict.violations == [], shop.slow_restarts(3 * LEASE)
    assert unsure == []
    for site in sites:
        assert site.worker.process.poll() is None
    fresh = [result.id for result in shop.tasks.work.delay_many([(0.2,)] * 20)]
    shop.finish(*fresh)
    assert len({line["pid"] for line in shop.history("start") if line["task"] in fresh}) > 2, (
        "both hosts work again"
    )
