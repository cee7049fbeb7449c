"""RabbitMQ: queues that do not answer, now or ever, and what they do to others.

Killed just after it has made a queue, RabbitMQ forgets which log is the queue's. Here the process
of the queue is stopped, which looks the same from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from acked.broker import Ledger
from acked.brokers.rabbitmq import RabbitMQBroker, mending, publishing
from acked.brokers.rabbitmq.mending import OLD, Suspects
from acked.brokers.rabbitmq.notes import Note, Notes
from acked.brokers.rabbitmq.recovering import OVERDUE
from acked.brokers.rabbitmq.topology import DEAD, again, delay, line, lines
from acked.clock import ManualClock
from acked.delivery import Delivery
from acked.errors import BrokerError, BrokerUnavailable
from acked.publisher import Publisher
from acked.testing.timeline import message, settlements
from tests.harness.rabbitmq import PATIENCE, Opener, can_send, claim, reap
from tests.harness.workers import until
from tests.servers.rabbitmq import RabbitServer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "LAST_ANSWER", 2.0)


@contextlib.contextmanager
def hung(server: RabbitServer, broker: RabbitMQBroker, name: str) -> Iterator[None]:
    """The queue *name* answers nothing for a while."""
    server.hang_queue(broker._address.vhost, name)
    try:
        yield
    finally:
        server.hang_queue(broker._address.vhost, name, hung=False)


@contextlib.contextmanager
def ended(server: RabbitServer, broker: RabbitMQBroker, name: str) -> Iterator[None]:
    """The queue *name* ends each connection on which it is asked for messages, for a while."""
    server.end_queue(broker._address.vhost, name)
    try:
        yield
    finally:
        server.end_queue(broker._address.vhost, name, ended=False)


def notes(broker: RabbitMQBroker) -> Notes:
    return Notes(broker._ledger, broker._address.identity)


def a_dead_queue(connect: Opener, server: RabbitServer, clock: ManualClock) -> None:
    """A program sends "a" to "bad", a queue that it makes, and ends. So does the queue."""
    maker = connect(clock)
    maker.send([message("a", queue="bad")])
    maker.close()
    server.hang_queue(maker._address.vhost, line("bad", 0))
    clock.advance(OVERDUE + 1)


def try_to_claim(broker: RabbitMQBroker, *queues: str) -> list[str]:
    with contextlib.suppress(BrokerError):
        return [held.id for held in broker.claim("w1/0", queues, 1).deliveries]
    return []


Fault = Callable[[RabbitServer, RabbitMQBroker, str], contextlib.AbstractContextManager[None]]


class TestDeadQueues:
    def test_one_that_its_maker_has_left_is_made_anew_by_who_consumes_it(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        clock = ManualClock()
        a_dead_queue(connect, server, clock)
        broker = connect(clock, timeout=5.0)

        def comes() -> list[str]:
            reap(broker)
            return try_to_claim(broker, "bad")

        assert until(comes, "the task", within=PATIENCE * 2) == ["a"]

    def test_one_that_its_maker_has_left_is_made_anew_by_who_sends_there(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        clock = ManualClock()
        a_dead_queue(connect, server, clock)
        broker = connect(clock, timeout=5.0)

        until(lambda: can_send(broker, "bad"), "a send", within=PATIENCE * 2)

    def test_of_several_who_find_one_dead_only_one_makes_it_anew(
        self, connect: Opener, server: RabbitServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = ManualClock()
        a_dead_queue(connect, server, clock)
        brokers = [connect(clock, timeout=5.0) for _ in range(3)]

        def send(broker: RabbitMQBroker) -> None:
            until(lambda: can_send(broker, "bad"), "a send", within=PATIENCE * 2)

        threads = [threading.Thread(target=send, args=(each,)) for each in brokers]
        with caplog.at_level(logging.WARNING, "acked.broker"):
            for each in threads:
                each.start()
            for each in threads:
                each.join()

        assert all(can_send(each, "bad") for each in brokers)
        assert caplog.text.count("making it anew") == 1

    def test_one_that_is_not_new_is_never_deleted(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        clock = ManualClock()
        maker, broker = connect(clock), connect(clock, timeout=5.0)
        maker.send([message("a", queue="bad")])
        maker.close()
        clock.advance(OVERDUE + 1)
        broker.send([message("b")])
        until(lambda: not notes(broker).read().keys() & {line("bad", 0)}, "the note's end")

        with hung(server, broker, line("bad", 0)):
            with pytest.raises(BrokerUnavailable, match="did not answer within"):
                connect(clock, timeout=5.0).send([message("c", queue="bad")])
            with pytest.raises(BrokerUnavailable):
                broker.claim("w1/0", ["bad"], 1)
            until(lambda: "delete_queue" in _refusal(broker, "bad"), "word of it")

        came = until(lambda: try_to_claim(broker, "bad"), "its message", within=PATIENCE * 2)
        assert came == ["a"]

    def test_the_maker_forgets_that_one_is_new_when_it_is_old(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mending, "OLD", 0.5)
        broker = connect()
        broker.send([message("a")])

        assert notes(broker).read().keys() == {line("default", 0)}
        until(lambda: notes(broker).read() == {}, "the note's end")

    def test_a_connection_that_is_made_meanwhile_keeps_no_note(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mending, "OLD", 1.0)
        broker, other = connect(), connect()
        broker.send([message("a")])
        broker.claim("w1/0", ["default"], 1)
        other.claim("w2/0", ["default"], 1)

        until(lambda: notes(broker).read() == {}, "the note's end")

    def test_a_note_that_its_maker_has_left_goes_while_no_connection_is_made(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mending, "LEFT", 0.5)
        clock = ManualClock()
        broker, maker = connect(clock), connect(clock)
        broker.claim("w1/0", ["default"], 1)
        maker.send([message("a", queue="new")])
        maker.close()
        assert line("new", 0) in notes(broker).read()

        clock.advance(2 * OLD + 1)
        until(lambda: line("new", 0) not in notes(broker).read(), "the note's end")

    def test_a_note_that_the_ledger_did_not_let_go_of_goes_later(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mending, "OLD", 0.5)
        monkeypatch.setattr(mending, "LEFT", 1.0)
        away = threading.Event()

        def forget(*_: object) -> None:
            away.set()
            raise BrokerUnavailable("the ledger is away")

        broker = connect()
        with monkeypatch.context() as failing:
            failing.setattr(Notes, "forget", forget)
            broker.send([message("a")])
            assert away.wait(PATIENCE)

        until(lambda: notes(broker).read() == {}, "the note's end")

    def test_one_that_answers_just_when_somebody_else_needs_it_is_no_error(
        self, connect: Opener
    ) -> None:
        broker = connect()
        broker.send([message("a")])
        name = line("default", 0)

        async def need_it_at_every_moment(suspects: Suspects) -> list[BaseException | None]:
            suspects.doubt([name])
            needing: list[asyncio.Task[None]] = []
            while suspects.has([name]):
                needing.append(asyncio.create_task(suspects.clear([name])))
                await asyncio.sleep(0)
            return await asyncio.gather(*needing, return_exceptions=True)

        with broker._sessions.use() as session:
            for _ in range(20):
                found = session.ask(need_it_at_every_moment(session._suspects))
                assert set(found) == {None}


class TestOthers:
    @pytest.mark.parametrize("fault", [ended, hung])
    def test_a_claim_of_several_queues_takes_what_the_others_have(
        self, connect: Opener, server: RabbitServer, fault: Fault
    ) -> None:
        broker = connect(timeout=5.0)
        broker.send([message("a", queue="bad"), message("b")])
        consumer = connect(timeout=5.0)
        with fault(server, broker, line("bad", 0)):
            assert until(lambda: try_to_claim(consumer, "bad", "default"), "a task") == ["b"]
            broker.send([message("c")])
            began = time.monotonic()
            assert until(lambda: try_to_claim(consumer, "bad", "default"), "another") == ["c"]
            assert time.monotonic() - began < PATIENCE / 2

    def test_a_claim_of_many_queues_that_do_not_answer_takes_what_another_has(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        broker = connect()
        bad = [f"bad-{number}" for number in range(6)]
        broker.send([message("a"), *(message(queue, queue=queue) for queue in bad)])
        with contextlib.ExitStack() as faults:
            for queue in bad:
                faults.enter_context(hung(server, broker, line(queue, 0)))
            # In one call, which has no time to wait for each of them.
            (held,) = connect().claim("w1/0", [*bad, "default"], 1).deliveries

        assert held.id == "a"

    def test_a_claim_of_a_queue_with_too_long_a_name_takes_what_the_others_have(
        self, connect: Opener
    ) -> None:
        broker = connect()
        broker.send([message("a")])

        held: list[Delivery] = []
        while not held:
            held = broker.claim("w1/0", ["x" * 250, "default"], 1).deliveries
        assert held[0].id == "a"

    def test_a_claim_of_a_queue_that_rabbitmq_does_not_make_takes_what_the_others_have(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        broker = connect()
        broker.send([message("a")])
        assert claim(broker, 1)[0].id == "a"
        made = len(lines("default")) + len([DEAD])
        server.limit_number_of_queues(broker._address.vhost, made)

        broker.send([message("b")])
        assert until(lambda: try_to_claim(broker, "new", "default"), "a task") == ["b"]
        with pytest.raises(BrokerError, match="queue limit"):
            broker.send([message("c", queue="new")])

    def test_a_delay_that_does_not_answer_fails_no_other_send(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        broker = connect(timeout=5.0)
        later = msgspec.structs.replace(message("a"), eta=time.time() + 20)
        broker.send([later])
        fresh = connect(timeout=5.0)
        with hung(server, broker, delay(19)):
            with pytest.raises(BrokerUnavailable):
                fresh.send([msgspec.structs.replace(later, id="b")])

            fresh.send([message("c")])
            began = time.monotonic()
            fresh.send([message("d")])
            assert time.monotonic() - began < 2.0

        assert {held.id for held in claim(fresh, 2)} == {"c", "d"}

    def test_a_delay_that_does_not_answer_keeps_none_waiting_that_may_run(
        self, connect: Opener, server: RabbitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mending, "OLD", 0.5)
        monkeypatch.setattr(publishing, "CONFIRMED", 1.0)
        clock = ManualClock(time.time())
        broker = connect(clock, timeout=1.0)
        soon, later = clock.now() + 0.1, clock.now() + 0.4
        broker.send([msgspec.structs.replace(message("a"), eta=soon)])
        broker.send([msgspec.structs.replace(message("b"), eta=later)])
        until(lambda: notes(broker).read() == {}, "the notes' end")

        with hung(server, broker, delay(0.1)):
            clock.advance(0.35)
            assert until(lambda: try_to_claim(broker, "default"), "the first") == ["a"]
            with broker._sessions.use() as session:
                debts = session.debts._owed
            # It comes early, and is to go through the shorter delay, which does not answer.
            until(lambda: try_to_claim(broker, "default") or debts, "the second")
            until(lambda: can_send(connect(clock), "default"), "a send")

            assert until(lambda: try_to_claim(broker, "default"), "a task")

    def test_a_send_that_shares_its_write_with_one_to_a_silent_queue_does_not_fail(
        self, connect: Opener, server: RabbitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mending, "OLD", 0.5)
        broker = connect(timeout=5.0)
        broker.send([message("a", queue="bad"), message("b")])
        until(lambda: notes(broker).read() == {}, "the notes' end")
        publisher = Publisher(broker)
        failed: set[str] = set()

        def send(task_id: str, queue: str) -> None:
            try:
                publisher.send([message(task_id, queue=queue)])
            except BrokerError:
                failed.add(task_id)

        with hung(server, broker, line("bad", 0)):
            until(lambda: "delete_queue" in _refusal(broker, "bad"), "word of it")
            each = [
                threading.Thread(target=send, args=args)
                for args in [("c", "bad"), ("d", "default"), ("e", "default")]
            ]
            with publisher._turn:
                for thread in each:
                    thread.start()
                until(lambda: len(publisher._pending) == 3, "all that share a write")
            for thread in each:
                thread.join()
        publisher.close()

        assert failed == {"c"}

    def test_a_send_whose_connection_another_queue_cost_is_made_again(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        broker = connect(timeout=5.0)
        broker.send([message("a", queue="bad"), message("b")])
        vhost = broker._address.vhost
        for queue in ("bad", "default"):
            server.hang_queue(vhost, line(queue, 0))
        failed: list[BrokerError] = []

        def send() -> None:
            try:
                broker.send([message("c", queue="bad")])
            except BrokerError as error:
                failed.append(error)

        with broker._sessions.use() as session:
            sending = threading.Thread(target=send)
            sending.start()
            until(lambda: session.publisher._waiting, "a message without its confirm")
            time.sleep(1.0)  # so that the second has time left when the first has none
            other = threading.Thread(target=broker.send, args=([message("d")],))
            other.start()
            until(lambda: len(session.publisher._waiting) == 2, "another")
            sending.join(PATIENCE)
            server.hang_queue(vhost, line("default", 0), hung=False)
            other.join(PATIENCE)
        server.hang_queue(vhost, line("bad", 0), hung=False)

        assert len(failed) == 1
        assert {held.id for held in claim(broker, 2)} == {"b", "d"}

    def test_what_is_owed_to_a_queue_that_confirms_nothing_fails_no_send_to_another(
        self, connect: Opener, server: RabbitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = connect(timeout=5.0)
        monkeypatch.setattr(publishing, "CONFIRMED", 1.0)
        broker.send([message("a", queue="bad")])
        (held,) = until(lambda: broker.claim("w1/0", ["bad"], 1).deliveries, "the task")
        fresh = connect(timeout=1.0)
        with hung(server, broker, again("bad")):
            assert fresh.settle([settlements(held, fresh.clock.now())["unstarted"]]) == []
            until(lambda: can_send(fresh), "a send")
            for _ in range(20):
                assert can_send(fresh)
                time.sleep(0.1)  # between two tries

    def test_the_doctor_names_a_queue_whose_tasks_are_overdue_and_that_does_not_answer(
        self, connect: Opener, server: RabbitServer
    ) -> None:
        clock = ManualClock()
        broker = connect(clock)
        broker.send([message("a", queue="bad"), message("b")])
        clock.advance(OVERDUE + 1)
        assert all(each.subject != "queues" for each in broker.conditions())

        with hung(server, broker, line("bad", 0)):
            (found,) = (each for each in broker.conditions() if each.subject == "queues")

        assert found.level == "warn"
        assert line("bad", 0) in found.text
        assert line("default", 0) not in found.text
        assert "delete_queue" in found.remedy


class TestNotes:
    def test_a_note_is_taken_by_one_of_those_who_have_seen_it(self, connect: Opener) -> None:
        one, other = notes(connect()), notes(connect())
        seen = one.put("q")

        assert one.read() == other.read() == {"q": seen}
        assert other.take("q", seen)
        assert not one.take("q", seen)
        assert one.read()["q"].mending

    def test_a_note_that_was_made_anew_is_not_forgotten(self, connect: Opener) -> None:
        one, other = notes(connect()), notes(connect())
        seen = one.put("q")
        anew = other.put("q")

        one.forget({"q": seen})
        assert one.read() == {"q": anew}
        one.forget({"q": anew})
        assert one.read() == {}

    def test_a_ledger_that_does_not_give_the_notes_in_time_is_not_taken_for_rabbitmq(
        self, connect: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect().send([message("a")])
        answers = threading.Event()
        read = Notes.read

        def read_late(notes: Notes) -> dict[str, Note]:
            answers.wait(PATIENCE)
            return read(notes)

        monkeypatch.setattr(Notes, "read", read_late)
        broker = connect(timeout=5.0)
        try:
            broker.send([message("b")])
        finally:
            answers.set()

    def test_what_is_no_note_counts_as_none(self, connect: Opener) -> None:
        broker = connect()
        ledger: Ledger = broker._ledger
        ledger.exchange(notes(broker)._name, None, b"what?")

        assert notes(broker).read() == {}
        assert notes(broker).put("q").by


def _refusal(broker: RabbitMQBroker, queue: str) -> str:
    try:
        broker.send([message("probe", queue=queue)])
    except BrokerError as error:
        return str(error)
    return ""
