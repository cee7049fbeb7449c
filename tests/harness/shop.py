"""The application of the worker tests: tasks that do, on demand, everything a task may do."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from acked import (
    Acked,
    BrokerUnavailable,
    Ignore,
    Reject,
    SoftTimeLimitExceeded,
    Task,
    TimeLimitExceeded,
    signals,
)
from tests.harness import ears
from tests.harness.history import note

if Path(os.environ.get("SHOP_BROKEN", "/nowhere")).exists():
    raise RuntimeError("this shop is broken")
time.sleep(float(os.environ.get("SHOP_IMPORTS_FOR", "0")))
if os.environ.get("SHOP_LISTENS"):
    ears.listen()

app = Acked(
    "shop",
    broker=os.environ["SHOP_URL"],
    results=os.environ.get("SHOP_RESULTS"),
    lease=float(os.environ.get("SHOP_LEASE", "4")),
    heartbeat=float(os.environ.get("SHOP_HEARTBEAT", "1")),
    send_timeout=float(os.environ.get("SHOP_SEND_TIMEOUT", "5")),
    watchdog=float(os.environ.get("SHOP_WATCHDOG", "60")),
)
if nice := os.environ.get("SHOP_NICE"):

    @signals.worker_process_init.connect
    def choose_priority(*_: object, **__: object) -> None:
        os.nice(int(nice))


if os.environ.get("SHOP_NO_AGREEMENT"):

    def refuse(*_: object) -> None:
        raise BrokerUnavailable("nobody may agree on anything here")

    app.broker.exchange = refuse  # type: ignore[method-assign]  # as a server without the right does
RSS_LIMIT = 512 * 1024 * 1024
UNTIL_STOPPED = 60.0
"""Seconds that no test waits for: of tasks that are to be killed or to be stopped by a limit."""


@app.task(bind=True, max_losses=int(os.environ.get("SHOP_MAX_LOSSES", "3")))
def work(self: Task[..., None], seconds: float = 0.0) -> None:
    """Work for a while, and say when it began and ended."""
    note("start", task=self.request.id)
    if seconds:
        time.sleep(seconds)
    note("end", task=self.request.id)


@app.task(bind=True)
def work_with(self: Task[..., None], luggage: str) -> None:
    """Work on something large."""
    note("start", task=self.request.id)
    note("end", task=self.request.id)


@app.task(bind=True, rate_limit="20/s")
def work_slowly(self: Task[..., None]) -> None:
    note("start", task=self.request.id)


@app.task(bind=True, rate_limit="12/m")
def work_rarely(self: Task[..., None]) -> None:
    note("start", task=self.request.id)


@app.task(bind=True, rate_limit="1200/m")
async def work_slowly_async(self: Task[..., None]) -> None:
    note("start", task=self.request.id)


@app.task(bind=True, acks_late=False)
def work_once(self: Task[..., None], seconds: float = 0.0) -> None:
    note("start", task=self.request.id)
    time.sleep(seconds)
    note("end", task=self.request.id)


@app.task(bind=True)
async def work_async(self: Task[..., None], seconds: float = 0.0) -> None:
    note("start", task=self.request.id)
    await asyncio.sleep(seconds)
    note("end", task=self.request.id)


@app.task(bind=True)
def lose_the_broker(self: Task[..., None]) -> None:
    """From now on this process reaches nothing: as with a connection that is dead for good."""
    note("start", task=self.request.id)

    def away(*_: object, **__: object) -> None:
        raise BrokerUnavailable("this process has lost the broker")

    for operation in ("claim", "settle"):
        setattr(app.broker, operation, away)


logger = logging.getLogger("shop.own")


@app.task
def log(text: str) -> None:
    logger.debug("%s, unseen", text)
    logger.info(text)
    logger.warning("%s, again", text)


@app.task
async def log_async(text: str) -> None:
    await asyncio.sleep(0.01)  # after an await as well, its lines are its own
    logger.info(text)


@app.task(bind=True, max_retries=None)
def log_and_retry(self: Task[..., None], times: int) -> None:
    logger.info("attempt %d", self.request.retries + 1)
    if self.request.retries < times:
        raise self.retry(countdown=0)


@app.task(bind=True)
def log_and_sleep(self: Task[..., None], text: str, seconds: float) -> None:
    logger.info(text)
    note("start", task=self.request.id)
    time.sleep(seconds)


@app.task(bind=True)
def log_in_a_child(self: Task[..., None], text: str, seconds: float) -> None:
    child = os.fork()
    if child == 0:
        logger.info("of the child")
        os._exit(0)
    os.waitpid(child, 0)
    logger.info(text)
    note("start", task=self.request.id)
    time.sleep(seconds)


@app.task(bind=True)
def gives_away(
    self: Task[..., Any], data: dict[str, Any], then: str = "", **named: str
) -> dict[str, Any]:
    """Say all that it knows, in a log, in its progress, and in an exception."""
    said = " ".join(f"{key}={value}" for key, value in named.items())
    logger.info("called with %s and %r", said, data)
    self.progress(1, 2, f"with {said}")
    if then == "fails":
        raise ValueError(f"refused: {said}, {data!r}, header 'Authorization: Bearer {said}'")
    if then == "dies" and not self.request.losses:
        os.kill(os.getpid(), signal.SIGKILL)
    return data


@app.task
def noop(number: int = 0) -> int:
    return number


@app.task(bind=True)
def kill_own_process(self: Task[..., None], number: int = signal.SIGKILL) -> None:
    note("start", task=self.request.id)
    note("dies", task=self.request.id)
    os.kill(os.getpid(), number)
    time.sleep(10)  # kill() may return before the process ends


@app.task(bind=True, max_retries=None)
def retry_until(self: Task[..., int], times: int, countdown: float = 0.0) -> int:
    """Retry *times* times, then return how often it ran."""
    note("start", task=self.request.id)
    if self.request.retries < times:
        raise self.retry(countdown=countdown)
    return self.request.retries + 1


@app.task(bind=True)
def retries_with_no_json(self: Task[..., None], x: Any = None) -> None:
    note("start", task=self.request.id)
    raise self.retry(kwargs={"x": object()})


@app.task(bind=True, max_retries=2)
def retries_slowly(self: Task[..., str], seconds: float) -> str:
    note("start", task=self.request.id)
    if self.request.retries == 0:
        time.sleep(seconds)
        note("end", task=self.request.id)
        raise self.retry(countdown=0)
    return "done"


@app.task(bind=True, max_retries=2)
def swallowed_retry(self: Task[..., str]) -> str:
    note("start", task=self.request.id)
    try:
        if self.request.retries < 1:
            self.retry(countdown=0)
    except Exception:
        return "swallowed"
    return "ran again"


@app.task(bind=True, max_retries=2)
def swallowed_bare(self: Task[..., str]) -> str:
    note("start", task=self.request.id)
    try:
        if self.request.retries < 1:
            self.retry(countdown=0)
    except BaseException:
        return "swallowed"
    return "ran again"


@app.task(bind=True, autoretry_for=(Exception,), max_retries=1, default_retry_delay=0)
def leaky(self: Task[..., None], override: int | None = None) -> None:
    """Fails always; one call asks for more retries than the task has."""
    note("start", task=self.request.id)
    if override is not None:
        raise self.retry(max_retries=override, countdown=0, exc=ValueError("again"))
    raise ValueError("no")


@app.task(bind=True, soft_time_limit=1, time_limit=20)
def swallows_soft_limit(self: Task[..., str]) -> str:
    try:
        time.sleep(15)
    except Exception:
        pass
    return "ran on"


@app.task(bind=True, soft_time_limit=1, time_limit=20)
def catches_soft_limit(self: Task[..., str]) -> str:
    try:
        time.sleep(15)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "not limited"


@app.task(bind=True, soft_time_limit=1, time_limit=20)
def catches_soft_limit_in_steps(self: Task[..., str]) -> str:
    """Wait in Python, where a thread can be interrupted."""
    try:
        for _ in range(1500):
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "not limited"


@app.task(bind=True, soft_time_limit=1, time_limit=20)
async def catches_soft_limit_async(self: Task[..., str]) -> str:
    try:
        await asyncio.sleep(15)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "not limited"


@app.task(bind=True, time_limit=1)
def overruns(self: Task[..., None], how: str = "sleep") -> None:
    """Pass the hard limit, in a way no signal handler can stop."""
    note("start", task=self.request.id)
    hang(how)


@app.task(bind=True, time_limit=1)
async def overruns_async(self: Task[..., None], how: str = "await") -> None:
    note("start", task=self.request.id)
    if how == "await":
        await asyncio.sleep(UNTIL_STOPPED)
    hang(how)


@app.task(bind=True, time_limit=1, autoretry_for=(Exception,), max_retries=2, default_retry_delay=0)
def overruns_and_retries(self: Task[..., None]) -> None:
    note("start", task=self.request.id)
    hang("sleep")


@app.task(bind=True, time_limit=1, autoretry_for=(TimeLimitExceeded,), max_retries=1,
          default_retry_delay=0)  # fmt: skip
def overruns_by_name(self: Task[..., None]) -> None:
    note("start", task=self.request.id)
    hang("sleep")


def hang(how: str, seconds: float = UNTIL_STOPPED) -> None:
    """Do nothing useful for long: in the kernel, in C holding the GIL, or in a loop."""
    if how == "sleep":
        time.sleep(seconds)
    elif how == "gil":
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    elif how == "loop":
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
    else:
        raise ValueError(how)


@app.task(bind=True)
def hog(self: Task[..., None], how: str, seconds: float) -> None:
    note("start", task=self.request.id)
    hang(how, seconds)
    note("end", task=self.request.id)


@app.task(bind=True)
async def hog_loop(self: Task[..., None], seconds: float) -> None:
    """Block the event loop."""
    note("start", task=self.request.id)
    time.sleep(seconds)
    note("end", task=self.request.id)


@app.task(bind=True)
def nice_hog(self: Task[..., None], seconds: float) -> None:
    """Burn CPU at the lowest priority."""
    note("start", task=self.request.id)
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    hang("loop", seconds)
    note("end", task=self.request.id)


@app.task(bind=True)
def lowers_its_priority(
    self: Task[..., tuple[int, str]], of: str = "its thread", size: int = 0
) -> tuple[int, str]:
    """Returns the process it runs in, and *size* characters."""
    if of == "its thread":
        os.setpriority(os.PRIO_PROCESS, 0, 19)
    else:
        os.setpriority(os.PRIO_PROCESS, os.getpid(), 19)
    # From a thread that is started for it, by this one.
    self.progress(1, 2)
    return os.getpid(), "x" * size


@app.task
def pid_and_priorities() -> tuple[int, list[int]]:
    """The process it runs in, and the nice values that its threads have."""
    threads = os.listdir("/proc/self/task")
    return os.getpid(), sorted({os.getpriority(os.PRIO_PROCESS, int(each)) for each in threads})


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


@app.task
def unspeakable() -> None:
    raise Unspeakable


@app.task
async def unspeakable_async() -> None:
    raise Unspeakable


@app.task(bind=True)
def dies_behind_a_coroutine(self: Task[..., None]) -> None:
    """Sends one that is started before this one is started again."""
    note("start", task=self.request.id)
    if self.request.attempt == 1:
        work_async.apply_async((5.0,), priority=9, task_id="beside")
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(10)  # until the signal arrives


@app.task(bind=True, time_limit=2)
def spawns(self: Task[..., None], how: str, seconds: float = UNTIL_STOPPED) -> None:
    """Start a descendant, write its pid down, and wait to be killed."""
    code = f"import time; time.sleep({seconds})"
    if how == "daemon":
        code = (
            f"import os, sys, time\nif os.fork(): os._exit(0)\nos.setsid()\ntime.sleep({seconds})"
        )
    child = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=how in ("session", "daemon"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    note("spawned", task=self.request.id, child=child.pid)
    if how == "daemon":
        child.wait()
        note("spawned", task=self.request.id, child=child.pid)
    time.sleep(seconds)


@app.task(bind=True, time_limit=1)
def runs_as_another(self: Task[..., None], seconds: float) -> None:
    """Wait for a program of another user, as sudo runs one."""
    child = subprocess.Popen(
        ["setpriv", "--reuid", "65534", "--clear-groups", "sleep", str(seconds)]
    )
    note("spawned", task=self.request.id, child=child.pid)
    child.wait()


@app.task(bind=True, time_limit=1)
def becomes_another(self: Task[..., None], seconds: float) -> None:
    """Make the process another user's."""
    note("start", task=self.request.id)
    os.setresuid(65534, 65534, 65534)
    time.sleep(seconds)


class BadText(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@app.task(bind=True)
def die(self: Task[..., Any], way: str) -> Any:
    """End in one of the ways an attempt can end."""
    note("start", task=self.request.id)
    if way in ("SIGKILL", "SIGSEGV", "SIGABRT"):
        note("dies", task=self.request.id)
        os.kill(os.getpid(), getattr(signal, way))
        time.sleep(10)  # kill() may return before the process ends
    elif way == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)  # what the signal does, it does while the task works
    elif way == "os._exit":
        note("dies", task=self.request.id)
        os._exit(0)
    elif way == "sys.exit":
        sys.exit(3)
    elif way == "MemoryError":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (RSS_LIMIT, RSS_LIMIT))
        bytearray(2 * RSS_LIMIT)
    elif way == "out of memory":
        note("dies", task=self.request.id)
        group = os.environ.get("SHOP_MEMORY_GROUP")
        if group:
            Path(group).write_text(str(os.getpid()))
        taken = bytearray(64 * 1024 * 1024)
        taken[::4096] = b"x" * len(taken[::4096])
        if not group:
            # What the kernel would do, where nobody may tell it to.
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(10)  # kill() may return before the process ends
    elif way == "RecursionError":

        def deeper() -> int:
            return deeper() + 1

        deeper()
    elif way == "BaseException":
        raise BaseException("odd")
    elif way == "CancelledError":
        raise asyncio.CancelledError
    elif way == "bad __str__":
        raise BadText
    elif way == "100 MiB text":
        raise ValueError("x" * (100 * 1024 * 1024))
    elif way == "unserialisable":
        return object()
    elif way == "stdout closed":
        sys.stdout.close()
        with contextlib.suppress(OSError):
            os.close(1)
        return "fine"
    elif way == "thread left":
        threading.Thread(target=time.sleep, args=(3600,)).start()
        return "fine"
    else:
        raise ValueError(way)
    return "went on"


@app.task(bind=True)
def ignores(self: Task[..., None], state: str | None = None) -> None:
    if state:
        self.update_state(state=state, meta={"by": "hand"})
    raise Ignore


@app.task(bind=True)
def rejects(self: Task[..., str], requeue: bool) -> str:
    note("start", task=self.request.id)
    if requeue and self.request.attempt > 2:
        return "taken at last"
    raise Reject("not now", requeue=requeue)


@app.task(bind=True)
def counts_up(self: Task[..., int], to: int, dies_at: int) -> int:
    """A long job that saves where it is, and loses its process once on the way."""
    done = self.saved or 0
    for number in range(done, to):
        if number == dies_at and self.request.losses == 0:
            note("dies", task=self.request.id)
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(10)  # kill() may return before the process ends
        note("step", task=self.request.id, number=number)
        self.save(number + 1)
        self.progress(number + 1, to, f"step {number + 1}")
    return to


@app.task(bind=True)
def sends_more(self: Task[..., list[str]], count: int) -> list[str]:
    return [work.delay(0).id for _ in range(count)]


class Hooked(Task[..., Any]):
    """Writes down every hook it is told of."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        note("hook", hook="before_start", task=task_id)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        note("hook", hook="on_success", task=task_id)

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note("hook", hook="on_failure", task=task_id, error=type(exc).__name__)

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note("hook", hook="on_retry", task=task_id)

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        note("hook", hook="after_return", task=task_id, status=status)


class Failing(Hooked):
    """Its hook writes down that it was called, and fails."""

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        super().on_failure(exc, task_id, args, kwargs, einfo)
        raise ValueError("of the hook")


@app.task(base=Failing, time_limit=0.5)
def overruns_and_fails_in_its_hook() -> None:
    time.sleep(UNTIL_STOPPED)


@app.task(bind=True, base=Hooked, time_limit=5, max_retries=1)
def hooked(self: Task[..., str], way: str) -> str:
    if way == "fail":
        raise ValueError("no")
    if way == "retry" and self.request.retries == 0:
        raise self.retry(countdown=0)
    if way == "hang":
        hang("gil")
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(10)  # kill() may return before the process ends
    return way


@app.task
def keep(text: str) -> int:
    return len(text)


class Small(msgspec.Struct):
    number: int


@app.task
def fussy(value: Small) -> None:
    """Takes nothing but what its annotation says."""


@app.task
async def exits_below() -> None:
    """Call `sys.exit` in an asyncio task of its own."""

    async def below() -> None:
        sys.exit(3)

    await asyncio.gather(below())


@app.task
def sleeps_with(text: str) -> None:
    time.sleep(UNTIL_STOPPED)


class HangsInHook(Task[..., Any]):
    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        time.sleep(UNTIL_STOPPED * 60)


@app.task(base=HangsInHook)
def hangs_in_hook() -> None:
    time.sleep(UNTIL_STOPPED)


class ExitsInHook(Task[..., Any]):
    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        sys.exit(3)


@app.task(base=ExitsInHook)
def exits_in_hook() -> None:
    pass


class Deadly(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        if "acked.worker" in " ".join(sys.argv) or os.environ.get("ACKED_CONSUMER_PID"):
            os.kill(os.getpid(), signal.SIGKILL)


@app.task
def takes_deadly(value: Deadly) -> None:
    pass


@app.task
def forks() -> None:
    """Fork, and come back from the task in both."""
    os.fork()


@app.task
def fills_memory() -> None:
    """Take all the memory there is, in small pieces."""
    import resource

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 64 * 1024 * 1024, resource.RLIM_INFINITY))
    kept: list[object] = [None] * 4_000_000  # of its full length, or it would fail as it grows
    for place in range(len(kept)):
        kept[place] = object()


@app.task
def forks_to(how: str) -> int:
    """Fork, and let the child come back in some way; its exit status."""
    child = os.fork()
    if child == 0:
        if how == "return":
            return 0
        raise SystemExit(3) if how == "exit" else ValueError("of the child")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@app.task(time_limit=10)
def terminates(count: int) -> list[int | None]:
    """How children of `multiprocessing` end that are terminated."""
    children = [
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(UNTIL_STOPPED,))
        for _ in range(count)
    ]
    for child in children:
        child.start()
        child.terminate()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


@app.task(bind=True)
def forks_sleeper(self: Task[..., None]) -> None:
    note("start", task=self.request.id)
    if self.request.losses:
        return
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(UNTIL_STOPPED)
        os._exit(0)
    note("spawned", task=self.request.id, child=child)
    time.sleep(30)  # until its process is killed


@app.task
def ignores_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


@app.task(bind=True)
async def cleans_up_slowly(self: Task[..., None]) -> None:
    note("start", task=self.request.id)
    try:
        await asyncio.sleep(UNTIL_STOPPED)
    finally:
        await asyncio.sleep(0.5)  # the slow part
        note("end", task=self.request.id)


@app.task(bind=True)
async def cancels_all(self: Task[..., None], seconds: float) -> None:
    """Cancel whatever else is on the event loop, for so long."""
    note("start", task=self.request.id)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        await asyncio.sleep(0)


@app.task(bind=True)
def reports(self: Task[..., str], total: Any) -> str:
    self.progress(1, total)
    return "reported"


@app.task(bind=True)
def tells_redelivered(self: Task[..., bool], seconds: float) -> bool:
    note("start", task=self.request.id)
    time.sleep(seconds)
    return bool(self.request.delivery_info["redelivered"])
