"""Giving back what the dead held: journal first, then everything else by policy.

The same three steps serve a dead process, a whole worker killed on this host, and one whose lease
ran out: write the settlements it had finished, take over what it held, decide what each comes to.

One delivery that cannot be settled, whatever the error, ends as FAILURE and keeps no other from it:
a supervisor that ended over it would leave the same to the next.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from acked import message as messages
from acked.broker import Engine, worker_of
from acked.chance import roll
from acked.delivery import Delivery, Event, Failure, Settlement
from acked.errors import BrokerError, MessageUnreadable
from acked.execute import log_end
from acked.options import with_overrides
from acked.outcome import TaskPolicy, decide
from acked.supervision import Death, outcome_of_death
from acked.worker import presence
from acked.worker.counting import Counting
from acked.worker.presence import Presence
from acked.worker.section import Running, Section
from acked.worker.wire import Aftermath

logger = logging.getLogger("acked.worker")

DEFAULT_POLICY = TaskPolicy()
UNHEARD = "what became of it was not heard"
HELD_UNSEEN = Running(slot=0, token=0, started=0.0, deadline=0.0, limit=0.0)


class Remains(msgspec.Struct, frozen=True):
    """What a dead consumer left in the presence file.

    Args:
        running: The slots that were occupied.
        logged: What the tasks in them had logged, by token.
        finished: What was settled and not written yet, by token.
    """

    running: list[Running] = []
    logged: dict[int, bytes] = {}
    finished: dict[int, Settlement] = {}

    @classmethod
    def of(cls, section: Section) -> Remains:
        """Those in *section*."""
        # In this order: who ends an attempt, perhaps right now, writes to the journal before it
        # clears the slot.
        running, logged = section.running(), section.logged()
        finished = {settlement.token: settlement for settlement in section.journal()}
        return cls(running, logged, finished)


_NOTHING = Remains()


class Recovery:
    """What one supervisor gives back for the dead.

    What it has taken over is its own to settle: a settlement the broker refuses is *owed*, and
    tried again with every `pay`, so that a broker that fails between the two leaves nothing behind.

    Args:
        broker: Where the deliveries are.
        by: The consumer that holds what is taken over.
        policies: Of the tasks, by name; replaced at a reload.

    Attributes:
        in_doubt: Something may have been taken over in answers that were lost: `reconcile`.
    """

    def __init__(self, broker: Engine, *, by: str, policies: Mapping[str, TaskPolicy]) -> None:
        self.counting = Counting(broker)
        self.policies = policies
        self._broker = broker
        self._by = by
        self._owed: list[Settlement] = []
        self.in_doubt = False

    def pay(self) -> bool:
        """Settle what is owed; whether nothing is any more."""
        if self._owed:
            try:
                self._write(self._owed)
            except BrokerError as error:
                logger.error("cannot settle %d deliveries yet: %s", len(self._owed), error)
                return False
            self._owed.clear()
        return True

    def reconcile(self) -> None:
        """Give back what this supervisor holds and does not know of: the reply to a seizure was
        lost, or a settlement that the broker had acknowledged, when its replica took over.

        Whether it had started nobody knows any more. It counts as started: a task that takes its
        worker down must not run for ever.

        Raises:
            BrokerError: The broker refuses. Calling again is harmless.
        """
        owed = {settlement.token for settlement in self._owed}
        unknown = self._broker.seize(self._by, by=self._by, keep=owed)
        self.in_doubt = False
        self._settle(unknown, _as_started(unknown), Death(how=UNHEARD, whole=True))

    def recover_section(self, section: Section, consumer: str, death: Death) -> list[Aftermath]:
        """Settle what a dead consumer left, and say whose hooks are still to run.

        Raises:
            BrokerError: Nothing was taken over yet; calling again is harmless.
        """
        left = _left_in(section, consumer)
        self._write(list(left.finished.values()))
        seized = self._seize(consumer)
        return self._settle(seized, {consumer: left}, death)

    def recover_worker(self, dead: Presence) -> int:
        """Give back everything a dead worker held, and remove its file; how many deliveries.

        Raises:
            BrokerError: Something is left to do; calling again is harmless.
        """
        remains: dict[str, Remains] = {}
        for index, section in enumerate(dead.sections):
            consumer = f"{dead.worker}/{index}"
            remains[consumer] = left = _left_in(section, consumer)
            self._write(list(left.finished.values()))
        seized = self._seize(dead.worker)
        self._settle(seized, remains, Death(how="its worker was killed", whole=True))
        dead.remove()
        self._broker.leave(dead.worker)
        return len(seized)

    def recover_lapsed(self, seized: Sequence[Delivery]) -> None:
        """Give back what workers held whose lease ran out.

        A worker of this host still has its presence file (it is stopped or starved, not dead),
        which says what it was running, and what it had finished. Of a worker on another host
        nothing is known, and everything it held counts as started: a task that takes its host
        down must not run for ever.
        """
        directory = self._broker.presence_dir
        remains: dict[str, Remains] = {}
        for worker in {worker_of(held.consumer) for held in seized}:
            file = presence.read(directory, worker) if directory is not None and worker else None
            if file is None:
                remains |= _as_started([h for h in seized if worker_of(h.consumer) == worker])
                continue
            try:
                for index, section in enumerate(file.sections):
                    consumer = f"{worker}/{index}"
                    remains[consumer] = _left_in(section, consumer)
            finally:
                file.close()
        self._settle(seized, remains, Death(how="its lease ran out", whole=True))

    def _seize(self, holder: str) -> list[Delivery]:
        try:
            return self._broker.seize(holder, by=self._by)
        except BrokerError:
            self.in_doubt = True
            raise

    def _write(self, settlements: Sequence[Settlement]) -> None:
        """Settle, each by itself where one of them cannot be written.

        Raises:
            BrokerError: Calling again is harmless.
        """
        if not settlements:
            return
        try:
            self._broker.settle(settlements)
        except BrokerError:
            raise
        except Exception:
            for settlement in settlements:
                self._write_alone(settlement)

    def _write_alone(self, settlement: Settlement) -> None:
        try:
            self._broker.settle([settlement])
        except BrokerError:
            raise
        except Exception as error:
            logger.exception("task %s cannot be settled; it ends as FAILURE", settlement.id)
            instead = _cannot_settle(settlement, error, at=self._broker.clock.now())
            try:
                self._broker.settle([instead])
            except BrokerError:
                raise
            except Exception:
                logger.exception("nor can that be stored of task %s", settlement.id)

    def _settle(
        self, seized: Sequence[Delivery], remains: Mapping[str, Remains], death: Death
    ) -> list[Aftermath]:
        """Decide what becomes of deliveries taken over from the dead, and write it."""
        now = self._broker.clock.now()
        aftermath: list[Aftermath] = []
        # What a supervisor had taken over itself, or a seizure before this one whose answer was
        # lost: whether it had started nobody knows any more.
        unknown = _as_started([held for held in seized if held.consumer not in remains])
        for held in seized:
            left = remains.get(held.consumer) or unknown[held.consumer]
            # Where the lease ran out the seizure came first, and what it had finished could not be
            # written by the token it had.
            if (finished := left.finished.get(held.seized_token)) is not None:
                self._owed.append(_taken_over(finished, held))
                continue
            try:
                aftermath += self._decide(held, left, death, now)
            except Exception as error:
                logger.exception("cannot tell what becomes of task %s", held.id)
                unstarted = Settlement.unstarted(held, at=now)
                self._owed.append(_cannot_settle(unstarted, error, at=now))
        self.pay()
        return aftermath

    def _decide(self, held: Delivery, left: Remains, death: Death, now: float) -> list[Aftermath]:
        """Owe what *held* comes to; what is left to be run of its hooks."""
        slots = left.running
        own = next((entry for entry in slots if entry.token == held.seized_token), None)
        outcome = outcome_of_death(held, {entry.token for entry in slots}, death)
        name, policy = self._policy_of(held, own)
        settlement = decide(
            held, outcome, policy, now=now, roll=roll(),
            started=None if own is None else own.started or now,
        )  # fmt: skip
        log = left.logged.get(held.seized_token, b"") if settlement.started else b""
        settlement = msgspec.structs.replace(
            settlement, consumer=held.consumer, log=log.decode(errors="replace")
        )
        self.counting.lost(held, name, settlement)
        if settlement.reason:
            log_end(name, held, settlement)
        self._owed.append(settlement)
        if own is not None and settlement.event in (Event.FAIL, Event.RETRY, Event.REVOKE):
            return [_aftermath(held, settlement)]
        return []

    def _policy_of(self, held: Delivery, own: Running | None) -> tuple[str, TaskPolicy]:
        """Name and policy of the task *held* is for, the message's overrides applied.

        What the process itself said in its slot wins: another application's worker, or one of an
        older deployment, may know nothing of the task.
        """
        try:
            message = messages.decode(held.body)
        except MessageUnreadable:
            return "?", DEFAULT_POLICY
        policy = with_overrides(self.policies.get(message.task, DEFAULT_POLICY), message)
        if own is not None and own.max_losses:
            policy = msgspec.structs.replace(
                policy,
                acks_late=own.acks_late,
                reject_on_worker_lost=own.reject_on_worker_lost,
                max_losses=own.max_losses,
            )
        return message.task, policy


def log_held_yet(who: str, error: Exception) -> None:
    """What *who* held could not be given back, and the caller will try again."""
    bug = not isinstance(error, (BrokerError, OSError))
    logger.error("cannot give back what %s held yet: %s", who, error, exc_info=bug)


def _left_in(section: Section, consumer: str) -> Remains:
    """What *consumer* left in its *section*; nothing where that cannot be read."""
    try:
        return Remains.of(section)
    except Exception:
        logger.exception("cannot read what %s left", consumer)
        return _NOTHING


def _as_started(seized: Sequence[Delivery]) -> dict[str, Remains]:
    """What their holders would have left if all of *seized* had been running."""
    remains: dict[str, Remains] = {}
    for held in seized:
        unseen = msgspec.structs.replace(HELD_UNSEEN, token=held.seized_token)
        remains.setdefault(held.consumer, Remains()).running.append(unseen)
    return remains


def _taken_over(finished: Settlement, held: Delivery) -> Settlement:
    """*finished*, which the one before settled with, as a settlement of who holds it now."""
    return msgspec.structs.replace(finished, token=held.token, tag=held.tag, consumer=held.consumer)


def _cannot_settle(settlement: Settlement, error: Exception, *, at: float) -> Settlement:
    """FAILURE in place of *settlement*, which raised *error* when it was made or written."""
    failure = Failure("InternalError", f"{type(error).__name__} while the attempt was settled")
    return Settlement(
        id=settlement.id, token=settlement.token, tag=settlement.tag, event=Event.FAIL, at=at,
        started=settlement.started, reason=str(failure), failure=failure,
        consumer=settlement.consumer,
    )  # fmt: skip


def _aftermath(held: Delivery, settlement: Settlement) -> Aftermath:
    failure = settlement.failure
    return Aftermath(
        held=msgspec.structs.replace(held, body=b""),
        event=settlement.event.value,
        error_type=failure.type if failure else "",
        error_text=failure.message if failure else "",
    )
