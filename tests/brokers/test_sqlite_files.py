"""Where the SQLite broker may live, what it makes there, and what it refuses."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from acked.brokers import open_broker
from acked.brokers.memory import MemoryBroker
from acked.brokers.sqlite import SQLiteBroker
from acked.brokers.sqlite.placement import check_path, check_sqlite
from acked.brokers.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION, set_up
from acked.brokers.sqlite.wal import Patience
from acked.errors import BrokerError, BrokerUnavailable, ConfigurationError
from acked.testing.timeline import message
from tests.harness.privileges import need_root
from tests.harness.workers import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(path: Path) -> str:
    """What the broker says when it will not use *path*."""
    broker = SQLiteBroker(path)
    with pytest.raises(ConfigurationError) as caught:
        broker.setup()
    broker.close()
    return str(caught.value)


def foreign(path: Path, *statements: str) -> None:
    """Another program's database."""
    other = apsw.Connection(str(path))
    for statement in statements:
        other.execute(statement)
    other.close()


@pytest.mark.usefixtures("open_umask")
def test_only_its_owner_can_read_what_it_makes(path: Path) -> None:
    broker = SQLiteBroker(path)
    broker.setup()
    broker.send([message("a")])
    broker.wait(["default"], 0)

    made = {file.name: rights(file) for file in path.parent.iterdir()}

    assert made == {
        "shop.db": 0o600, "shop.db-wal": 0o600, "shop.db-shm": 0o600, "shop.db-workers": 0o700,
    }  # fmt: skip
    assert {rights(file) for file in broker.presence_dir.iterdir() if file.is_file()} == {0o600}
    broker.close()


def test_the_file_is_made_by_whoever_comes_first_and_setting_up_again_is_harmless(
    path: Path,
) -> None:
    first, second = SQLiteBroker(path), SQLiteBroker(path)

    first.send([message("a")])
    second.setup()
    second.setup()

    assert second.get("a") is not None
    first.close()
    second.close()


def test_tables_that_come_between_two_looks_are_no_other_programs(path: Path) -> None:
    class Slow(apsw.Connection):
        """Of a process during whose look another one creates the tables."""

        def pragma(self, name: str, *value: apsw.SQLiteValue, **options: Any) -> Any:
            found = super().pragma(name, *value, **options)
            if name == "application_id" and not value:
                SQLiteBroker(path).setup()
            return found

    path.touch(0o600)
    with contextlib.closing(Slow(str(path))) as connection:
        set_up(connection, path, patience=Patience(5.0), log_limit=0, checkpoint_after=1000)


@pytest.mark.parametrize("journal", [None, "DELETE"])
def test_who_is_stopped_while_it_makes_a_database_keeps_nobody_waiting_for_ever(
    path: Path, journal: str | None
) -> None:
    if journal is not None:
        first = SQLiteBroker(path)
        first.setup()
        first.close()
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            connection.pragma("journal_mode", journal)
    turn = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        broker = SQLiteBroker(path, timeout=0.1)
        with pytest.raises(BrokerUnavailable, match="locked by another program") as caught:
            broker.send([message("a")])
    finally:
        os.close(turn)
    assert caught.value.nothing_stored

    broker.send([message("a")])
    assert broker.get("a") is not None
    broker.close()


def test_a_closed_broker_opens_again_when_it_is_used(path: Path) -> None:
    broker = SQLiteBroker(path)
    broker.send([message("a")])
    broker.close()
    broker.close()

    assert broker.get("a") is not None
    broker.close()


def test_threads_that_follow_each_other_share_a_connection(path: Path) -> None:
    broker = SQLiteBroker(path)
    for number in range(5):
        thread = threading.Thread(target=broker.send, args=([message(f"t{number}")],))
        thread.start()
        thread.join()

    assert len(broker._database._sessions) == 1
    assert sum(each.queued for each in broker.counts()) == 5
    broker.close()


def test_a_symbolic_link_is_refused(path: Path) -> None:
    path.symlink_to(path.with_name("other.db"))

    assert f"{path} is a symbolic link to {path.with_name('other.db')}" in refusal(path)


def test_a_directory_that_anyone_may_write_to_is_refused(path: Path) -> None:
    path.parent.chmod(0o777)

    assert f"chmod o-w {path.parent}" in refusal(path)


def test_a_directory_like_tmp_is_accepted(path: Path) -> None:
    path.parent.chmod(0o1777)

    SQLiteBroker(path).setup()

    assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", ["shop.db", "shop.db-workers"])
def test_what_another_user_put_into_a_directory_like_tmp_is_refused(path: Path, name: str) -> None:
    path.parent.chmod(0o1777)
    planted = path.with_name(name)
    if name == "shop.db":
        planted.touch()
    else:
        planted.mkdir(0o700)
    os.chown(planted, 12345, 12345)

    assert f"{planted} belongs to another user (uid 12345)" in refusal(path)


def test_a_directory_that_is_not_there_is_named(path: Path) -> None:
    missing = path.parent / "data" / "shop.db"

    assert f"no database can be made in {missing.parent}" in refusal(missing)


def test_a_directory_in_its_place_is_an_error_that_names_it(path: Path) -> None:
    path.mkdir()
    broker = SQLiteBroker(path)

    with pytest.raises(BrokerError, match=str(path)):
        broker.send([message("a")])
    broker.close()


def test_a_file_in_place_of_the_workers_directory_is_refused(path: Path) -> None:
    path.with_name("shop.db-workers").touch()

    assert "must be a directory" in refusal(path)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused(path: Path, kind: str) -> None:
    device = path.parent.stat().st_dev
    mounts = path.with_name("mountinfo")
    mounts.write_text(
        "21 1 0:20 / /sys rw shared:7 - sysfs sysfs rw\n"
        f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw shared:1 - {kind} srv:/x rw\n"
    )

    with pytest.raises(ConfigurationError, match=f"network file system \\({kind}\\)"):
        check_path(path, mounts)


def test_a_local_file_system_is_accepted(path: Path) -> None:
    check_path(path)


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.44.5", "3.44.7", "3.50.6", "3.51.2"])
def test_an_sqlite_with_the_wal_reset_bug_is_refused(version: str) -> None:
    with pytest.raises(ConfigurationError, match="pip install --upgrade apsw"):
        check_sqlite(version)


@pytest.mark.parametrize("version", ["3.44.6", "3.50.7", "3.51.3", "3.54.1"])
def test_an_sqlite_in_which_it_is_mended_is_accepted(version: str) -> None:
    check_sqlite(version)


def test_the_sqlite_in_use_is_accepted() -> None:
    check_sqlite()


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE auth_user (id INTEGER)",),
        ("PRAGMA user_version = 1",),
        ("PRAGMA application_id = 252006675",),
    ],
)
def test_another_programs_database_is_refused_and_left_as_it_is(
    path: Path, statements: tuple[str, ...]
) -> None:
    foreign(path, *statements)
    before = path.read_bytes()

    assert f"{path} is the database of another program" in refusal(path)
    assert path.read_bytes() == before


def test_a_newer_format_is_refused(path: Path) -> None:
    foreign(
        path,
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {SCHEMA_VERSION + 1}",
    )

    assert "Upgrade acked here" in refusal(path)


def test_a_file_that_is_no_database_is_an_error_that_names_it(path: Path) -> None:
    path.write_bytes(b"shopping list: milk, eggs, bread, and a lot more, " * 100)
    broker = SQLiteBroker(path)

    with pytest.raises(BrokerError, match=f"{path} is damaged or no SQLite database"):
        broker.send([message("a")])
    broker.close()


def test_a_file_that_was_deleted_is_soon_made_anew(path: Path) -> None:
    broker, other = SQLiteBroker(path), SQLiteBroker(path)
    broker.send([message("a")])
    other.send([message("b")])
    for file in path.parent.glob("shop.db*"):
        if file.is_file():
            file.unlink()

    def is_there_again() -> bool:
        broker.send([message("c")])
        return path.exists()

    until(is_there_again)
    until(lambda: other.get("b") is None)

    assert other.get("c") is not None
    assert broker.get("a") is None
    broker.close()
    other.close()


def test_a_file_that_was_deleted_alone_is_made_anew_beside_a_process_that_has_it_open(
    path: Path,
) -> None:
    idle = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys\n"
            "from acked.brokers.sqlite import SQLiteBroker\n"
            "from acked.testing.timeline import message\n"
            "SQLiteBroker(sys.argv[1]).send([message(f'old-{n}') for n in range(50)])\n"
            "broker = SQLiteBroker(sys.argv[1])\n"
            "broker.counts()\n"
            "print(flush=True)\n"
            "sys.stdin.read()\n",
            str(path),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert idle.stdout is not None
    idle.stdout.readline()
    path.unlink()
    broker = SQLiteBroker(path)

    try:
        broker.send([message("a")])
        assert broker.get("a") is not None
    finally:
        idle.communicate()
        broker.close()


def test_a_copy_that_is_in_another_journal_mode_is_put_into_ours(path: Path) -> None:
    first = SQLiteBroker(path)
    first.send([message("a")])
    copy = path.with_name("copy.db")
    foreign(path, f"VACUUM INTO '{copy}'")
    first.close()

    broker = SQLiteBroker(copy)
    assert broker.get("a") is not None
    reader = apsw.Connection(str(copy))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM task").fetchall()

    broker.send([message("b")])

    assert reader.pragma("journal_mode") == "wal"
    reader.close()
    broker.close()


def error_of_reading(broker: SQLiteBroker) -> BrokerUnavailable | None:
    try:
        broker.get("a")
    except BrokerUnavailable as error:
        assert error.nothing_stored
        return error
    return None


def test_a_directory_that_goes_away_and_comes_back_makes_the_broker_unavailable(
    tmp_path: Path,
) -> None:
    place, elsewhere = tmp_path / "volume", tmp_path / "elsewhere"
    place.mkdir()
    broker = SQLiteBroker(place / "shop.db")
    broker.send([message("a")])

    place.rename(elsewhere)
    assert str(place) in str(until(lambda: error_of_reading(broker)))
    elsewhere.rename(place)
    until(lambda: error_of_reading(broker) is None)

    assert broker.get("a") is not None
    broker.close()


def test_no_database_is_made_below_the_mount_point_of_its_volume(tmp_path: Path) -> None:
    need_root("mount a volume")
    volume, place = tmp_path / "volume", tmp_path / "mount point"
    volume.mkdir()
    place.mkdir()
    with contextlib.ExitStack() as mounts:
        mount(mounts, volume, "-t", "tmpfs", "none")
        broker = SQLiteBroker(place / "shop.db")
        with contextlib.ExitStack() as mounted:
            mount(mounted, place, "--bind", str(volume))
            broker.send([message("a")])

        assert str(place) in str(until(lambda: error_of_reading(broker)))
        assert list(place.iterdir()) == []
        mount(mounts, place, "--bind", str(volume))
        until(lambda: error_of_reading(broker) is None)

        assert broker.get("a") is not None
        broker.close()


def mount(stack: contextlib.ExitStack, place: Path, *what: str) -> None:
    """Mount *what* at *place*, until *stack* ends."""
    subprocess.run(["mount", *what, str(place)], check=True)
    stack.callback(subprocess.run, ["umount", "-l", str(place)], check=True)


def test_the_url_tells_the_file(path: Path) -> None:
    broker = open_broker(f"sqlite:///{path}")

    assert isinstance(broker, SQLiteBroker)
    assert (broker.path, broker.url) == (path, f"sqlite:///{path}")


def test_a_relative_path_is_taken_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    broker = open_broker("sqlite:///data/my%20shop.db")

    assert isinstance(broker, SQLiteBroker)
    assert broker.path == tmp_path / "data" / "my shop.db"


def test_the_memory_broker_has_a_url_too() -> None:
    assert isinstance(open_broker("memory://"), MemoryBroker)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("shop.db", "Known are"),
        ("sqlite://shop.db", "three slashes"),
        ("sqlite://", "three slashes"),
        ("sqlite:///shop.db?mode=ro", "three slashes"),
        ("sqlite:///:memory:", "memory://"),
    ],
)
def test_a_url_that_names_no_broker_is_refused_with_the_remedy(url: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_broker(url)

    assert repr(url) in str(caught.value)
    assert remedy in str(caught.value)


def test_a_url_of_another_server_is_refused_without_showing_its_password() -> None:
    url = "mongodb://me:hunter2@localhost"
    with pytest.raises(ConfigurationError) as caught:
        open_broker(url)

    assert f"broker URL {url.partition(':')[0]}://..." in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "sqlite:////absolute/path.db" in str(caught.value)
