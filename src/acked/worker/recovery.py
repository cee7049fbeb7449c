"""Giving back what the dead held: journal first, then everything else by policy.

The same three steps serve a dead process, a whole worker killed on this host, and one whose lease
ran out: write the settlements it had finished, take over what it held, decide what each comes to.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence

import msgspec

from acked import message as messages
from acked.broker import Broker
from acked.delivery import Delivery, Event, Settlement
from acked.errors import MessageUnreadable
from acked.execute import log_end
from acked.options import with_overrides
from acked.outcome import TaskPolicy, decide
from acked.supervision import Death, outcome_of_death
from acked.worker import presence
from acked.worker.presence import Presence, Running, Section
from acked.worker.wire import Aftermath

DEFAULT_POLICY = TaskPolicy()


def recover_section(
    broker: Broker, section: Section, consumer: str, *, by: str, death: Death,
    policies: Mapping[str, TaskPolicy],
) -> list[Aftermath]:  # fmt: skip
    """Settle what a dead consumer left, and say whose hooks are still to run.

    Args:
        broker: Where its deliveries are.
        section: Its part of the presence file.
        consumer: Its name.
        by: The consumer that acts, and holds the deliveries for the moment.
        death: How it died.
        policies: Of the tasks, by name; unknown ones get the defaults.

    Raises:
        BrokerError: Something is left to do; calling again is harmless.
    """
    finished = section.journal()
    if finished:
        broker.settle(finished)
    running = section.running()
    return settle_seized(
        broker, broker.seize(consumer, by=by), {consumer: running}, death=death, policies=policies
    )


def recover_worker(
    broker: Broker, dead: Presence, *, by: str, policies: Mapping[str, TaskPolicy]
) -> int:
    """Give back everything a dead worker held, and remove its file; how many deliveries."""
    death = Death(how="its worker was killed")
    running: dict[str, list[Running]] = {}
    for index, section in enumerate(dead.sections):
        finished = section.journal()
        if finished:
            broker.settle(finished)
        running[f"{dead.worker}/{index}"] = section.running()
    seized = broker.seize(dead.worker, by=by)
    settle_seized(broker, seized, running, death=death, policies=policies)
    broker.leave(dead.worker)
    dead.remove()
    return len(seized)


def recover_lapsed(
    broker: Broker, seized: Sequence[Delivery], *, policies: Mapping[str, TaskPolicy]
) -> None:
    """Give back what workers held whose lease ran out.

    A worker of this host still has its presence file (it is stopped or starved, not dead), which
    says what it was running. Of a worker on another host nothing is known, and everything it held
    counts as started: a task that takes its host down must not run for ever.
    """
    directory = broker.presence_dir
    running: dict[str, list[Running]] = {}
    unknown: list[Delivery] = []
    for worker in {held.consumer.rpartition("/")[0] for held in seized}:
        file = presence.read(directory, worker) if directory is not None and worker else None
        if file is None:
            unknown += [held for held in seized if held.consumer.rpartition("/")[0] == worker]
            continue
        try:
            for index, section in enumerate(file.sections):
                running[f"{worker}/{index}"] = section.running()
        finally:
            file.close()
    for held in unknown:
        running.setdefault(f"?{held.id}", []).append(Running(0, held.seized_token, 0, 0, 0))
    settle_seized(broker, seized, running, death=Death(how="its lease ran out"), policies=policies)


def settle_seized(
    broker: Broker, seized: Sequence[Delivery], running: Mapping[str, Sequence[Running]],
    *, death: Death, policies: Mapping[str, TaskPolicy],
) -> list[Aftermath]:  # fmt: skip
    """Decide and write what becomes of deliveries taken over from the dead.

    Args:
        seized: What `Broker.seize` or `Broker.reap` gave.
        running: What each dead consumer was running.
    """
    now = time.time()
    settlements: list[Settlement] = []
    aftermath: list[Aftermath] = []
    for held in seized:
        slots = running.get(held.consumer) or running.get(f"?{held.id}") or ()
        tokens = {entry.token for entry in slots}
        started = next((e.started for e in slots if e.token == held.seized_token), None)
        outcome = outcome_of_death(held, tokens, death)
        name, policy = policy_of(held.body, policies)
        settlement = decide(
            held, outcome, policy, now=now, roll=random.random(),
            started=started or (now if started is not None else None),
        )  # fmt: skip
        settlement = msgspec.structs.replace(settlement, consumer=held.consumer)
        settlements.append(settlement)
        if settlement.reason:
            log_end(name, held, settlement)
        if settlement.started is not None and settlement.event in (
            Event.FAIL, Event.RETRY, Event.REVOKE,
        ):  # fmt: skip
            aftermath.append(_aftermath(held, settlement))
    if settlements:
        broker.settle(settlements)
    return aftermath


def policy_of(body: bytes, policies: Mapping[str, TaskPolicy]) -> tuple[str, TaskPolicy]:
    """Name and policy of the task a body is for, the message's overrides applied."""
    try:
        message = messages.decode(body)
    except MessageUnreadable:
        return "?", DEFAULT_POLICY
    return message.task, with_overrides(policies.get(message.task, DEFAULT_POLICY), message)


def _aftermath(held: Delivery, settlement: Settlement) -> Aftermath:
    failure = settlement.failure
    return Aftermath(
        body=held.body, id=held.id, attempt=held.attempt, retries=held.retries,
        losses=held.losses, event=settlement.event.value,
        error_type=failure.type if failure else "", error_text=failure.message if failure else "",
    )  # fmt: skip
