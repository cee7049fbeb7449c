"""P2: when the power fails, everything that SQLite's broker acknowledged is there afterwards.

A file system layer below SQLite writes down each write and each flush. From that the files are
made as a power cut at any moment may have left them: what was flushed is there; of what was not,
nothing, everything, or any part, torn at the borders of sectors. Each is opened as after a boot,
and has to hold what the broker had told by then.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import msgspec
import pytest

from acked.broker import Filter
from acked.brokers.sqlite import SQLiteBroker, wal
from acked.brokers.sqlite import connection as sqlite_connection
from acked.brokers.sqlite.schema import set_up
from acked.delivery import FINAL, Delivery, Settlement
from acked.record import Attempt, Record
from acked.testing.timeline import message, settlements
from tests.worker.forms import sizes

Name: TypeAlias = "str | apsw.URIFilename | None"

SECTOR = 512
"""Bytes that a disk writes as a whole or not at all."""

THREADS = 2
"""That use the broker at once, each its own queue."""

STEPS = 40
"""Operations of each thread between two power cuts."""

LIVES = sizes(2, 3)
"""Times the power comes back: each begins with what the cut before has left."""

SEEDS = sizes(2, 20)
CUTS = sizes(25, 100)
"""Moments of each life at which the power is cut."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Write:
    file: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    file: str
    size: int


@dataclass(frozen=True)
class Flush:
    file: str


@dataclass(frozen=True)
class Make:
    file: str


@dataclass(frozen=True)
class Delete:
    file: str


@dataclass(frozen=True)
class FlushNames:
    """Which files there are, in the directory of all of them."""


Change = Write | Truncate | Flush | Make | Delete | FlushNames


class RecordingDisk(apsw.VFS):
    """A disk that writes down what is done to it. Nothing on it is flushed in truth, as nobody cuts
    its power.

    Args:
        before: What lies on it.
        flushes: False for one that only says that it has flushed.
    """

    def __init__(self, before: dict[str, bytes], *, flushes: bool = True) -> None:
        self.name = f"recording-{next(_numbers)}"
        self.before = before
        self.flushes = flushes
        self.log: list[Change] = []
        super().__init__(self.name, "")

    def xOpen(self, name: Name, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        return RecordingFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - apsw's name
        super().xDelete(filename, syncdir)
        self.log.append(Delete(Path(filename).name))
        if syncdir:
            self.log.append(FlushNames())


class RecordingFile(apsw.VFSFile):
    def __init__(self, disk: RecordingDisk, name: Name, flags: list[int]) -> None:
        super().__init__("", name, flags)
        assert name is not None, "a temporary file, which a broker keeps in memory"
        path = name if isinstance(name, str) else name.filename()
        self.name, self.log, self.flushes = Path(path).name, disk.log, disk.flushes
        # What SQLite's own layer does: it flushes the directory with the first flush of a log.
        logs = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        self.in_new_directory = bool(flags[0] & logs)
        self.log.append(Make(self.name))

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        super().xWrite(data, offset)
        self.log.append(Write(self.name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        super().xTruncate(newsize)
        self.log.append(Truncate(self.name, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        if self.flushes:
            self.log.append(Flush(self.name))
            if self.in_new_directory:
                self.log.append(FlushNames())
                self.in_new_directory = False


@dataclass
class File:
    """What is on the platter, and what is on its way there."""

    flushed: bytes = b""
    pending: list[Write | Truncate] = field(default_factory=list[Write | Truncate])

    def flush(self) -> None:
        self.flushed = self.whole()
        self.pending.clear()

    def whole(self) -> bytes:
        """What a program reads."""
        return applied(self.flushed, self.pending)

    def part(self, roll: random.Random) -> bytes:
        """What was flushed, and any of the rest, by sectors."""
        share = roll.choice((0.1, 0.5, 0.9))
        pieces = [piece for change in self.pending for piece in torn(change)]
        # Even of what is lost, the length may be there: the file has zeros, then.
        grows = roll.random() < 0.5
        kept: list[Write | Truncate] = []
        for piece in pieces:
            if roll.random() < share:
                kept.append(piece)
            elif grows and isinstance(piece, Write):
                kept.append(Write(piece.file, piece.offset + len(piece.data), b""))
        return applied(self.flushed, kept)

    def beginning(self, roll: random.Random) -> bytes:
        """What was flushed, and of the rest what came first, to the middle of a write."""
        pieces = [piece for change in self.pending for piece in torn(change)]
        return applied(self.flushed, pieces[: roll.randrange(len(pieces) + 1)])


def applied(content: bytes, changes: Sequence[Write | Truncate]) -> bytes:
    new = bytearray(content)
    for change in changes:
        if isinstance(change, Truncate):
            del new[change.size :]
            end = change.size
        else:
            end = change.offset
        new.extend(bytes(max(0, end - len(new))))
        if isinstance(change, Write):
            new[change.offset : change.offset + len(change.data)] = change.data
    return bytes(new)


def torn(change: Write | Truncate) -> Iterator[Write | Truncate]:
    """*change*, in parts of which each is done or not done."""
    if isinstance(change, Truncate):
        yield change
        return
    start, end = change.offset, change.offset + len(change.data)
    borders = [start, *range(start // SECTOR * SECTOR + SECTOR, end, SECTOR), end]
    for left, right in itertools.pairwise(borders):
        yield Write(change.file, left, change.data[left - start : right - start])


class Platter:
    """The files while the log of a disk is played back."""

    def __init__(self, before: dict[str, bytes]) -> None:
        self.seen = {name: File(content) for name, content in before.items()}
        self.kept = dict(self.seen)
        """By the names that are flushed."""

    def play(self, change: Change) -> None:
        if isinstance(change, FlushNames):
            self.kept = dict(self.seen)
        elif isinstance(change, Make):
            self.seen.setdefault(change.file, File())
        elif isinstance(change, Delete):
            del self.seen[change.file]
        elif isinstance(change, Flush):
            self.seen[change.file].flush()
        else:
            self.seen[change.file].pending.append(change)

    def least(self, roll: random.Random) -> dict[str, bytes]:
        """What was flushed, and nothing else."""
        return {name: file.flushed for name, file in self.kept.items()}

    def most(self, roll: random.Random) -> dict[str, bytes]:
        """Everything that was written."""
        return {name: file.whole() for name, file in self.seen.items()}

    def torn(self, roll: random.Random) -> dict[str, bytes]:
        """What was flushed, and any part of the rest."""
        left: dict[str, bytes] = {}
        for name in self.seen.keys() | self.kept.keys():
            file = roll.choice((self.seen, self.kept)).get(name)
            if file is not None:
                left[name] = roll.choice((file.part, file.beginning))(roll)
        return left


Told: TypeAlias = "tuple[Record, list[Attempt]] | None"
"""What a broker says of a task; None if it has none."""


class Story:
    """What a broker told of each task, and when that was, by the length of the disk's log.

    A task is changed by one thread alone, so that it stays as it was told until the next operation
    on it begins.
    """

    def __init__(self, broker: SQLiteBroker, disk: RecordingDisk, known: dict[str, Told]) -> None:
        self.broker, self.disk = broker, disk
        self.told = {task: [(0, 0, told)] for task, told in known.items()}

    def change(self, operation: Callable[[], Sequence[str]]) -> None:
        """Run *operation*, which gives the ids of the tasks that it changed."""
        began = len(self.disk.log)
        ids = operation()
        returned = len(self.disk.log)
        for task in ids:
            said = what_is_told(self.broker, task)
            self.told.setdefault(task, [(0, 0, None)]).append((began, returned, said))

    def possible(self, task: str, cut: int) -> list[Told]:
        """What may be told of *task* after a cut at that length of the log: what was acknowledged
        last, or what was being done."""
        told = self.told[task]
        last = max(n for n, (_, returned, _) in enumerate(told) if returned <= cut)
        return [told[last][2], *(said for began, _, said in told[last + 1 :] if began < cut)]


def what_is_told(broker: SQLiteBroker, task: str) -> Told:
    record = broker.get(task)
    return None if record is None else (record, broker.attempts(task))


def use(story: Story, thread: str, roll: random.Random) -> None:
    """Whatever a shop does with its tasks."""
    broker, queue = story.broker, f"queue-{thread}"
    held: list[Delivery] = []

    def send() -> list[str]:
        size = roll.choice((10, 10, 10, 9_000))
        # The last number is more than go into one statement.
        count = roll.choices((1, 4, 520), (20, 10, 0.1))[0]
        new = [
            msgspec.structs.replace(
                message(f"{thread}-{next(_numbers)}", queue=queue),
                args=msgspec.Raw(b'["' + b"x" * min(size, 40_000 // count) + b'"]'),
            )
            for _ in range(count)
        ]
        broker.send(new)
        return [each.id for each in new]

    def turn() -> list[str]:
        done = [ending(each) for each in held]
        claim = broker.claim(f"{thread}/0", [queue], roll.randrange(5), settlements=done)
        assert claim.refused == []
        changed = [each.id for each in (*held, *claim.deliveries)]
        held[:] = claim.deliveries
        return changed

    def ending(delivery: Delivery) -> Settlement:
        ends = settlements(delivery, broker.clock.now())
        return ends[roll.choices(("success", "failure", "retry", "unstarted"), (6, 1, 2, 1))[0]]

    def settle() -> list[str]:
        ended = held[: roll.randrange(3)]
        assert broker.settle([ending(each) for each in ended]) == []
        del held[: len(ended)]
        return [each.id for each in ended]

    def save() -> list[str]:
        for each in held[:1]:
            assert broker.save(each.id, each.token, roll.randbytes(300))
        return [each.id for each in held[:1]]

    def operate() -> list[str]:
        """What an operator may do with some of those that do not run."""
        running = {each.id for each in held}
        mine = [each for each in story.told if thread_of(each) == thread]
        some = [each for each in roll.sample(mine, min(3, len(mine))) if each not in running]
        roll.choice((broker.revoke, broker.requeue, broker.discard))(some)
        return some

    def stop() -> list[str]:
        """The last connection to close copies the log, and deletes it."""
        broker._database.close()
        return []

    for _ in range(STEPS):
        kind = roll.choices((send, turn, settle, save, operate, stop), (8, 8, 2, 2, 2, 1))[0]
        story.change(kind)


def boot(directory: Path, files: dict[str, bytes]) -> tuple[dict[str, Told], list[str]]:
    """What a broker tells when the host starts with *files*, and what is wrong with that whatever
    was acknowledged."""
    lay(directory, files)
    broker = SQLiteBroker(directory / "shop.db")
    try:
        broker.setup()
        found = broker.search(Filter(), limit=100_000)
        told = {each.id: what_is_told(broker, each.id) for each in found}
        faults = [] if len(told) == len(found) else ["a task is there twice"]
        counted = Counter[str]()
        for queue in broker.counts():
            counted.update(SUCCESS=queue.success, FAILURE=queue.failure, REVOKED=queue.revoked)
        listed = Counter(each.state.value for each in found if each.state in FINAL)
        if +counted != listed:
            faults.append(f"there are {listed}, and it counts {counted}")
        broker.send([message("afterwards")])
        with broker._database.session() as connection:
            verdict = connection.pragma("integrity_check")
        if verdict != "ok":
            faults.append(f"integrity_check: {verdict}")
    except Exception as error:  # of a damaged file anything may come
        return {}, [f"not read: {error!r}"]
    finally:
        broker.close()
        shutil.rmtree(directory)
    return told, faults


def lay(directory: Path, files: dict[str, bytes]) -> None:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)


def differences(story: Story, told: dict[str, Told], cut: int) -> list[str]:
    """What is *told*, and cannot be so, of a power cut at that length of the log."""
    faults = [
        f"{task} is {told.get(task)}, and not one of {possible}"
        for task in story.told
        if told.get(task) not in (possible := story.possible(task, cut))
    ]
    faults += [f"{task} was never sent" for task in told.keys() - story.told.keys()]
    batches: dict[tuple[str, int], set[bool]] = {}
    for task, ((_, _, before), *later) in story.told.items():
        if before is None and later[0][0] < cut < later[0][1]:
            batches.setdefault((thread_of(task), later[0][0]), set()).add(task in told)
    return faults + [
        f"half of {batch} is there" for batch, there in batches.items() if len(there) > 1
    ]


def thread_of(task: str) -> str:
    return task.partition("-")[0]


@contextmanager
def life(
    directory: Path, roll: random.Random, files: dict[str, bytes], known: dict[str, Told],
    *, flushes: bool = True,
) -> Generator[Story]:  # fmt: skip
    """The shop, after several threads have used it at once, on a disk with *files*."""
    lay(directory, files)
    disk = RecordingDisk(files, flushes=flushes)
    broker = SQLiteBroker(directory / "shop.db", vfs=disk.name)
    story = Story(broker, disk, known)
    rolls = [random.Random(roll.random()) for _ in range(THREADS)]
    try:
        broker.setup()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(use, itertools.repeat(story), "abcdef", rolls))
        yield story
    finally:
        broker.close()
        disk.unregister()


def power_cuts(
    directory: Path, story: Story, roll: random.Random
) -> Iterator[tuple[dict[str, bytes], dict[str, Told], list[str]]]:
    """The files after cuts here and there, what is told of them, and what is wrong with that."""
    log, platter, played = story.disk.log, Platter(story.disk.before), 0
    for cut in sorted(roll.sample(range(len(log) + 1), CUTS)):
        for change in log[played:cut]:
            platter.play(change)
        played = cut
        for left in (platter.least, platter.torn, platter.torn):
            files = left(roll)
            told, faults = boot(directory / f"boot-{next(_numbers)}", files)
            yield files, told, faults + differences(story, told, cut)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is copied to the database, begun anew and cut every few operations."""
    monkeypatch.setattr(wal, "CHECKPOINT_AFTER", 40)
    monkeypatch.setattr(wal, "LONG", 200 * 1024)
    monkeypatch.setattr(wal, "KEPT", 100 * 1024)


@pytest.mark.chaos
@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_was_acknowledged_is_there_when_the_power_comes_back(
    tmp_path: Path, seed: int
) -> None:
    roll = random.Random(seed)
    files: dict[str, bytes] = {}
    known: dict[str, Told] = {}
    for number in range(LIVES):
        with life(tmp_path / f"life-{number}", roll, files, known) as story:
            found = list(power_cuts(tmp_path, story, roll))
        assert [faults for _, _, faults in found if faults] == []
        kinds = Counter(type(each).__name__ for each in story.disk.log)
        print(f"life {number}: {len(story.told)} tasks, {len(found)} boots, of {dict(kinds)}")
        files, known, _ = roll.choice(found)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_a_connection_that_does_not_flush_each_commit_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str
) -> None:
    """The same, where it must go wrong."""

    def set_up_less(connection: apsw.Connection, *arguments: Any, **named: Any) -> None:
        set_up(connection, *arguments, **named)
        connection.pragma("synchronous", synchronous)

    monkeypatch.setattr(sqlite_connection, "set_up", set_up_less)

    found = faults_of_one_life(tmp_path)

    assert any("is None, and not one of" in fault for fault in found), found


@pytest.mark.usefixtures("often")
def test_a_disk_that_only_says_it_has_flushed_is_found_out(tmp_path: Path) -> None:
    assert faults_of_one_life(tmp_path, flushes=False)


def faults_of_one_life(directory: Path, *, flushes: bool = True) -> list[str]:
    roll = random.Random(1)
    with life(directory / "life", roll, {}, {}, flushes=flushes) as story:
        found = list(power_cuts(directory, story, roll))
    return [fault for _, _, faults in found for fault in faults]


@pytest.mark.usefixtures("often")
def test_what_is_written_down_of_a_disk_is_what_lies_on_it(tmp_path: Path) -> None:
    roll = random.Random(1)
    with life(tmp_path / "life", roll, {}, {}) as story:
        platter = Platter({})
        for change in story.disk.log:
            platter.play(change)
        for name, content in platter.most(roll).items():
            assert (tmp_path / "life" / name).read_bytes() == content
