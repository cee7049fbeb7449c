"""The checker: seven rules that a run with faults must not have broken.

It is Jepsen's total-queue (lost, unexpected) and stricter: duplicates need an excuse, nobody may
overlap, and nobody may be charged for what was not his doing.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from acked.broker import Records
from acked.delivery import Event, State
from acked.record import Attempt
from acked.worker.recovery import UNHEARD

RETURNING = 0.05
"""Seconds between the last line of a task and its settlement in the journal, on a busy machine.
Once its thread has begun another task, it is in the journal, however short that was before."""

STRIKING = 0.05
"""Seconds between the line that says of a kill and the kill, on a busy machine."""

CLAIMED_AHEAD = 2.0
"""Seconds for which a process may have had a task before it starts it, at the very most."""

LEASE_ENDED = ("its lease ran out", UNHEARD)
"""What the history of a task says of a run whose worker was not heard of for a lease, the second
where who took it over did not hear of that."""

FINAL_EVENTS = {Event.SUCCEED, Event.FAIL, Event.REVOKE}


@dataclass
class Verdict:
    """What the checker found; `violations` is empty for a good run."""

    violations: list[str] = field(default_factory=list)
    starts: int = 0
    duplicates: int = 0
    unsure: int = 0
    settled: int = 0
    refused: int = 0
    recovered_after: list[float] = field(default_factory=list)

    @property
    def p99(self) -> float:
        """Seconds from a kill to the restart that 99 of 100 keep; 0 where nothing was killed."""
        waits = sorted(self.recovered_after)
        return waits[len(waits) * 99 // 100] if waits else 0.0

    def __str__(self) -> str:
        waits = sorted(self.recovered_after)
        recovery = (
            f", {len(waits)} recovered, kill to restart p50 {waits[len(waits) // 2]:.3f} s, "
            f"p99 {self.p99:.3f} s, max {waits[-1]:.3f} s" if waits else ""
        )  # fmt: skip
        unsure = f", {self.unsure} stored though the send failed" if self.unsure else ""
        settled = f", {self.settled} settled and {self.refused} refused" if self.settled else ""
        return (
            f"{len(self.violations)} violations, {self.starts} starts, "
            f"{self.duplicates} excused duplicates{unsure}{settled}{recovery}"
        )


def check(
    history: list[dict[str, Any]],
    sent: list[str],
    records: Records,
    *,
    expect: State = State.SUCCESS,
    poison: frozenset[str] = frozenset(),
    unsure: Sequence[str] = (),
    lease: float = 0.0,
) -> Verdict:
    """Judge a drained run.

    Args:
        history: Lines of `note`: start and end with `task`; kill, cut and lives with `victim`. A
            kill is written down before it is done, and of who dies by himself once he has a reason
            to; lives says that he was seen alive. Where workers note their settlements, given,
            settling and settled with tokens.
        sent: Ids whose sending returned.
        records: Where they are.
        expect: The state every task must have reached.
        poison: Ids that kill their own process; they must be FAILURE.
        unsure: Ids whose sending raised: stored and run as if it had not, or not at all.
        lease: Seconds of a lease less one heartbeat: the least for which a worker that was cut off
            still holds what it runs.
    """
    verdict = Verdict()
    killed = {line["victim"]: line["at"] for line in history if line["event"] == "kill"}
    killed |= {line["pid"]: line["at"] for line in history if line["event"] == "dies"}
    for line in history:
        if line["event"] == "lives" and line["victim"] in killed:
            killed[line["victim"]] = max(line["at"], killed[line["victim"]])
    cut: dict[int, list[float]] = defaultdict(list)
    for line in history:
        if line["event"] == "cut":
            cut[line["victim"]].append(line["at"])
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    open_runs: dict[tuple[str, int], dict[str, Any]] = {}
    ended: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for line in history:
        if line["event"] == "start":
            for before in ended.pop((line["pid"], line["thread"]), ()):
                before["followed"] = True
            run = {
                "from": line["at"], "to": None, "last": line["at"], "pid": line["pid"],
                "followed": False,
            }  # fmt: skip
            runs[line["task"]].append(run)
            open_runs[line["task"], line["pid"]] = run
        elif run := open_runs.get((line.get("task", ""), line["pid"])):
            # Whatever it writes shows that it goes on, a kill or not.
            run["last"] = line["at"]
            if line["event"] == "end":
                run["to"] = line["at"]
                ended[line["pid"], line["thread"]].append(run)
    stored = [task for task in unsure if records.get(task) is not None or task in runs]
    verdict.unsure = len(stored)
    known = {*sent, *stored}
    for task in runs.keys() - known:
        verdict.violations.append(f"unexpected: {task} ran and was never sent")
    kills = [line["wall"] for line in history if line["event"] == "kill"]
    faults = Faults(killed, kills, cut, lease)
    _check_fences(history, verdict)
    for task in [*sent, *stored]:
        _check_task(task, runs.get(task, []), faults, records, expect, task in poison, verdict)
    return verdict


@dataclass(frozen=True)
class Faults:
    """When processes were killed (by pid; the last moment at which they are known to have lived),
    when somebody killed (by the wall clock), and when processes were cut off from the broker."""

    killed: dict[int, float]
    kills: list[float]
    cut: dict[int, list[float]]
    lease: float

    def first_cut(self, run: dict[str, Any], before: float) -> float | None:
        """When *run*'s process was first cut off since it had the task, and before that moment.

        A later one may come between the end of the lease and the next start, which has to find its
        way through the same network.
        """
        since = run["from"] - CLAIMED_AHEAD
        cuts = (at for at in self.cut.get(run["pid"], ()) if since < at < before)
        return min(cuts, default=None)


def _check_fences(history: list[dict[str, Any]], verdict: Verdict) -> None:
    """Nothing is settled with a token that is not its task's any more, and nothing twice.

    Tokens have no order. One was given after another where it was asked for after the other had
    arrived, and a settlement came after both where it was sent after both had arrived.
    """
    given: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    sent: dict[tuple[str, int], float] = {}
    for line in history:
        if line["event"] == "given":
            for task, token in line["tasks"]:
                given[task][token] = line["asked"], line["at"]
        elif line["event"] == "settling":
            for task, token in line["tasks"]:
                sent.setdefault((task, token), line["at"])
    ends: dict[str, set[int]] = defaultdict(set)
    stale: set[tuple[str, int]] = set()
    for line in history:
        if line["event"] != "settled":
            continue
        verdict.settled += len(line["accepted"])
        verdict.refused += len(line["refused"])
        for task, token, event in line["accepted"]:
            if event in FINAL_EVENTS:
                ends[task].add(token)
            _, arrived = given[task].get(token, (0.0, line["asked"]))
            newer = [
                there
                for asked, there in given[task].values()
                if arrived < asked and there <= line["asked"]
            ]
            # One that is repeated may have been accepted when it was sent first.
            if newer and sent[task, token] >= min(newer):
                stale.add((task, token))
    for task, token in sorted(stale):
        verdict.violations.append(f"double settle: {task} with {token}, which was not its token")
    for task in sorted(task for task, tokens in ends.items() if len(tokens) > 1):
        verdict.violations.append(f"double settle: {task} came to its end {len(ends[task])} times")


def _check_task(
    task: str, runs: list[dict[str, Any]], faults: Faults, records: Records,
    expect: State, poison: bool, verdict: Verdict,
) -> None:  # fmt: skip
    bad = verdict.violations
    record = records.get(task)
    verdict.starts += len(runs)
    if record is None:
        bad.append(f"lost: {task} has no record")
        return
    attempts = records.attempts(task)
    killed = faults.killed
    lapsed = sum(any(each in attempt.reason for each in LEASE_ENDED) for attempt in attempts)
    wanted = State.FAILURE if poison else expect
    if record.state is not wanted:
        bad.append(f"lost: {task} is {record.state} ({record.reason}), not {wanted}")
    for run, after in itertools.pairwise(runs):
        died = killed.get(run["pid"])
        cut = faults.first_cut(run, after["from"])
        if cut is not None and lapsed and (died is None or died > after["from"]):
            verdict.duplicates += 1
            verdict.recovered_after.append(after["from"] - cut)
            if after["from"] - cut < faults.lease:
                bad.append(f"overlap: {task} started again while pid {run['pid']} had its lease")
            continue
        if died is None:
            bad.append(f"unexcused duplicate: {task} ran again and pid {run['pid']} was not killed")
            continue
        if ended_before(run, died):
            bad.append(f"finished and run again: {task} had ended in pid {run['pid']}")
        verdict.duplicates += 1
        verdict.recovered_after.append(after["from"] - died)
        if after["from"] < died:
            bad.append(f"overlap: {task} started again before pid {run['pid']} was dead")
        elif after["from"] < run["last"]:
            bad.append(f"overlap: {task} started again and pid {run['pid']} went on with it")
    settled = [a for a in attempts if a.event in FINAL_EVENTS]
    if len(settled) != 1:
        bad.append(f"settled {len(settled)} times: {task}")
    lost = sum(not ended_before(run, killed.get(run["pid"])) for run in runs)
    # Runs that were killed before they could write a line, charged all the same.
    if record.runs > len(runs):
        lost += sum(a.loss and _killed_meanwhile(a, faults.kills) for a in attempts)
    # A run that was cut off may have come to its end, which nobody was told in time.
    if record.losses > max(lost, lapsed):
        bad.append(f"misjudged: {task} has {record.losses} losses, {lost} of its runs were cut off")
    if not poison and record.retries:
        bad.append(f"misjudged: {task} was charged {record.retries} retries")


def _killed_meanwhile(attempt: Attempt, kills: Sequence[float]) -> bool:
    """Whether a process was killed between the start of *attempt* and the moment it was declared
    lost, however long a busy machine let it wait for its first line."""
    return any(attempt.started - STRIKING <= killed <= attempt.ended for killed in kills)


def ended_before(run: dict[str, Any], died: float | None) -> bool:
    """Whether the run had ended when its process was killed.

    The task writes its end down before it returns: killed in between, it was cut off, and nobody
    but the task could know that it had nothing more to do.
    """
    if run["to"] is None:
        return False
    return died is None or run["followed"] or died - run["to"] > RETURNING
