"""The supervisor: keeps the lease, watches deadlines, replaces the dead. It runs no user code.

Its loop waits for three things: a message of the fork server (a process ended), a signal, and the
clock (heartbeat, deadlines, restarts, other workers of this host that died). Whatever a task does
to its process, the interpreter here is free, so a lease is never missed and SIGKILL always lands.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import signal
import socket
import sys
import time
from pathlib import Path

from acked.broker import Beat, Engine, Order
from acked.brokers import open_broker
from acked.errors import BrokerError, ConfigurationError
from acked.outcome import TaskPolicy
from acked.supervision import Death, how_it_died, restart_delay
from acked.worker import logs, recovery, wire
from acked.worker.forkserver import ForkServer
from acked.worker.options import WorkerOptions
from acked.worker.presence import Presence
from acked.worker.upkeep import Upkeep

logger = logging.getLogger("acked.worker")

TICK = 0.05
CANCEL_PATIENCE = 5.0
"""Seconds a cancelled coroutine is given before its process is killed."""

QUICK = 0.05


class Place:
    """One task process's place: who is in it, and how its last one died."""

    def __init__(self, index: int, consumer: str) -> None:
        self.index = index
        self.consumer = consumer
        self.pid: int | None = None
        self.asked = False
        self.deaths: list[float] = []
        self.start_at = 0.0
        self.death: Death | None = None
        self.unrecovered: Death | None = None
        self.aftermath: list[wire.Aftermath] = []
        self.generation = 0
        self.leaving = False
        self.finished = False


class Supervisor:
    """One worker.

    Args:
        target: The application, ``module:app``.
        options: How to run it.
    """

    def __init__(self, target: str, options: WorkerOptions) -> None:
        self._target = target
        self._options = options
        host = options.hostname or socket.gethostname()
        self._host = host
        self._worker = f"{_plain(host)}.{os.getpid()}.{secrets.token_hex(3)}"
        self._me = f"{self._worker}/s"
        self._broker: Engine | None = None
        self._presence: Presence | None = None
        self._server: ForkServer | None = None
        self._old_servers: list[ForkServer] = []
        self._places: list[Place] = []
        self._policies: dict[str, TaskPolicy] = {}
        self._hello: wire.Hello | None = None
        self._signals: list[int] = []
        self._stop_at: float | None = None
        self._upkeep: Upkeep | None = None
        self._orders: dict[int, float] = {}
        self._failure: str | None = None

    # -- life -------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until stopped.

        Returns:
            0 after a stop, 1 when the application cannot be imported or the broker opened.
        """
        logs.configure(self._options.loglevel, self._options.log_format, worker=self._worker)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: self._signals.append(number))
        self._server = ForkServer(self._target, self._options, 0)
        try:
            while not self._finished():
                self._wait(wake_read)
                self._handle_signals()
                if self._hello is not None:
                    self._keep()
        finally:
            self._end()
        if self._failure is not None:
            print(f"acked: {self._failure}", file=sys.stderr)
            return 1
        return 0

    def _finished(self) -> bool:
        if self._failure is not None:
            return True
        if self._hello is None:
            return self._stop_at is not None
        gone = all(p.pid is None and not p.asked and p.unrecovered is None for p in self._places)
        return gone and (self._stop_at is not None or all(p.finished for p in self._places))

    def _wait(self, wake: int) -> None:
        servers = [s for s in (self._server, *self._old_servers) if s is not None]
        watched: list[socket.socket | int] = [wake, *(s.channel for s in servers)]
        ready, _, _ = select.select(watched, [], [], TICK)
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        for server in servers:
            if server.channel in ready:
                self._hear(server)

    def _hear(self, server: ForkServer) -> None:
        try:
            message = wire.hear_template(server.channel)
        except OSError:
            message = None
        match message:
            case None:
                self._server_died(server)
            case wire.Failed(text=text):
                if self._hello is None:
                    self._failure = f"cannot load {self._target!r}: {text.rstrip()}"
                else:
                    logger.error("reload failed, going on with the old code: %s", text)
                    server.close()
                    self._server = self._old_servers.pop()
            case wire.Hello():
                self._introduced(server, message)
            case wire.Forked(index=index, pid=pid):
                place = self._places[index]
                place.pid, place.asked, place.generation = pid, False, server.generation
                if self._stop_at is not None:
                    _kill(pid, signal.SIGTERM)
            case wire.Ended(index=index, pid=pid, status=status):
                self._process_ended(self._places[index], how_it_died(status), clean=status == 0)

    def _introduced(self, server: ForkServer, hello: wire.Hello) -> None:
        server.hello = hello
        self._policies = hello.policies
        if self._upkeep is not None:
            self._upkeep.hello = hello
        first = self._hello is None
        self._hello = hello
        if first:
            try:
                self._open(hello)
            except (BrokerError, ConfigurationError) as error:
                self._failure = str(error)
                return
            except OSError as error:
                self._failure = f"cannot make the presence file: {error}. Is the volume full?"
                return
        assert self._presence is not None
        wire.say(
            server.channel, wire.Share(path=str(self._presence.path)), self._presence.descriptor
        )
        if first:
            self._announce(hello)

    def _open(self, hello: wire.Hello) -> None:
        broker = self._broker = open_broker(hello.broker_url)
        broker.setup()
        directory = broker.presence_dir
        if not broker.capabilities.shared or directory is None:
            raise ConfigurationError(
                f"a worker cannot use {broker.url}: no other process sees its tasks. "
                "Use a sqlite:// URL, or run tasks in place with task.apply()."
            )
        options = self._options
        slots = 1 + (options.coroutines if hello.coroutines else 0) + options.threads
        self._presence = Presence.create(
            Path(directory), self._worker, sections=options.concurrency, slots=slots
        )
        self._places = [Place(i, f"{self._worker}/{i}") for i in range(options.concurrency)]
        beat = Beat(
            worker=self._worker, host=self._host, pid=os.getpid(), started=time.time(),
            queues=hello.queues, processes=options.concurrency, lease=hello.lease,
        )  # fmt: skip
        self._upkeep = Upkeep(broker, beat, hello, by=self._me)
        self._upkeep.begin(time.monotonic())

    def _announce(self, hello: wire.Hello) -> None:
        assert self._broker is not None
        options = self._options
        kinds = f"{options.concurrency} processes"
        if options.threads:
            kinds += f" of {options.threads} threads"
        text = (
            f"worker {self._worker} ready: app {hello.app}, {len(hello.policies)} tasks, "
            f"{kinds}, queues {', '.join(hello.queues)}, broker {self._broker.url}"
        )
        # Said at every log level: whoever starts a worker wants to know that it runs.
        logger.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, text, (), None))

    def _end(self) -> None:
        for server in (self._server, *self._old_servers):
            if server is not None:
                server.close()
        if self._broker is not None:
            with contextlib.suppress(BrokerError):
                if self._presence is not None:
                    for place in self._places:
                        section = self._presence.sections[place.index]
                        recovery.recover_section(
                            self._broker, section, place.consumer, by=self._me,
                            death=Death(how="worker stopped", stopping=True),
                            policies=self._policies,
                        )  # fmt: skip
                self._broker.leave(self._worker)
                if self._presence is not None:
                    self._presence.remove()
            self._broker.close()

    # -- every turn of the loop -------------------------------------------------------------------

    def _keep(self) -> None:
        assert self._upkeep is not None
        now = time.monotonic()
        self._watch_deadlines(now)
        for place in self._places:
            self._attend(place, now)
        self._obey(self._upkeep.turn(now, stopping=self._stop_at is not None), now)
        self._retire_servers()

    def _attend(self, place: Place, now: float) -> None:
        """Recover what its dead process held, then start another, when it is time."""
        if place.unrecovered is not None:
            self._recover(place)
        if place.pid is not None:
            if self._stop_at is not None and now >= self._stop_at and place.death is None:
                place.death = Death(how="worker stopped", stopping=True)
                _kill(place.pid, signal.SIGKILL)
            return
        if place.asked or place.finished or place.unrecovered or self._stop_at is not None:
            return
        server = self._server
        if now < place.start_at or server is None or server.hello is None:
            return
        place.asked, place.death, place.leaving = True, None, False
        aftermath, place.aftermath = place.aftermath[:100], []
        wire.say(
            server.channel,
            wire.Fork(index=place.index, consumer=place.consumer, aftermath=aftermath),
        )

    def _process_ended(self, place: Place, how: str, *, clean: bool) -> None:
        place.pid, place.asked = None, False
        death = place.death or Death(how=how)
        assert self._presence is not None
        section = self._presence.sections[place.index]
        busy = bool(section.running())
        if section.drained and not busy:
            place.finished = True
        elif not clean or busy:
            # A process that was stopped or recycled is no crash.
            now = time.monotonic()
            if place.death is None:
                place.deaths = [*place.deaths[-20:], now]
                delay = restart_delay(place.deaths, now)
                place.start_at = now + delay
                log = logger.error if delay else logger.warning
                log("process %s died: %s; restart in %.1f s", place.consumer, how, delay)
        place.unrecovered = death
        self._recover(place)

    def _recover(self, place: Place) -> None:
        assert self._broker is not None and self._presence is not None
        assert place.unrecovered is not None
        section = self._presence.sections[place.index]
        try:
            place.aftermath += recovery.recover_section(
                self._broker, section, place.consumer, by=self._me, death=place.unrecovered,
                policies=self._policies,
            )  # fmt: skip
        except BrokerError as error:
            logger.error("cannot give back what %s held yet: %s", place.consumer, error)
            return
        place.unrecovered = None
        section.clear()

    def _watch_deadlines(self, now: float) -> None:
        assert self._presence is not None
        for place in self._places:
            if place.pid is None or place.death is not None:
                continue
            for entry in self._presence.sections[place.index].running():
                if entry.deadline and now >= entry.deadline:
                    place.death = Death(how="time limit", overran=entry.token, limit=entry.limit)
                elif self._orders.get(entry.token, now) < now:
                    place.death = Death(how="terminated", revoked=entry.token)
                else:
                    continue
                _kill(place.pid, signal.SIGKILL)
                break

    def _obey(self, orders: list[Order] | None, now: float) -> None:
        """Cancel or kill what was revoked with ``terminate=True``; None is no news."""
        if orders is None:
            return
        assert self._presence is not None
        wanted = {order.token for order in orders}
        coroutines = self._options.coroutines if self._hello and self._hello.coroutines else 0
        self._orders = {token: at for token, at in self._orders.items() if token in wanted}
        for place in self._places:
            section = self._presence.sections[place.index]
            for entry in section.running():
                if entry.token not in wanted or entry.token in self._orders:
                    continue
                if 1 <= entry.slot <= coroutines:
                    section.order(entry.slot, entry.token)
                    self._orders[entry.token] = now + CANCEL_PATIENCE
                else:
                    self._orders[entry.token] = now - QUICK

    # -- signals, reload --------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGQUIT or (
                number == signal.SIGINT and self._stop_at is not None
            ):
                self._stop(0.0)
            elif self._stop_at is None:
                self._stop(self._options.grace)

    def _stop(self, grace: float) -> None:
        """No new claims; what runs has *grace* seconds."""
        self._stop_at = time.monotonic() + grace
        logger.warning("stopping, %.0f s for running tasks", grace)
        for place in self._places:
            if place.pid is not None:
                _kill(place.pid, signal.SIGTERM)

    def _reload(self) -> None:
        """Import the application anew and replace the processes one by one."""
        if self._stop_at is not None or self._server is None or self._server.hello is None:
            return
        logger.warning("reloading %s", self._target)
        generation = self._server.generation + 1
        self._old_servers.append(self._server)
        self._server = ForkServer(self._target, self._options, generation)

    def _retire_servers(self) -> None:
        """One process of the old code at a time is asked to leave; an old server goes last."""
        server = self._server
        if not self._old_servers or server is None or server.hello is None:
            return
        if self._stop_at is not None:
            return
        old = [p for p in self._places if p.pid is not None and p.generation != server.generation]
        starting = any(p.pid is None and not p.finished for p in self._places)
        if old and not starting and not any(p.leaving for p in old):
            old[0].leaving = True
            assert old[0].pid is not None
            _kill(old[0].pid, signal.SIGTERM)
        if not old and not any(p.asked for p in self._places):
            for retired in self._old_servers:
                retired.close()
            self._old_servers.clear()

    def _server_died(self, server: ForkServer) -> None:
        """Its processes died with it; start another."""
        code = server.process.wait()
        server.channel.close()
        if self._hello is None:
            self._failure = f"the process that loads {self._target!r} ended: {how_it_died(code)}"
            return
        logger.error("the fork server died: %s", how_it_died(code))
        if server is self._server:
            self._server = ForkServer(self._target, self._options, server.generation + 1)
        else:
            self._old_servers.remove(server)
        for place in self._places:
            if place.generation == server.generation and (place.pid is not None or place.asked):
                self._process_ended(place, "its fork server died", clean=False)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:60]


def run(target: str, options: WorkerOptions) -> int:
    """Run a worker for *target* until it is stopped; its exit code."""
    if not sys.platform.startswith("linux"):
        print("acked: a worker needs Linux (process supervision); send tasks from anywhere.",
              file=sys.stderr)  # fmt: skip
        return 1
    return Supervisor(target, options).run()
