"""`Publisher`: many senders share a write, and no one pays for another's mistake."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence

import pytest

from acked.broker import Broker
from acked.brokers.memory import MemoryBroker
from acked.errors import BrokerError, BrokerRefused, BrokerUnavailable
from acked.message import Message
from acked.publisher import MAX_BATCH, Publisher
from tests.harness.workers import until


def message(name: str) -> Message:
    return Message(id=name, task="t")


class Gate(MemoryBroker):
    """Its first write waits until it is let go; every write is noted; some are refused."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[list[str]] = []
        self.entered = threading.Event()
        self.open = threading.Event()
        self.refuse: Callable[[Sequence[Message]], Exception | None] = lambda _: None

    def send(self, messages: Sequence[Message]) -> None:
        self.writes.append([each.id for each in messages])
        self.entered.set()
        assert self.open.wait(30)
        if error := self.refuse(messages):
            raise error
        super().send(messages)


class Sender(threading.Thread):
    """One thread that sends one message."""

    def __init__(self, publisher: Publisher, name: str) -> None:
        super().__init__()
        self.publisher = publisher
        self.label = name
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.publisher.send([message(self.label)])
        except BaseException as error:
            self.error = error


@pytest.fixture
def gate() -> Gate:
    return Gate()


def pile_up(publisher: Publisher, gate: Gate, names: str) -> list[Sender]:
    """The first sender is in its write; the others wait for it."""
    senders = [Sender(publisher, names[0])]
    assert gate.entered.wait(30)
    for name in names[1:]:
        waiting = len(publisher._pending)
        senders.append(Sender(publisher, name))
        until(lambda waiting=waiting: len(publisher._pending) == waiting + 1)
    return senders


def finish(gate: Gate, senders: list[Sender]) -> None:
    gate.open.set()
    for each in senders:
        each.join(30)
        assert not each.is_alive()


def test_alone_it_is_a_direct_call() -> None:
    broker = MemoryBroker()
    threads: list[str] = []
    send = broker.send
    broker.send = lambda messages: (  # type: ignore[method-assign]  # watches the thread
        threads.append(threading.current_thread().name), send(messages)
    )[1]  # fmt: skip
    Publisher(broker).send([message("a")])
    assert threads == [threading.current_thread().name]
    assert broker.get("a") is not None


def test_those_who_come_during_a_write_share_the_next(gate: Gate) -> None:
    senders = pile_up(Publisher(gate), gate, "abcd")
    finish(gate, senders)
    assert gate.writes == [["a"], ["b", "c", "d"]]
    assert [each.error for each in senders] == [None] * 4


def test_a_shared_write_has_a_bound(gate: Gate) -> None:
    publisher = Publisher(gate)
    senders = pile_up(publisher, gate, "a")
    large = threading.Thread(
        target=publisher.send, args=([message(f"l{n}") for n in range(MAX_BATCH)],)
    )
    large.start()
    until(lambda: len(publisher._pending) == 1)
    senders += pile_up(publisher, gate, "b")
    until(lambda: len(publisher._pending) == 2)
    finish(gate, senders)
    large.join(30)
    assert [len(each) for each in gate.writes] == [1, MAX_BATCH, 1]


def test_one_senders_bad_message_fails_that_sender_alone(gate: Gate) -> None:
    def refuse(messages: Sequence[Message]) -> Exception | None:
        bad = any(each.id == "c" for each in messages)
        return BrokerError("c is too long") if bad else None

    gate.refuse = refuse
    senders = pile_up(Publisher(gate), gate, "abcd")
    finish(gate, senders)
    assert {each.label: str(each.error) for each in senders if each.error} == {"c": "c is too long"}
    assert gate.get("b") is not None and gate.get("d") is not None


def test_a_broker_that_is_away_fails_all_of_a_shared_write_at_once(gate: Gate) -> None:
    gate.refuse = lambda messages: BrokerUnavailable("away") if len(messages) > 1 else None
    senders = pile_up(Publisher(gate), gate, "abc")
    finish(gate, senders)
    assert gate.writes == [["a"], ["b", "c"]]
    errors = [each.error for each in senders]
    assert errors[0] is None
    assert isinstance(errors[1], BrokerUnavailable) and isinstance(errors[2], BrokerUnavailable)
    assert errors[1] is not errors[2]


@pytest.mark.parametrize("kind", [BrokerRefused, BrokerUnavailable])
def test_nobody_waits_for_a_broker_to_turn_every_other_sender_away(
    gate: Gate, kind: type[BrokerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acked.publisher.APART", 0.0)
    senders = pile_up(Publisher(gate), gate, "abcd")
    errors = {
        "a": None, "bcd": BrokerRefused("no right", nothing_stored=True),
        "b": kind("not now"),
    }  # fmt: skip
    gate.refuse = lambda messages: errors["".join(each.id for each in messages)]
    finish(gate, senders)
    assert gate.writes == [["a"], ["b", "c", "d"], ["b"]]
    for each in senders[2:]:
        assert isinstance(each.error, kind)
        assert each.error.nothing_stored


@pytest.mark.parametrize("kind", [BrokerRefused, BrokerUnavailable])
def test_who_is_turned_away_alone_keeps_nobody_behind_it_from_being_tried(
    gate: Gate, kind: type[BrokerError]
) -> None:
    senders = pile_up(Publisher(gate), gate, "abcd")
    errors = {"bcd": BrokerError("not these"), "c": kind("not this queue")}
    gate.refuse = lambda messages: errors.get("".join(each.id for each in messages))
    finish(gate, senders)
    assert [each.label for each in senders if each.error is not None] == ["c"]
    assert gate.get("d") is not None


class Interrupt(BaseException):
    """As Ctrl-C."""


def test_who_is_interrupted_while_it_waits_has_sent_nothing_and_delays_nobody(gate: Gate) -> None:
    publisher = Publisher(gate)
    senders = pile_up(publisher, gate, "ab")

    def interrupt_once_it_waits() -> None:
        until(lambda: len(publisher._pending) == 2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def strike(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, strike)
    try:
        striker = threading.Thread(target=interrupt_once_it_waits)
        striker.start()
        with pytest.raises(Interrupt):
            publisher.send([message("interrupted")])
        striker.join(30)
    finally:
        signal.signal(signal.SIGUSR1, before)
    finish(gate, senders)
    assert gate.writes == [["a"], ["b"]]


def test_many_threads_lose_and_double_nothing() -> None:
    broker = MemoryBroker()
    publisher = Publisher(broker)

    def send_some(label: int) -> None:
        for n in range(50):
            publisher.send([message(f"{label}-{n}")])

    threads = [threading.Thread(target=send_some, args=(label,)) for label in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(broker.get(f"{label}-{n}") for label in range(8) for n in range(50))


def test_coroutines_that_send_at_once_share_writes(gate: Gate) -> None:
    async def go() -> None:
        publisher = Publisher(gate)
        sends = [
            asyncio.ensure_future(publisher.asend([message(f"m{number}")])) for number in range(100)
        ]
        await asyncio.to_thread(gate.entered.wait, 30)
        gate.open.set()
        await asyncio.gather(*sends)
        publisher.close()

    asyncio.run(go())
    assert sum(len(each) for each in gate.writes) == 100
    assert len(gate.writes) <= 3


def test_a_coroutine_gets_its_own_error(gate: Gate) -> None:
    gate.open.set()
    gate.refuse = lambda messages: (
        BrokerError("bad") if any(each.id == "bad" for each in messages) else None
    )

    async def go() -> list[BaseException | None]:
        publisher = Publisher(gate)
        return await asyncio.gather(
            *(publisher.asend([message(name)]) for name in ("a", "bad", "c")),
            return_exceptions=True,
        )

    first, second, third = asyncio.run(go())
    assert (first, third) == (None, None)
    assert isinstance(second, BrokerError)


def test_a_coroutine_that_is_cancelled_before_its_turn_sends_nothing(gate: Gate) -> None:
    async def go() -> None:
        publisher = Publisher(gate)
        first = asyncio.ensure_future(publisher.asend([message("first")]))
        await asyncio.to_thread(gate.entered.wait, 30)
        cancelled = asyncio.ensure_future(publisher.asend([message("cancelled")]))
        last = asyncio.ensure_future(publisher.asend([message("last")]))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, last)

    asyncio.run(go())
    assert gate.writes == [["first"], ["last"]]


def test_event_loops_of_several_threads_are_served_by_one_publisher() -> None:
    broker = MemoryBroker()
    publisher = Publisher(broker)

    async def some(label: int) -> None:
        await asyncio.gather(*(publisher.asend([message(f"{label}-{n}")]) for n in range(20)))

    threads = [threading.Thread(target=lambda n=n: asyncio.run(some(n))) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(broker.get(f"{label}-{n}") for label in range(4) for n in range(20))


def test_closing_sends_what_was_handed_over_and_ends_the_thread(gate: Gate) -> None:
    async def go() -> None:
        publisher = Publisher(gate)
        sends = [asyncio.ensure_future(publisher.asend([message(name)])) for name in "ab"]
        await asyncio.to_thread(gate.entered.wait, 30)
        gate.open.set()
        await asyncio.to_thread(publisher.close)
        await asyncio.gather(*sends)
        assert publisher._writer is not None
        assert not publisher._writer.is_alive()
        with pytest.raises(BrokerError, match="closed"):
            await publisher.asend([message("late")])

    asyncio.run(go())
    assert gate.get("b") is not None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_with_an_empty_publisher(gate: Gate) -> None:
    publisher = Publisher(gate)
    senders = pile_up(publisher, gate, "ab")
    child = os.fork()
    if child == 0:
        gate.open.set()
        try:
            publisher.send([message("child")])
            asyncio.run(publisher.asend([message("coroutine")]))
            os._exit(0 if gate.get("coroutine") and not gate.get("b") else 1)
        except BaseException:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    finish(gate, senders)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_publisher_takes_any_broker() -> None:
    broker: Broker = MemoryBroker()
    Publisher(broker).send([])


def test_a_writer_that_cannot_be_started_fails_one_send_and_hangs_no_other(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(gate)
    senders = pile_up(publisher, gate, "a")
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "acked-publisher":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BrokerError, match="can't start new thread") as caught:
            publisher.send([message("b")])
        assert caught.value.nothing_stored
    senders.append(Sender(publisher, "c"))
    until(lambda: len(publisher._pending) == 1)
    finish(gate, senders)
    last = Sender(publisher, "d")
    last.join(30)
    assert not last.is_alive()
    assert gate.writes == [["a"], ["c"], ["d"]]


def test_a_signal_handler_that_sends_in_the_midst_of_a_send_is_told_so() -> None:
    broker = MemoryBroker()
    publisher = Publisher(broker)
    seen: list[BrokerError] = []
    send = broker.send

    def handler(*_: object) -> None:
        try:
            publisher.send([message("from the handler")])
        except BrokerError as error:
            seen.append(error)

    def interrupted(messages: Sequence[Message]) -> None:
        signal.raise_signal(signal.SIGUSR1)
        send(messages)

    broker.send = interrupted  # type: ignore[method-assign] # the signal comes in its midst
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        publisher.send([message("a")])
    finally:
        signal.signal(signal.SIGUSR1, before)
    (error,) = seen
    assert error.nothing_stored
    assert broker.get("a") is not None


def test_a_signal_handler_that_raises_in_the_midst_of_a_send_keeps_nobody_from_sending() -> None:
    class Forgetful(MemoryBroker):
        def send(self, messages: Sequence[Message]) -> None:
            pass

    def raises(*_: object) -> None:
        raise Interrupt

    publisher = Publisher(Forgetful())
    before = signal.signal(signal.SIGVTALRM, raises)
    try:
        for _ in range(150):
            with pytest.raises(Interrupt):  # noqa: PT012 - it comes at any moment
                signal.setitimer(signal.ITIMER_VIRTUAL, 1e-3)
                while True:
                    publisher.send([message("a")])
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    other = Sender(publisher, "b")
    other.join(30)
    assert not other.is_alive()
    assert other.error is None
    publisher.send([message("c")])
    publisher.close()
