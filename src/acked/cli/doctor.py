"""`acked doctor`: runs the checks in order, each as far as those before it allow."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import click

from acked.app import Acked
from acked.broker import Broker
from acked.brokers.sqlite import SQLiteBroker
from acked.cli.checks import host
from acked.cli.checks.finding import Finding, fail, ok
from acked.cli.checks.queues import check_routes, check_unknown, check_workers
from acked.cli.checks.sqlite_file import check_file
from acked.cli.checks.tasks import TaskFacts, check_tasks
from acked.cli.exits import Exit, Stop
from acked.cli.output import write, write_json
from acked.cli.render.findings import findings_blocks
from acked.cli.source import Opened, Source, json_option, source_options, target_argument
from acked.clock import SystemClock
from acked.errors import AckedError
from acked.message import new_id
from acked.redaction import redact_text
from acked.worker.options import WorkerOptions

OWN_NAME = "doctor"
"""What the doctor's write is kept under, beside what workers agree on."""


@click.command()
@target_argument
@click.option(
    "--grace", type=click.FloatRange(min=0), default=WorkerOptions().grace, show_default=True,
    metavar="SECONDS", help="What your workers are started with; time limits are compared to it.",
)  # fmt: skip
@json_option
@source_options
@click.pass_obj
def doctor(source: Source, target: str | None, grace: float, as_json: bool) -> int:
    """Check the set-up, and say what to do about what is wrong.

    Imports the app, writes and reads at the broker, looks at the SQLite library, the file and its
    disk, at clocks and limits of this host, at the options of the tasks, and at what waits without
    a worker. Each line is ok, info, warn or fail; exit code 1 if one is fail.

    \b
    Examples:
      acked doctor shop:app
      acked doctor --broker sqlite:////srv/shop/shop.acked.db --json
    """
    findings = list(examine(source, target, grace))
    if as_json:
        write_json(findings)
    else:
        write(findings_blocks(findings))
    failed = any(finding.level == "fail" for finding in findings)
    return Exit.FAILED if failed else Exit.FINE


def examine(source: Source, target: str | None, grace: float) -> Iterator[Finding]:
    """Every finding about where *source* and *target* point."""
    yield host.open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    subject = "broker" if source.app_target(target) is None else "app"
    try:
        with source.open(target, makes=True) as opened:
            if opened.app is not None:
                yield ok("app", f"{source.app_target(target)} can be imported")
                app = opened.app
                yield from _checked("tasks", lambda: check_tasks(_facts(app), grace=grace))
            subject = "broker"
            yield from _examine_broker(opened)
    except click.UsageError:
        raise
    except Exception as error:
        # Whatever stands in the way of the checks is what the doctor is asked about.
        text = (
            str(error)
            if isinstance(error, AckedError | Stop)
            else f"{type(error).__name__}: {error}"
        )
        yield fail(subject, redact_text(text), "mend this first, and run acked doctor again")


def _examine_broker(opened: Opened) -> Iterator[Finding]:
    began = time.perf_counter()
    opened.broker.setup()
    _write(opened.broker)
    opened.records.get(new_id())
    took = (time.perf_counter() - began) * 1000
    yield ok("broker", f"{opened.records.records_url} took a write and answered in {took:.1f} ms")
    broker, records, app = opened
    if isinstance(broker, SQLiteBroker):
        path = broker.path
        yield from _checked("file", lambda: check_file(path))
    yield from (
        Finding(check=each.subject, level=each.level, text=each.text, remedy=each.remedy)
        for each in broker.conditions()
    )
    yield from _checked("clock", lambda: host.clock(SystemClock(), records))
    yield from _checked(
        "workers",
        lambda: check_workers(records.workers(), records.counts(), now=broker.clock.now()),
    )
    if app is not None:
        yield from _checked("routes", lambda: check_routes(_routes(app), records.workers()))
    yield from _checked("unknown tasks", lambda: check_unknown(records))


def _write(broker: Broker) -> None:
    """Write what nobody else reads, in the place of what the doctor wrote before."""
    new = new_id().encode()
    before = broker.exchange(OWN_NAME, None, new)
    if before is not None:
        broker.exchange(OWN_NAME, before, new)


def _checked(check: str, findings: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The *findings* of one check; where it breaks, that is one of them.

    Raises:
        AckedError, Stop: What the check needs is away, which is no fault of the check.
    """
    try:
        yield from findings()
    except (AckedError, Stop, click.UsageError):
        raise
    except Exception as error:
        yield fail(
            check,
            redact_text(
                "this check itself failed, which is a bug in acked: "
                f"{type(error).__name__}: {error}"
            ),
            "report it; the other checks hold",
        )


def _facts(app: Acked) -> list[TaskFacts]:
    return [
        TaskFacts(
            name=name,
            policy=task.policy,
            retries_any=any(issubclass(Exception, kind) for kind in task.options.autoretry_for),
        )
        for name, task in app.tasks.items()
    ]


def _routes(app: Acked) -> dict[str, list[str]]:
    routes: defaultdict[str, list[str]] = defaultdict(list)
    for name, task in app.tasks.items():
        routes[task.options.queue or app.settings.task_default_queue].append(name)
    return dict(routes)
