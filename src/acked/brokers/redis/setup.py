"""What of a server's own set-up decides what becomes of the tasks in it."""

from __future__ import annotations

from typing import Any

import hiredis
import msgspec

from acked.broker import Condition
from acked.brokers.redis.address import Address
from acked.brokers.redis.client import Client
from acked.brokers.redis.connection import Command
from acked.errors import BrokerError, ConfigurationError

LEAST = (6, 2)
KEEPS_ALL = "noeviction"

SECTIONS = ("server", "persistence", "replication", "memory")
SETTINGS = ("maxmemory-policy", "appendonly", "appendfsync")


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says of itself; None in a field where it does not say."""

    version: str
    policy: str | None
    appendonly: bool | None
    appendfsync: str | None
    replicas: int
    maxmemory: int

    @property
    def durable(self) -> bool:
        """Whether a write is flushed to disk before it is answered."""
        return bool(self.appendonly) and self.appendfsync == "always"


def inspect(client: Client, deadline: float) -> Setup:
    """Ask the server.

    Args:
        client: Leads to it.
        deadline: Monotonic time by which it must have answered.

    Raises:
        BrokerError: It has not.
    """
    replies = _ask(client, deadline)
    about = _about(replies[: len(SECTIONS)])
    settings = _settings(replies[len(SECTIONS) :])
    appendonly = about.get("aof_enabled")
    if "appendonly" in settings:
        appendonly = "1" if settings["appendonly"] == "yes" else "0"
    return Setup(
        version=about.get("valkey_version") or about.get("redis_version", "0"),
        policy=settings.get("maxmemory-policy", about.get("maxmemory_policy")),
        appendonly=None if appendonly is None else appendonly == "1",
        appendfsync=settings.get("appendfsync"),
        replicas=int(about.get("connected_slaves", "0")),
        maxmemory=int(about.get("maxmemory", "0")),
    )


def check(setup: Setup, address: Address) -> None:
    """Refuse what would lose tasks.

    Raises:
        ConfigurationError: The server is too old, or would delete tasks to make room. That policy
            is refused even while there is no limit to memory: whoever sets one later would not
            think of the tasks.
    """
    version = tuple(int(each) for each in setup.version.split(".")[:2] if each.isdecimal())
    if version < LEAST:
        raise ConfigurationError(
            f"{address.servers} is version {setup.version}; acked needs Redis 6.2 or newer, or "
            "Valkey. Upgrade the server."
        )
    if setup.policy is not None and setup.policy != KEEPS_ALL:
        raise ConfigurationError(
            f"{address.servers} has maxmemory-policy {setup.policy}, which deletes tasks to make "
            f"room. Set it: CONFIG SET maxmemory-policy {KEEPS_ALL}, and in the server's "
            "configuration; or give acked a server of its own beside the cache."
        )


def conditions(setup: Setup, address: Address) -> list[Condition]:
    """What is worth knowing."""
    found = [_persistence(setup), _replication(setup, address)]
    if setup.policy is None:
        found.append(
            Condition(
                subject="eviction", level="warn",
                text="The server does not tell its maxmemory-policy. Any but noeviction deletes "
                "tasks when its memory is full.",
                remedy="See in the provider's settings that maxmemory-policy is noeviction.",
            )
        )  # fmt: skip
    else:
        found.append(
            Condition(
                subject="eviction", level="ok", is_promise=True,
                text=f"With the server's memory full, new tasks are refused and none is deleted "
                f"(maxmemory-policy {setup.policy}).",
            )
        )  # fmt: skip
    if setup.policy is not None and not setup.maxmemory:
        found.append(
            Condition(
                subject="memory", level="info",
                text="The server's memory has no limit (maxmemory 0): when the host's is full, the "
                "system kills the server. With a limit, only new tasks are refused.",
            )
        )  # fmt: skip
    return found


def _persistence(setup: Setup) -> Condition:
    subject = "persistence"
    if setup.appendonly is None:
        return Condition(
            subject=subject, level="warn",
            text="The server does not tell whether it keeps what it is told (appendonly).",
            remedy="See in the provider's settings that the append-only file is on.",
        )  # fmt: skip
    if not setup.appendonly:
        return Condition(
            subject=subject, level="warn",
            text="The append-only file is off: a restart of the server loses every task since its "
            "last snapshot.",
            remedy="CONFIG SET appendonly yes, and in the server's configuration.",
        )  # fmt: skip
    match setup.appendfsync:
        case "always":
            return Condition(
                subject=subject, level="ok", is_promise=True,
                text="Every write is on disk before it is answered (appendfsync always).",
            )  # fmt: skip
        case "everysec":
            return Condition(
                subject=subject, level="info", is_promise=True,
                text="A power loss of its host may lose the last second (appendfsync everysec); "
                "so may a kill of the server while its disk is slow. With appendfsync always "
                "neither would lose anything, at the cost of a flush for each write.",
            )  # fmt: skip
        case None:
            return Condition(
                subject=subject, level="info", is_promise=True,
                text="What a power loss of its host costs, or a kill of the server while its disk "
                "is slow, its appendfsync decides, which it does not tell.",
            )  # fmt: skip
        case other:
            return Condition(
                subject=subject, level="warn",
                text=f"appendfsync is {other}: a power loss may lose half a minute of tasks.",
                remedy="CONFIG SET appendfsync everysec, or always.",
            )  # fmt: skip


def _replication(setup: Setup, address: Address) -> Condition:
    subject, wanted, there = "replication", address.wait_replicas, setup.replicas
    if wanted > there:
        return Condition(
            subject=subject, level="warn",
            text=f"wait_replicas={wanted}, and {there} are connected: every write fails.",
            remedy="Start the replicas, or ask for fewer in the broker's URL.",
        )  # fmt: skip
    if wanted:
        return Condition(
            subject=subject, level="ok",
            text=f"{wanted} of {there} replicas confirm each write, so a fail-over to one of "
            "them loses nothing.",
        )  # fmt: skip
    if there:
        return Condition(
            subject=subject, level="info",
            text=f"{there} replicas follow a moment behind: a fail-over may lose the last writes. "
            "With wait_replicas=1 in the broker's URL, a write counts once a replica has it.",
        )  # fmt: skip
    return Condition(subject=subject, level="info", text="No replica: the server is the only copy.")


def _ask(client: Client, deadline: float) -> list[Any]:
    """What INFO says of each of `SECTIONS`, and CONFIG, where it may be asked, of `SETTINGS`."""
    info: list[Command] = [("INFO", each) for each in SECTIONS]
    config: list[Command] = [("CONFIG", "GET", each) for each in SETTINGS]
    try:
        return client.exchange([*info, *config], deadline)
    except BrokerError as error:
        if not isinstance(error.__cause__, hiredis.ReplyError):
            raise
    # Some managed servers forbid CONFIG; INFO says part of it.
    return client.exchange(info, deadline)


def _about(sections: list[bytes]) -> dict[str, str]:
    lines = b"\n".join(sections).decode(errors="replace").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name: value for name, _, value in pairs}


def _settings(replies: list[list[bytes]]) -> dict[str, str]:
    # One that the server does not know comes back empty.
    pairs = (reply for reply in replies if len(reply) == 2)
    return {name.decode(): value.decode(errors="replace") for name, value in pairs}
