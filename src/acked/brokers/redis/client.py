"""Running scripts on the primary: finding it, keeping connections to it, finding it again.

Connections are kept in a stack, one for each operation that is under way at once. Those of a parent
process are never used by its forked child.

Every key of this broker is in one hash slot, so that of a Cluster, too, one server at a time is
asked: the primary of that slot.

What is tried a second time
    * a script that the server does not know, or that it refused as it is not the primary (any
      more): it did not run
    * what failed with its connection, if it may run twice (`Script.repeatable`)
"""

from __future__ import annotations

import binascii
import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import msgspec

from acked.brokers.redis.address import Address, Node
from acked.brokers.redis.connection import Command, Connection
from acked.brokers.redis.meaning import ELSEWHERE, REFUSED, meaning, no_answer, said, too_few
from acked.brokers.redis.scripts import TOUCH, Script
from acked.errors import BrokerError, ConfigurationError

SLOTS = 16384
NO_ARGUMENTS = msgspec.msgpack.encode((None, None))
TRIES = 4
"""How often an operation is begun: on the connection at hand, where that one leads, anew, again."""

IDLE_CONNECTIONS = 32
WAIT_SHARE = 0.8
"""Part of the time limit that replicas get to confirm."""


Lead = Callable[[Node, float, float], Connection]
"""From one node, to be asked within a part of the time, to the primary, within all of it."""


class Client:
    """The server, or servers, of one broker.

    Args:
        address: Where they are.
        timeout: Seconds for one operation.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        self.base = "{" + address.prefix + "}:"
        self._pid = os.getpid()
        self._process = secrets.token_hex(8)
        self._idle: deque[Connection] = deque(maxlen=IDLE_CONNECTIONS)
        self._primary: Node | None = None
        self._nodes = address.nodes

    def run(
        self, script: Script, args: bytes, stored: Sequence[bytes] = (), *,
        confirmed: bool = False, until: float = math.inf,
    ) -> Any:  # fmt: skip
        """The answer of *script*.

        Args:
            script: What to run.
            args: Its arguments, MessagePack.
            stored: What it stores as it is.
            confirmed: Whether replicas must have what it wrote, where the URL asks for that.
            until: Monotonic time at which the caller's own time is over.

        Raises:
            BrokerUnavailable: No answer in time; whether it ran nobody knows.
            BrokerError: The server refused.
        """
        deadline = min(time.monotonic() + self.timeout, until)
        commands: list[Command] = [("EVALSHA", script.sha, "1", self.base, args, *stored)]
        if confirmed and self.address.wait_replicas:
            # From 7.2 on, WAIT waits for what its own connection wrote last; and a script that
            # finds everything done already, as in a repetition, writes nothing.
            commands.append(("EVAL", TOUCH.text, "1", self.base, NO_ARGUMENTS))
            commands.append(("WAIT", str(self.address.wait_replicas)))
        replies = self.exchange(commands, deadline, script)
        if len(replies) > 1 and (count := replies[-1]) < self.address.wait_replicas:
            raise too_few(count, self.address, self.timeout * WAIT_SHARE)
        return replies[0]

    def exchange(
        self, commands: list[Command], deadline: float, script: Script | None = None
    ) -> list[Any]:
        """The answers to *commands*, the first of which may be that *script*. Without one they
        change nothing. A WAIT is given its part of the time that is left.

        Raises:
            BrokerError: As `run`; also where the server refuses one of them.
        """
        repeatable = script is None or script.repeatable
        unsure = False
        for left in reversed(range(TRIES)):
            try:
                connection = self.take(deadline)
            except OSError as error:
                raise no_answer(error, self.address, self.timeout, unsure=unsure) from None
            except BrokerError as error:
                error.nothing_stored &= not unsure
                raise
            try:
                replies = connection.exchange(_in_time(commands, deadline), deadline)
            except OSError as error:
                self.drop(connection)
                unsure = True
                if repeatable and left and time.monotonic() < deadline:
                    continue
                raise no_answer(error, self.address, self.timeout, unsure=True) from None
            except BaseException:
                # A signal's exception, in the midst: the answer would be taken for the next one's.
                connection.close()
                raise
            refusal = next((each for each in replies if isinstance(each, hiredis.ReplyError)), None)
            if refusal is None:
                self.give_back(connection)
                return replies
            # A refused WAIT came after the script, which a repetition would run once more.
            ran = refusal is not replies[0]
            unsure |= ran
            if said(refusal).startswith(ELSEWHERE):
                self.drop(connection)
                self._follow(said(refusal), connection.node)
                if (repeatable or not ran) and left and time.monotonic() < deadline:
                    continue
            else:
                self.give_back(connection)
                if str(refusal).startswith("NOSCRIPT") and script is not None and left:
                    commands = [("EVAL", script.text, *commands[0][2:]), *commands[1:]]
                    continue
            raise meaning(refusal, self.address, unsure=unsure) from refusal
        raise AssertionError("the last try returns or raises")

    @property
    def process(self) -> str:
        """Names this process, to the server."""
        self._notice_fork()
        return self._process

    def take(self, deadline: float) -> Connection:
        """A connection to the primary, for the caller alone.

        Raises:
            OSError: None can be had.
            BrokerError: The server refuses this user.
        """
        self._notice_fork()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect(deadline)
            if connection.quiet():
                return connection
            connection.close()

    def give_back(self, connection: Connection) -> None:
        """*connection* may be used by others."""
        if len(self._idle) >= IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """*connection* failed, and so may the others: the primary is looked for anew."""
        connection.close()
        self._primary = None
        self.close()

    def close(self) -> None:
        """Hang up every connection that is not in use."""
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def _notice_fork(self) -> None:
        if os.getpid() != self._pid:
            self._idle, self._pid = deque(maxlen=IDLE_CONNECTIONS), os.getpid()
            self._process = secrets.token_hex(8)

    # Finding the primary

    def _connect(self, deadline: float) -> Connection:
        try:
            # Sentinels are asked each time: the one that was may have come back, and take writes
            # until they tell it that it is none any more.
            if self._primary is not None and self.address.kind != "sentinel":
                try:
                    return self._log_in(self._primary, deadline)
                except OSError:
                    self._primary = None
            match self.address.kind:
                case "server":
                    return self._log_in(self.address.nodes[0], deadline)
                case "cluster":
                    return self._through(self._nodes, self._owner_of_slot, deadline)
                case "sentinel":
                    return self._through(self.address.nodes, self._known_to_sentinel, deadline)
        except hiredis.ReplyError as error:
            raise meaning(error, self.address) from None

    def _log_in(self, node: Node, deadline: float) -> Connection:
        connection = Connection(node, self.address, deadline)
        try:
            connection.log_in(self.address, deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    def _through(self, nodes: Sequence[Node], lead: Lead, deadline: float) -> Connection:
        """The primary to which the first of *nodes* leads that can say."""
        failure: OSError = ConnectionError("none of them knows a primary")
        share = max(len(nodes), 1)
        for position, node in enumerate(nodes):
            # One that is silent must leave time to ask the others.
            part = (deadline - time.monotonic()) / max(share - position, 1)
            try:
                connection: Connection = lead(node, time.monotonic() + part, deadline)
            except OSError as error:
                failure = error
                continue
            self._primary = connection.node
            return connection
        raise failure

    def _owner_of_slot(self, node: Node, soon: float, deadline: float) -> Connection:
        slot = binascii.crc_hqx(self.address.prefix.encode(), 0) % SLOTS
        asked = self._log_in(node, soon)
        ranges = asked.call("CLUSTER", "SLOTS", deadline=soon)
        if isinstance(ranges, hiredis.ReplyError):
            asked.close()
            if str(ranges).startswith(REFUSED):
                raise ranges
            if "cluster support disabled" not in str(ranges):
                # It loads its data, say. Another node may know.
                raise ConnectionError(f"{node} does not say who serves slot {slot}: {ranges}")
            raise ConfigurationError(
                f"{node} is no node of a Redis Cluster ({ranges}). For a single server say redis://"
            )
        primary = None
        nodes = list(self.address.nodes)
        for first, last, *members in ranges:
            its = [Node(_text(host) or node.host, port) for host, port, *_ in members]
            nodes += [each for each in its if each not in nodes]
            if first <= slot <= last:
                primary = its[0]
        self._nodes = tuple(nodes)
        if primary == node:
            return asked
        asked.close()
        if primary is None:
            raise ConnectionError(f"nobody serves slot {slot} at the moment")
        return self._log_in(primary, deadline)

    def _known_to_sentinel(self, node: Node, soon: float, deadline: float) -> Connection:
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.address.name)
        sentinel = Connection(node, self.address, soon)
        try:
            found = sentinel.call(*command, deadline=soon)
            if isinstance(found, hiredis.ReplyError) and str(found).startswith("NOAUTH"):
                user = (self.address.user,) if self.address.user else ()
                sentinel.call("AUTH", *user, self.address.password, deadline=soon)
                found = sentinel.call(*command, deadline=soon)
        finally:
            sentinel.close()
        if not isinstance(found, list):
            raise ConnectionError(f"Sentinel {node} knows no {self.address.name!r}: {found}")
        connection = self._log_in(Node(_text(found[0]), int(found[1])), deadline)
        role = connection.call("ROLE", deadline=deadline)
        if isinstance(role, list) and role[0] != b"master":
            connection.close()
            raise ConnectionError(f"{connection.node} is a replica, though Sentinel {node} says so")
        return connection

    def _follow(self, refusal: str, asked: Node) -> None:
        """Where ``MOVED 1234 host:port`` leads."""
        words = refusal.split()
        if words[0] == "MOVED" and len(words) == 3:
            host, _, port = words[2].rpartition(":")
            self._primary = Node(host.strip("[]") or asked.host, int(port))


def _in_time(commands: Sequence[Command], deadline: float) -> list[Command]:
    """*commands*, where a WAIT ends before *deadline*, also where it is sent once more."""
    milliseconds = max(1, int((deadline - time.monotonic()) * WAIT_SHARE * 1000))
    return [(*each, str(milliseconds)) if each[0] == "WAIT" else each for each in commands]


def _text(value: bytes | None) -> str:
    return (value or b"").decode()
