"""The fork server: imports the application once, and forks task processes off on demand.

It is a process of its own, so that the supervisor stays free of user code and a process that died
is replaced in milliseconds instead of the seconds an import may take. It is also the *subreaper*
of everything its processes start (prctl(2), PR_SET_CHILD_SUBREAPER): what a dead process leaves
behind is re-parented here and killed.

Nobody outlives whom he works for. When the supervisor is gone the channel closes and everything is
killed; when this process is gone the kernel kills the task processes (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import msgspec

from acked import signals
from acked.app import Acked
from acked.errors import AckedError, BrokerUnavailable
from acked.loading import load_app
from acked.worker import logs, process, wire
from acked.worker.aftermath import start_aftermath
from acked.worker.options import WorkerOptions
from acked.worker.presence import Presence

logger = logging.getLogger("acked.worker")

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 5.0
"""Seconds in which what is killed at the end is to be gone."""

LOOK_AGAIN = 0.01
"""Seconds between two looks whether it is."""

MARK = "ACKED_CONSUMER_PID"
"""Environment variable that everything a task process starts inherits."""


class Template:
    """The fork server's loop."""

    def __init__(self, channel: wire.Channel, app: Acked, options: WorkerOptions) -> None:
        self._channel = channel
        self._app = app
        self._options = options
        self._presence: Presence | None = None
        self._children: dict[int, int] = {}
        self._own: set[int] = children_of_this_process()

    def serve(self) -> None:
        """Fork on demand until the supervisor is gone."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            watched: list[wire.Channel | int] = [self._channel, wake_read]
            ready, _, _ = select.select(watched, [], [])
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 4096)
                self._bury()
            if self._channel in ready:
                order, descriptors = self._channel.hear_supervisor()
                match order:
                    case None:
                        self._kill_everything()
                        signals.worker_shutdown.send(self._app)
                        return
                    case wire.Share(path=path):
                        self._presence = Presence(Path(path), descriptors[0])
                        signals.worker_ready.send(self._app)
                    case wire.Fork():
                        self._fork(order)

    def _fork(self, order: wire.Fork) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            # No room for one more (pids.max, RLIMIT_NPROC, memory): those that run go on.
            self._say(wire.NotForked(index=order.index, text=str(error)))
            return
        if pid == 0:
            status = 1
            try:
                self._become_process(parent, order)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                with contextlib.suppress(Exception):
                    sys.stderr.flush()
                # Not sys.exit: a thread or an atexit function a task left behind must not hold
                # the process, and the template's own must not run here.
                os._exit(status)
        self._children[pid] = order.index
        self._say(wire.Forked(index=order.index, pid=pid))

    def _say(self, message: wire.FromTemplate) -> None:
        # When the supervisor is gone, the next turn of the loop hears so and ends everything.
        with contextlib.suppress(OSError):
            self._channel.say(message)

    def _become_process(self, parent: int, order: wire.Fork) -> None:
        die_with_parent(parent)
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._channel.close()
        os.environ[MARK] = str(os.getpid())
        assert self._presence is not None
        section = self._presence.sections[order.index]
        logs.configure(
            self._options.loglevel, self._options.log_format, worker=order.consumer,
            keep=section.log,
        )  # fmt: skip
        # What a task forks must not hold the lock that says that this worker lives.
        os.register_at_fork(after_in_child=partial(close_quietly, self._presence.descriptor))
        start_aftermath(self._app, order.aftermath)
        process.main(self._app, section, order.consumer, self._options)

    def _bury(self) -> None:
        """Collect the dead; kill what they left running."""
        died = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            died = True
            self._own.discard(pid)
            index = self._children.pop(pid, None)
            if index is not None:
                kill_group(pid)
                code = os.waitstatus_to_exitcode(status)
                self._say(wire.Ended(index=index, pid=pid, status=code))
        if died:
            self._kill_orphans()

    def _kill_orphans(self) -> bool:
        """Kill descendants whose task process is gone; whether there were any. What they have
        started themselves is ours once they are collected."""
        orphans = [
            pid
            for pid in children_of_this_process() - self._own - set(self._children)
            if not self._belongs_to_the_living(pid)
        ]
        for pid in orphans:
            if not killed(pid):
                # It runs as another user (sudo), and ends when it likes. Nobody waits for it.
                self._own.add(pid)
                logger.warning("process %d, which a task left behind, may not be killed", pid)
        return bool(orphans)

    def _belongs_to_the_living(self, pid: int) -> bool:
        """Whether a re-parented process was started by a task process that still lives."""
        try:
            if os.getpgid(pid) in self._children:
                return True
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        marks = [item for item in environment if item.startswith(MARK.encode() + b"=")]
        return bool(marks) and int(marks[0].split(b"=")[1]) in self._children

    def _kill_everything(self) -> None:
        for pid in list(self._children):
            if not killed(pid):
                del self._children[pid]
                self._own.add(pid)
            kill_group(pid)
        deadline = time.monotonic() + PATIENCE
        while (self._kill_orphans() or self._children) and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN)
            self._bury()


def children_of_this_process() -> set[int]:
    """Process ids of our children, adopted ones included."""
    found: set[int] = set()
    me = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = Path(f"/proc/{name}/stat").read_bytes()
                # The command's name stands in brackets and may hold anything.
                if int(stat.rsplit(b")", 1)[1].split()[1]) == me:
                    found.add(int(name))
    return found


def close_quietly(descriptor: int) -> None:
    """Close *descriptor*, which may be closed already."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def killed(pid: int) -> bool:
    """Kill *pid*; False where that is not allowed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def kill_group(leader: int) -> None:
    """Kill what is left of a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when *parent* ends; end now if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: list[str]) -> int:
    """``python -m acked.worker.template FD TARGET OPTIONS`` (the supervisor's business)."""
    descriptor, target, options_json = arguments
    end = socket.socket(fileno=int(descriptor))
    end.set_inheritable(False)
    channel = wire.Channel(end)
    options = msgspec.json.decode(options_json, type=WorkerOptions)
    # The terminal's Ctrl-C is for the supervisor.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)
    logs.configure(options.loglevel, options.log_format, worker="template")
    try:
        app = load_app(target)
        if not options.queues:
            queues = (app.settings.task_default_queue,)
            options = msgspec.structs.replace(options, queues=queues)
        signals.worker_init.send(app)
        with contextlib.suppress(BrokerUnavailable):  # The supervisor waits for it.
            app.broker.setup()
        hello = introduce(app, options)
    except AckedError as error:
        channel.say(wire.Failed(text=str(error)))
        return 1
    except BaseException:
        channel.say(wire.Failed(text=traceback.format_exc(limit=-20)[-60_000:]))
        return 1
    # What is imported by now is shared by all processes; a collection would copy its pages.
    gc.collect()
    gc.freeze()
    if app.is_open:
        app.broker.close()
    channel.say(hello)
    Template(channel, app, options).serve()
    return 0


def introduce(app: Acked, options: WorkerOptions) -> wire.Hello:
    """What the supervisor must know of the application."""
    settings = app.settings
    return wire.Hello(
        app=app.name,
        broker_url=app.broker_url,
        results=app.settings.results,
        lease=settings.lease,
        heartbeat=settings.heartbeat,
        watchdog=settings.watchdog,
        send_timeout=settings.send_timeout,
        result_expires=settings.result_expires,
        failure_expires=settings.failure_expires,
        queues=options.queues,
        policies={name: task.policy for name, task in app.tasks.items()},
    )


if __name__ == "__main__":
    code = 1
    try:
        code = main(sys.argv[1:])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        # Not sys.exit: a thread that the application left running must not keep this process.
        os._exit(code)
