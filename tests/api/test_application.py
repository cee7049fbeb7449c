"""`Acked`: where its tasks are kept, what they are called, how it is found."""

from __future__ import annotations

import copy
import functools
import importlib
import pickle
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from acked import Acked, ConfigurationError, Task
from acked.brokers.memory import MemoryBroker
from acked.config import Settings
from acked.instead import OF_THE_PACKAGE
from acked.loading import load_app
from tests.api.celery_settings import IN_CAPITALS, SETTINGS


@pytest.fixture(autouse=True)
def no_broker_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACKED_BROKER_URL", raising=False)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file


def run(*command: str | Path, cwd: Path) -> list[str]:
    """What a Python program prints."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


MAKE = """
    from acked import Acked
    app = Acked("shop")
    @app.task
    def scan(): ...
    if __name__ == "__main__":
        print(app.broker_url, scan.name)
"""


# -- where its tasks are kept ----------------------------------------------------------------------


@pytest.mark.parametrize("marker", ["pyproject.toml", "manage.py", "setup.py", ".git"])
def test_the_file_is_in_the_projects_directory_wherever_it_is_started(
    tmp_path: Path, marker: str
) -> None:
    write(tmp_path / "project" / marker, "")
    script = write(tmp_path / "project" / "src" / "shop.py", MAKE)
    for cwd in (tmp_path, script.parent, Path("/")):
        url, _ = run(script, cwd=cwd)
        assert url == f"sqlite:///{tmp_path}/project/shop.acked.db"


def test_without_a_project_it_is_beside_the_outermost_package(tmp_path: Path) -> None:
    write(tmp_path / "shop" / "__init__.py", "")
    write(tmp_path / "shop" / "sub" / "__init__.py", "")
    module = write(tmp_path / "shop" / "sub" / "tasks.py", MAKE)
    expected = f"sqlite:///{tmp_path}/shop/shop.acked.db"
    assert run(module, cwd=Path("/"))[0] == expected
    assert run("-m", "shop.sub.tasks", cwd=tmp_path)[0] == expected


def test_a_path_with_odd_characters_is_quoted_in_the_address(tmp_path: Path) -> None:
    script = write(tmp_path / "a b#c?%41" / "shop.py", MAKE)
    write(script.parent / "setup.py", "")
    (url, _) = run(script, cwd=tmp_path)
    assert url == f"sqlite:///{tmp_path}/a%20b%23c%3F%2541/shop.acked.db"


def test_outside_of_any_file_it_asks_where(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from acked import Acked; Acked('shop')"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "made outside of any file. Say where its tasks are kept" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_file_name_needs_a_broker() -> None:
    with pytest.raises(ConfigurationError, match="cannot be part of a file's name"):
        Acked("../shop")
    Acked("../shop", broker="memory://")


def test_the_environment_says_where_unless_the_code_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACKED_BROKER_URL", "sqlite:////tmp/from-environment.db")
    assert Acked("shop").broker_url == "sqlite:////tmp/from-environment.db"
    assert Acked("shop", broker="memory://").broker_url == "memory://"
    assert Acked("shop", broker_url="memory://").broker_url == "memory://"


def test_two_addresses_that_differ_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="say different things"):
        Acked("shop", broker="memory://", broker_url="sqlite:////tmp/x.db")


def test_making_an_application_opens_nothing(tmp_path: Path) -> None:
    app = Acked("shop", broker=f"sqlite:///{tmp_path}/x.db")
    assert list(tmp_path.iterdir()) == []
    assert app.broker is app.records
    assert (tmp_path / "x.db").exists()
    app.close()


def test_a_closed_application_opens_again(tmp_path: Path) -> None:
    app = Acked("shop", broker=f"sqlite:///{tmp_path}/x.db")
    first = app.send_task("mail")
    app.close()
    assert app.AsyncResult(first.id).state == "PENDING"
    app.send_task("mail")
    app.close()


def test_a_broker_can_be_given_as_it_is() -> None:
    broker = MemoryBroker()
    app = Acked("shop", broker=broker)
    assert app.broker is broker
    app.close()
    assert app.broker is broker


# -- settings --------------------------------------------------------------------------------------


def test_seconds_may_be_a_timedelta() -> None:
    app = Acked("shop", broker="memory://", result_expires=timedelta(days=2))
    app.configure(task_time_limit=timedelta(minutes=1))
    assert (app.conf.result_expires, app.conf.task_time_limit) == (172_800, 60)


def test_tasks_that_expire_after_zero_seconds_are_kept_for_ever() -> None:
    app = Acked("shop", broker="memory://", result_expires=0, failure_expires=0)
    assert (app.conf.result_expires, app.conf.failure_expires) == (None, None)


def test_settings_can_be_looked_through_by_their_names() -> None:
    conf = Acked("shop", broker="memory://").conf
    assert "lease" in conf
    assert "timezone" not in conf
    assert {"broker_url", "lease"} <= set(conf)


def test_settings_have_celerys_names_where_it_has_them() -> None:
    app = Acked("shop", broker="memory://", task_default_queue="main", result_expires=None)
    assert (app.conf.task_default_queue, app.settings.result_expires) == ("main", None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task_time_limit": -1}, "task_time_limit must be from 0"),
        ({"task_soft_time_limit": 20, "task_time_limit": 10}, "must be shorter than time_limit=10"),
        ({"task_always_eagre": True}, "Did you mean 'task_always_eager'?"),
        ({"lease": "10"}, "wrong type"),
        ({"lease": 0}, "lease must be more than 0"),
        ({"lease": 3.0}, "at most half of lease=3"),
        ({"result_expires": -1}, "result_expires must be"),
        ({"max_message_size": 0}, "at least 1 byte"),
        ({"task_default_queue": "mails,slow"}, "task_default_queue must be a name"),
        ({"backend": "redis://"}, "'backend' has no meaning here (arguments and results are kept"),
        ({"result_backend": "rpc://"}, "for RabbitMQ, results= says where). Leave it out."),
        ({"timezone": "Europe/Berlin"}, "'timezone' has no meaning here (times are UTC"),
        ({"include": ["scans"]}, "imports all your tasks: acked worker scans:app"),
        ({"worker_concurrency": 4}, "`acked worker` says it, --concurrency"),
        ({"redis_max_connections": 9}, "has no meaning here (the broker keeps the results too"),
        ({"task_queues": []}, "(a queue is there once it is named, by @app.task(queue=...)"),
        ({"CELERY_TASK_ALWAYS_EAGER": True}, "is written 'task_always_eager'."),
        ({"CELERYD_TASK_TIME_LIMIT": 60}, "is written 'task_time_limit'."),
        ({"CELERY_TASK_RESULT_EXPIRES": 60}, "is written 'result_expires'."),
        ({"CELERYBEAT_SCHEDULE": {}}, "(periodic tasks are not available yet)"),
        ({"CELERYD_CONCURRENCY": 4}, "`acked worker` says it, --concurrency"),
        ({"SCAN_DEPTH": 4}, "unknown setting 'SCAN_DEPTH'. Names are in lower case: broker_url"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Acked("shop", broker="memory://", **settings)
    assert said in str(refused.value)


def refusal(name: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        Acked("shop", broker="memory://", **{name: None})
    return str(refused.value)


def test_each_setting_of_celerys_that_is_not_taken_says_why() -> None:
    others = set(SETTINGS.split()) - set(Settings.__struct_fields__)
    assert [name for name in others if "has no meaning here (" not in refusal(name)] == []


def test_an_old_setting_of_celerys_in_capitals_is_not_taken_for_a_slip() -> None:
    assert [name for name in IN_CAPITALS.split() if "Did you mean" in refusal(name)] == []


def test_settings_can_be_changed_but_not_the_broker() -> None:
    app = Acked("shop", broker="memory://", lease=20.0)
    app.configure(task_always_eager=True)
    assert (app.settings.task_always_eager, app.settings.lease) == (True, 20.0)
    with pytest.raises(ConfigurationError, match="set once"):
        app.configure(broker_url="memory://")
    with pytest.raises(ConfigurationError, match="unknown setting"):
        app.configure(nonsense=1)
    assert isinstance(app.settings, Settings)


@pytest.mark.parametrize(
    ("url", "driver", "said"),
    [
        ("redis://:hunter2@localhost", "hiredis", "Redis needs a driver"),
        ("rediss://:hunter2@localhost", "hiredis", "pip install 'acked[redis]'"),
        ("postgresql://shop:hunter2@localhost/shop", "psycopg", "pip install 'acked[postgres]'"),
        ("amqp://guest:hunter2@localhost//", "pika", "pip install 'acked[rabbitmq]'"),
    ],
)
def test_a_driver_that_is_not_installed_is_named_with_its_extra(
    url: str, driver: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = {"hiredis": "redis", "psycopg": "postgres", "pika": "rabbitmq"}[driver]
    for name in list(sys.modules):
        if name.partition(".")[0] == driver or name.startswith(f"acked.brokers.{package}"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, driver, None)
    app = Acked("shop", broker=url, results="memory://" if driver == "pika" else None)
    with pytest.raises(ConfigurationError) as refused:
        _ = app.broker
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("password", ["se[cret", "se]cret", "se\u2100cret"])
def test_an_address_that_cannot_be_read_is_refused_without_its_password(password: str) -> None:
    app = Acked("shop", broker=f"redis://user:{password}@host:6379/0")
    with pytest.raises(ConfigurationError, match="%5B") as refused:
        app.open()
    assert "cret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_scheme_nobody_knows_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match="unknown form") as refused:
        _ = Acked("shop", broker="postgresql+psycopg://shop:hunter2@localhost/shop").broker
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config_from_object", "give settings to Acked(...), or later to app.configure(...)"),
        ("autodiscover_tasks", "acked worker scans:app"),
        ("control", "acked status"),
        ("control", "app.AsyncResult(task_id).revoke(terminate=True)"),
        ("nonsense", "an application has no 'nonsense'."),
    ],
)
def test_what_an_application_of_celery_has_besides_says_what_to_do_instead(
    app: Acked, name: str, said: str
) -> None:
    with pytest.raises(AttributeError) as missing:
        getattr(app, name)
    assert said in str(missing.value)
    assert not hasattr(app, name)


def test_updating_the_settings_in_place_says_what_to_do_instead(app: Acked) -> None:
    with pytest.raises(AttributeError, match=r"no 'update'.*app\.configure"):
        app.conf.update(lease=20.0)  # type: ignore[attr-defined]  # wrong on purpose


def test_assigning_a_setting_says_where_it_is_given(app: Acked) -> None:
    given = re.escape("Acked(..., task_time_limit=...), or app.configure(task_time_limit=...)")
    with pytest.raises(AttributeError, match=given):
        app.conf.task_time_limit = 60  # type: ignore[misc]  # wrong on purpose
    with pytest.raises(AttributeError, match=given):
        app.conf["task_time_limit"] = 60  # type: ignore[index]  # wrong on purpose
    with pytest.raises(AttributeError) as once:
        app.conf.broker_url = "redis://:hunter2@host"  # type: ignore[misc]  # wrong on purpose
    assert str(once.value).endswith("Write Acked(..., broker_url=...).")
    assert app.conf.task_time_limit is None


def test_a_setting_of_celerys_that_means_nothing_says_why_when_it_is_used(app: Acked) -> None:
    with pytest.raises(AttributeError, match="no 'timezone': times are UTC"):
        _ = app.conf.timezone  # type: ignore[attr-defined]  # wrong on purpose
    with pytest.raises(AttributeError, match=r"no 'task_routes': give each task its queue"):
        app.conf.task_routes = {}  # type: ignore[attr-defined]  # wrong on purpose
    assert not hasattr(app.conf, "timezone")


def test_a_setting_can_be_read_by_its_name_in_brackets(app: Acked) -> None:
    assert app.conf["lease"] == app.conf.lease  # type: ignore[index]  # for Celery's users
    with pytest.raises(KeyError, match="no 'timezone': times are UTC"):
        _ = app.conf["timezone"]  # type: ignore[index]  # as above
    assert copy.deepcopy(app.conf) == pickle.loads(pickle.dumps(app.conf)) == app.conf  # noqa: S301 - its own


# -- what tasks are called -------------------------------------------------------------------------


def test_a_task_is_called_module_and_function(app: Acked) -> None:
    @app.task
    def scan() -> None: ...

    assert scan.name == "tests.api.test_application.scan"
    assert app.tasks == {scan.name: scan}


def test_a_script_and_the_module_it_is_agree_on_the_name(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "")
    write(tmp_path / "pkg" / "__init__.py", "")
    module = write(tmp_path / "pkg" / "shop.py", MAKE)
    write(tmp_path / "alone.py", MAKE)
    write(tmp_path / "app" / "__init__.py", "")
    write(tmp_path / "app" / "__main__.py", MAKE)
    assert run(module, cwd=tmp_path)[1] == "pkg.shop.scan"
    assert run("-m", "pkg.shop", cwd=tmp_path)[1] == "pkg.shop.scan"
    assert run("alone.py", cwd=tmp_path)[1] == "alone.scan"
    assert run("-m", "app", cwd=tmp_path)[1] == "app.scan"


def test_two_functions_cannot_have_one_name(app: Acked) -> None:
    @app.task(name="scan")
    def one() -> None: ...

    with pytest.raises(ConfigurationError, match=r"two functions.*one.*and.*two.*another name"):

        @app.task(name="scan")
        def two() -> None: ...

    assert app.tasks["scan"] is one


def test_a_factory_cannot_make_two_tasks_of_one_name(app: Acked) -> None:
    def make(answer: int) -> Task[[], int]:
        @app.task
        def ask() -> int:
            return answer

        return ask

    make(1)
    with pytest.raises(ConfigurationError, match="two functions are registered"):
        make(2)


def test_a_module_may_be_reloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path / "reload_app.py", "from acked import Acked\napp = Acked('a', broker='memory://')"
    )
    write(tmp_path / "reload_tasks.py", """
        from reload_app import app
        @app.task
        def scan(): ...
    """)  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reload_tasks")
    first = module.scan
    again = importlib.reload(module)
    assert again.scan is not first
    assert again.app.tasks["reload_tasks.scan"] is again.scan


def not_a_task() -> list[tuple[Callable[[Acked], Any], str]]:
    def generator() -> Any:
        yield 1

    async def async_generator() -> Any:
        yield 1

    return [
        (lambda app: app.task(generator), "is a generator"),
        (lambda app: app.task(async_generator), "is a generator"),
        (lambda app: app.task("slow"), "Options are keywords"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda app: app.task(int), "made from a function"),
        (lambda app: app.task(bind=True)(lambda: None), "no first parameter"),
        (lambda app: app.task(app.task(name="x")(lambda: None)), "made from a function"),
    ]


@pytest.mark.parametrize(("define", "said"), not_a_task())
def test_what_cannot_be_a_task_is_refused(
    app: Acked, define: Callable[[Acked], Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        define(app)


def test_a_callable_without_a_name_takes_one(app: Acked) -> None:
    task = app.task(name="half")(functools.partial(divmod, 10))
    assert task.apply((3,)).get() == (3, 1)


# -- how it is found -------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    make = "from acked import Acked\n{0} = Acked('{0}', broker='memory://')\n"
    write(tmp_path / "find_one.py", make.format("app"))
    write(tmp_path / "find_other.py", make.format("queue"))
    write(tmp_path / "find_two.py", make.format("one") + make.format("two"))
    write(tmp_path / "find_none.py", "x = 1")
    write(tmp_path / "find_broken.py", "import find_nothing_of_that_name")
    write(tmp_path / "find_pkg" / "__init__.py", "")
    write(tmp_path / "find_pkg" / "acked.py", make.format("app"))
    write(tmp_path / "find_celery" / "__init__.py", "")
    write(tmp_path / "find_celery" / "celery.py", make.format("app"))
    write(tmp_path / "find_layout" / "__init__.py", "")
    write(tmp_path / "find_layout" / "celery.py", make.format("queue"))
    write(tmp_path / "find_layout" / "tasks.py", "from find_layout.celery import queue")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("find_one:app", "app"),
        ("find_one", "app"),
        ("find_other", "queue"),
        ("find_two:two", "two"),
        ("find_pkg", "app"),
        ("find_pkg.acked:app", "app"),
    ],
)
@pytest.mark.usefixtures("project")
def test_an_application_is_found_by_module_and_name(target: str, name: str) -> None:
    assert load_app(target).name == name


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("", "Write module:app"),
        ("find_missing", "no module named 'find_missing'"),
        ("find_pkg.missing:app", "no module named 'find_pkg.missing'"),
        ("find_one:queue", "no application 'queue'. It has find_one:app"),
        ("find_two", "does not say which application. It has find_two:one, find_two:two"),
        ("find_none", 'It makes none: write `app = Acked("find_none")`'),
        ("find_celery", "none, but find_celery.celery has one: name it, find_celery.celery:app."),
        ("find_celery:app", "has one: name it, find_celery.celery:app."),
        ("find_layout", "find_layout.tasks has one: name it, find_layout.tasks:queue."),
        (".find", "is not the name of a module"),
    ],
)
@pytest.mark.usefixtures("project")
def test_an_application_that_is_not_there_says_what_is(target: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_app(target)
    assert said in str(refused.value)


@pytest.mark.usefixtures("project")
def test_what_goes_wrong_inside_the_module_is_raised_as_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match="find_nothing_of_that_name"):
        load_app("find_broken")


@pytest.mark.parametrize("name", sorted(OF_THE_PACKAGE))
def test_what_celery_exports_and_acked_does_not_says_what_to_do(name: str) -> None:
    with pytest.raises(ImportError, match=f"acked has no {name}: "):
        exec(f"from acked import {name}")  # noqa: S102 - as a user writes it


def test_signatures_are_not_chained_by_a_bar(app: Acked) -> None:
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    with pytest.raises(TypeError, match="cannot be chained yet"):
        add.s(1, 2) | add.s(3)
