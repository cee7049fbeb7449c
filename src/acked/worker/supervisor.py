"""The supervisor: keeps the lease, watches deadlines, replaces the dead. It runs no user code.

Its loop waits for three things: a message of the fork server (a process ended), a signal, and the
clock (heartbeat, deadlines, restarts, other workers of this host that died). Whatever a task does
to its process, the interpreter here is free, so a lease is never missed and SIGKILL always lands.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import select
import signal
import socket
import sys
import time
from pathlib import Path

from acked.broker import Beat, Engine
from acked.errors import BrokerError, ConfigurationError
from acked.supervision import SHORT_LIFE, Death, how_it_died
from acked.worker import logs, wire
from acked.worker.forkserver import ForkServer, ForkServers
from acked.worker.guard import Guard
from acked.worker.lines import LAST_WORDS, LineWriter
from acked.worker.memory import resident_kib
from acked.worker.opening import Opening
from acked.worker.options import WorkerOptions
from acked.worker.place import Place
from acked.worker.presence import Presence
from acked.worker.recovery import Recovery, log_held_yet
from acked.worker.upkeep import GaveUp, Upkeep

logger = logging.getLogger("acked.worker")

TICK = 0.1
RECOVER_AGAIN = 0.5
"""Seconds until it is tried again to give back what a dead process held."""

PATIENCE = 5.0
"""Seconds after the grace in which a fork server has to say that what was killed is gone."""


class Supervisor:
    """One worker.

    Args:
        target: The application, ``module:app``.
        options: How to run it.
    """

    def __init__(self, target: str, options: WorkerOptions) -> None:
        self._target = target
        self._options = options
        self._host = socket.gethostname()
        self._worker = (
            f"{_plain(options.hostname or self._host)}.{os.getpid()}.{secrets.token_hex(3)}"
        )
        self._me = f"{self._worker}/s"
        self._broker: Engine | None = None
        self._presence: Presence | None = None
        self._recovery: Recovery | None = None
        self._upkeep: Upkeep | None = None
        self._guard: Guard | None = None
        self._hello: wire.Hello | None = None  # once the broker is open
        self._opening: tuple[ForkServer, Opening] | None = None
        self._places: list[Place] = []
        self._servers = ForkServers(target, options)
        self._lines = LineWriter()
        self._signals: list[int] = []
        self._to_reload = False
        self._stop_at: float | None = None
        self._failure: str | None = None
        self._gave_up: str | None = None

    # -- life -------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until stopped.

        Returns:
            0 after a stop, 1 when the application cannot be imported, or the broker cannot be
            opened or has not answered for long.
        """
        options, lines = self._options, self._lines
        logs.configure(options.loglevel, options.log_format, lines, worker=self._worker)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: self._signals.append(number))
        self._servers.start()
        try:
            while not self._finished():
                self._wait(wake_read)
                if self._guard is not None:
                    self._guard.pulse()
                self._handle_signals()
                if self._failure is None and self._opening is not None:
                    self._try_to_open(*self._opening)
                elif self._failure is None and self._hello is not None:
                    self._keep()
        finally:
            self._end()
            if (failure := self._failure or self._gave_up) is not None:
                lines.write(f"acked: {failure}\n")
            lines.drain(LAST_WORDS)
        return 0 if failure is None else 1

    def _finished(self) -> bool:
        if self._failure is not None:
            return True
        if self._hello is None:
            return self._stop_at is not None
        # While the broker is away nothing can be given back. Past its grace the worker ends
        # without: its presence file tells the next one.
        past = -math.inf if self._stop_at is None else time.monotonic() - self._stop_at
        if past >= PATIENCE:
            return True  # The fork server does not say any more who is gone; it is killed.
        late = past >= 0
        gone = all(p.pid is None and (not (p.asked or p.unrecovered) or late) for p in self._places)
        return gone and (self._stop_at is not None or all(p.finished for p in self._places))

    def _wait(self, wake: int) -> None:
        servers = self._servers.open
        watched: list[wire.Channel | int] = [wake, *(s.channel for s in servers)]
        ready, _, _ = select.select(watched, [], [], TICK)
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        for server in servers:
            if server.channel in ready:
                self._hear(server)

    def _hear(self, server: ForkServer) -> None:
        match server.channel.hear_template():
            case None:
                self._server_died(server)
            case wire.Failed(text=text):
                if self._hello is None:
                    self._failure = f"cannot load {self._target!r}: {text.rstrip()}"
                else:
                    logger.error("cannot load %s any more: %s", self._target, text.rstrip())
                    self._servers.failed(server)
            case wire.Hello() as hello:
                self._introduced(server, hello)
            case wire.Forked(index=index, pid=pid):
                place = self._places[index]
                place.pid, place.asked, place.started_at = pid, False, time.monotonic()
                place.aftermath = []
                if self._stop_at is not None:
                    place.ask_to_leave()
            case wire.NotForked(index=index, text=text):
                place = self._places[index]
                place.asked, delay = False, place.put_off(time.monotonic())
                logger.error("process %s not started: %s; again in %.1f s",
                             place.consumer, text, delay)  # fmt: skip
            case wire.Ended(index=index, pid=pid, status=status):
                how = f"{how_it_died(status)}, pid {pid}"
                self._process_ended(self._places[index], how, clean=status == 0)

    def _say(self, server: ForkServer, message: wire.ToTemplate, *descriptors: int) -> None:
        try:
            server.channel.say(message, *descriptors)
        except OSError:
            self._server_died(server)

    def _introduced(self, server: ForkServer, hello: wire.Hello) -> None:
        server.hello = hello
        if not hello.policies:
            logger.warning(
                "app %s has no tasks: name the module that defines them, as in acked worker "
                "shop.tasks:app, or import it there", hello.app,
            )  # fmt: skip
        if self._hello is None:
            self._opening = server, Opening(hello)
            return
        self._hello = hello
        self._share_with(server, hello)

    def _share_with(self, server: ForkServer, hello: wire.Hello) -> None:
        assert self._presence is not None and self._upkeep is not None
        assert self._recovery is not None
        self._upkeep.hello = hello
        self._recovery.policies = hello.policies
        self._say(server, wire.Share(path=str(self._presence.path)), self._presence.descriptor)

    def _try_to_open(self, server: ForkServer, opening: Opening) -> None:
        hello = server.hello
        assert hello is not None
        try:
            self._broker = opening.attempt()
            if self._broker is None:
                return
            self._begin(self._broker, hello)
        except (BrokerError, ConfigurationError) as error:
            self._failure = str(error)
            return
        except OSError as error:
            self._failure = f"cannot make the presence file: {error}. Is the volume full?"
            return
        self._hello, self._opening = hello, None
        self._share_with(server, hello)
        self._announce(hello)

    def _begin(self, broker: Engine, hello: wire.Hello) -> None:
        directory = broker.presence_dir
        assert directory is not None
        options = self._options
        # The main thread's slot, and those of coroutines also where no task is one yet: the next
        # reload may bring the first.
        slots = 1 + options.coroutines + options.threads
        self._presence = Presence.create(
            Path(directory), self._worker, sections=options.concurrency, slots=slots
        )
        self._places = [
            Place(index, f"{self._worker}/{index}", section)
            for index, section in enumerate(self._presence.sections)
        ]
        beat = Beat(
            worker=self._worker, host=self._host, pid=os.getpid(), started=time.time(),
            queues=hello.queues, processes=options.concurrency, lease=hello.lease,
        )  # fmt: skip
        self._recovery = Recovery(broker, by=self._me, policies=hello.policies)
        self._upkeep = Upkeep(broker, beat, hello, self._recovery, by=self._me, memory=self._memory)
        self._upkeep.begin(time.monotonic())
        self._guard = Guard(
            self._places, options.coroutines, patience=hello.watchdog * 5, lines=self._lines
        )
        self._guard.start()

    def _memory(self) -> int:
        pids = [os.getpid(), *(place.pid for place in self._places if place.pid is not None)]
        return sum(resident_kib(pid) for pid in pids)

    def _announce(self, hello: wire.Hello) -> None:
        assert self._broker is not None
        options = self._options
        kinds = f"{options.concurrency} processes"
        if options.threads:
            kinds += f" of {options.threads} threads"
        logs.say_always(
            f"worker {self._worker} ready: app {hello.app}, {len(hello.policies)} tasks, "
            f"{kinds}, queues {', '.join(hello.queues)}, broker {self._broker.url}"
        )

    def _end(self) -> None:
        if self._guard is not None:
            self._guard.stop()
        self._servers.end()
        if self._broker is None:
            return
        if self._presence is not None and self._recovery is not None:
            stopped = Death(how="worker stopped", stopping=True)
            try:
                for place in self._places:
                    death = place.unrecovered or stopped
                    self._recovery.recover_section(place.section, place.consumer, death)
                self._recovery.counting.write(time.monotonic(), at_once=True)
                if self._recovery.pay():
                    self._presence.remove()
                    self._broker.leave(self._worker)
            except Exception as error:
                # The presence file stays: the next worker of this host finds it and does the rest.
                log_held_yet("the worker", error)
        self._broker.close()

    # -- every turn of the loop -------------------------------------------------------------------

    def _keep(self) -> None:
        assert self._upkeep is not None and self._guard is not None
        now = time.monotonic()
        for place in self._places:
            self._attend(place, now)
        try:
            orders = self._upkeep.turn(now, stopping=self._stop_at is not None)
        except GaveUp as error:
            if self._gave_up is None:
                self._gave_up = f"{error}; the worker ends. What it ran is run again."
                logger.critical("%s", self._gave_up)
                self._stop(self._options.grace)
            orders = None
        if orders is not None:
            self._guard.obey(orders)
        stopping = self._stop_at is not None
        if self._to_reload and self._servers.can_start and not stopping:
            self._reload()
        self._servers.keep(now, stopping=stopping)
        if self._servers.replacing and not stopping:
            self._replace_one()

    def _attend(self, place: Place, now: float) -> None:
        """Recover what its dead process held, then start another, when it is time."""
        assert self._upkeep is not None
        if place.unrecovered is not None and now >= place.recover_at:
            self._recover(place)
        if place.pid is not None:
            if self._stop_at is not None and now >= self._stop_at:
                with place.lock:
                    if place.death is None:
                        place.kill(Death(how="worker stopped", stopping=True))
            elif self._upkeep.is_deaf(place, now):
                with place.lock:
                    if place.death is None:
                        logger.error("process %s hears nothing; replaced", place.consumer)
                        place.kill(Death(how="it lost the broker", stopping=True))
            return
        if place.asked or place.finished or place.unrecovered or self._stop_at is not None:
            return
        server = self._servers.current
        if now < place.start_at or server is None or server.hello is None:
            return
        place.asked, place.death, place.leaving = True, None, False
        place.generation = server.generation
        aftermath = place.aftermath[:100]
        self._say(
            server, wire.Fork(index=place.index, consumer=place.consumer, aftermath=aftermath)
        )

    def _process_ended(self, place: Place, how: str, *, clean: bool) -> None:
        with place.lock:
            place.pid, place.asked = None, False
            death = place.death
        busy = bool(place.section.running())
        if place.section.drained and not busy:
            place.finished = True
        elif death is None and (not clean or busy):
            # A process that was stopped or recycled is no crash.
            now, delay = time.monotonic(), 0.0
            # A task that kills its process is stopped by its own count of losses.
            if not busy and now - place.started_at < SHORT_LIFE:
                delay = place.put_off(now)
            log = logger.error if delay else logger.warning
            log("process %s died: %s; restart in %.1f s", place.consumer, how, delay)
        place.unrecovered = death or Death(how=how)
        self._recover(place)

    def _recover(self, place: Place) -> None:
        assert self._recovery is not None and place.unrecovered is not None
        try:
            place.aftermath += self._recovery.recover_section(
                place.section, place.consumer, place.unrecovered
            )
        except Exception as error:
            log_held_yet(place.consumer, error)
            place.recover_at = time.monotonic() + RECOVER_AGAIN
            return
        place.unrecovered = None
        place.section.clear()

    # -- signals, reload --------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGHUP:
                self._to_reload = True
                if not self._servers.can_start:
                    # What is being imported may have read some of the code before it was changed.
                    logger.warning("%s is reloaded once it has been imported", self._target)
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
                place.ask_to_leave()

    def _reload(self) -> None:
        """Import the application anew and replace the processes one by one."""
        self._to_reload = False
        logger.warning("reloading %s", self._target)
        self._servers.start()

    # -- fork servers -----------------------------------------------------------------------------

    def _replace_one(self) -> None:
        """One process of the old code at a time is asked to leave; its fork server goes last."""
        server = self._servers.current
        assert server is not None
        old = [p for p in self._places if p.pid is not None and p.generation != server.generation]
        starting = any(p.pid is None and not p.finished for p in self._places)
        if old and not starting and not any(p.leaving for p in old):
            old[0].ask_to_leave()
        if not old and not any(p.asked for p in self._places):
            self._servers.retire()
            logger.warning("reloaded: every process runs the new code")

    def _server_died(self, server: ForkServer) -> None:
        """Its processes died with it."""
        if server not in self._servers.open:
            return
        server.close()
        server.wait()
        how = how_it_died(server.process.returncode)
        if self._hello is None:
            self._failure = f"the process that loads {self._target!r} ended: {how}"
            return
        logger.error("the fork server died: %s", how)
        self._servers.failed(server)
        for place in self._places:
            if place.generation == server.generation and (place.pid is not None or place.asked):
                if place.pid is not None:
                    # What their tasks started has nobody left who would end it.
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(place.pid, signal.SIGKILL)
                self._process_ended(place, "its fork server died", clean=False)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:60]


def run(target: str, options: WorkerOptions) -> int:
    """Run a worker for *target* until it is stopped; its exit code."""
    if not sys.platform.startswith("linux"):
        print("acked: a worker needs Linux (process supervision); send tasks from anywhere.",
              file=sys.stderr)  # fmt: skip
        return 1
    return Supervisor(target, options).run()
