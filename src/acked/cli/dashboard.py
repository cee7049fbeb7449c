"""`acked dashboard`."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import logging
import os
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acked.app import Acked
from acked.cli.exits import Exit, Stop
from acked.cli.output import say
from acked.cli.source import Source, source_options, target_argument
from acked.hosts import is_loopback

if TYPE_CHECKING:
    from acked.dashboard import Users

TOKEN_VARIABLE = "ACKED_METRICS_TOKEN"  # noqa: S105 - the name of a variable, and no token

TAKEN = "cannot listen on {} port {}: it may be in use; give another with {}"
LOGGED = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@click.command()
@target_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option(
    "--users", "users_file", type=click.Path(path_type=Path), metavar="FILE",
    help="Who may log in: a line NAME:ROLE:HASH for each. Default: the lines in "
    "ACKED_DASHBOARD_USERS.",
)  # fmt: skip
@click.option("--read-only", is_flag=True, help="Nobody may change anything.")
@click.option(
    "--root-path", default="", metavar="PATH", help="Under which path a proxy shows it, as in /ops."
)
@click.option(
    "--trust-proxy", "proxies", multiple=True, metavar="ADDRESS",
    help="Believe what a proxy at this address or network (10.0.0.0/24) says about its visitors. "
    "One on this host is believed without it.",
)  # fmt: skip
@click.option("--certfile", type=click.Path(path_type=Path), help="Certificate, for TLS.")
@click.option("--keyfile", type=click.Path(path_type=Path), help="Its key.")
@click.option(
    "--metrics-port", type=click.IntRange(1, 65535),
    help="Also answer /metrics and /healthz there.",
)  # fmt: skip
@click.option(
    "--metrics-host", default="127.0.0.1", show_default=True,
    help=f"Address for those; another than this host's needs {TOKEN_VARIABLE}.",
)  # fmt: skip
@click.option(
    "--make-password", is_flag=True,
    help="Ask for a name and a password, and print a line for --users.",
)  # fmt: skip
@source_options
@click.pass_obj
def dashboard(
    source: Source, target: str | None, host: str, port: int, users_file: Path | None,
    read_only: bool, root_path: str, proxies: tuple[str, ...], certfile: Path | None,
    keyfile: Path | None, metrics_port: int | None, metrics_host: str, make_password: bool,
) -> None:  # fmt: skip
    """Show what the tasks do in a browser, and operate them.

    Without users it answers to this host alone. Elsewhere it asks for a password, and refuses to
    start where nobody has one. Roles are viewer and operator, or actions one by one (view, retry,
    cancel, discard, pause, purge, send).

    \b
    Examples:
      acked dashboard shop:app
      acked dashboard --make-password >> users.txt
      acked dashboard shop:app --host 0.0.0.0 --users users.txt --certfile c.pem --keyfile k.pem
      acked dashboard shop:app --metrics-port 9100
    """
    _check_installed()
    if make_password:
        click.echo(_user_line())
        return
    users = _users(users_file)
    token = os.environ.get(TOKEN_VARIABLE) or None
    trusted = _trusted(proxies, users)
    _check_reach(host, users, encrypted=certfile is not None or bool(trusted))
    _check_metrics_reach(metrics_host, metrics_port, token)
    logging.basicConfig(level=logging.INFO, format=LOGGED)
    with source.open(target, makes=True) as opened:
        app = opened.app or Acked("tasks", broker=opened.broker)  # type: ignore[arg-type]  # it keeps records: `open` looked
        with _metrics(app, metrics_host, metrics_port, token):
            _serve(
                app, users, host=host, port=port, root_path=root_path.rstrip("/"),
                read_only=read_only, trusted=trusted, certfile=certfile, keyfile=keyfile,
            )  # fmt: skip


def _check_installed() -> None:
    try:
        for name in ("uvicorn", "acked.dashboard"):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Stop(
            f"the dashboard needs {error.name}: pip install 'acked[dashboard]'", Exit.USAGE
        ) from None


def _user_line() -> str:
    from acked.dashboard import ROLES, hash_password  # noqa: PLC0415 - only this command needs it

    name = click.prompt("Name", err=True)
    role = click.prompt("Role", default="operator", type=click.Choice(list(ROLES)), err=True)
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return f"{name}:{role}:{hash_password(password)}"


def _users(path: Path | None) -> Users | None:
    from acked.dashboard.users import USERS_VARIABLE, Users  # noqa: PLC0415 - as above

    if path is not None:
        return Users.read(path)
    if text := os.environ.get(USERS_VARIABLE):
        return Users.parse(text.replace(";", "\n"), source=USERS_VARIABLE)
    return None


def _trusted(proxies: Sequence[str], users: Users | None) -> list[str]:
    """Networks of the proxies."""
    if proxies and users is None:
        raise Stop(
            "--trust-proxy is for a dashboard with users: without them it answers to nobody who "
            "comes through a proxy. Give --users FILE",
            Exit.USAGE,
        )
    networks: list[str] = []
    for given in proxies:
        try:
            network = ipaddress.ip_network(given)
        except ValueError as error:
            raise Stop(
                f"--trust-proxy: {error}: give the proxy's address, or a network, as in 10.0.0.7 "
                "and 10.0.0.0/24",
                Exit.USAGE,
            ) from None
        if network.prefixlen == 0:
            raise Stop(
                f"--trust-proxy {given} would let everybody say he is somebody else: name the "
                "proxies alone",
                Exit.USAGE,
            )
        networks.append(str(network))
        if network.version == 4:
            # So an address looks to a server that listens on `::`.
            networks.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return networks


def _check_reach(host: str, users: Users | None, *, encrypted: bool) -> None:
    if is_loopback(host):
        return
    if users is None:
        raise Stop(
            f"listening on {host} would let everybody in who can reach it: give --users FILE (a "
            "line for it comes from --make-password), or leave --host out",
            Exit.USAGE,
        )
    if not encrypted:
        say(f"note: passwords travel to {host} in the clear: give --certfile, or use a TLS proxy")


def _check_metrics_reach(host: str, port: int | None, token: str | None) -> None:
    if port is not None and token is None and not is_loopback(host):
        raise Stop(
            f"metrics on {host} could be read by everybody who can reach it: set {TOKEN_VARIABLE}, "
            "or leave --metrics-host out",
            Exit.USAGE,
        )


def _serve(
    app: Acked, users: Users | None, *, host: str, port: int, root_path: str, read_only: bool,
    trusted: list[str], certfile: Path | None, keyfile: Path | None,
) -> None:  # fmt: skip
    import uvicorn  # noqa: PLC0415 - only this command needs it

    from acked.dashboard import Dashboard  # noqa: PLC0415 - as above

    site = Dashboard(app, users=users, open_to_this_host=users is None, read_only=read_only)
    settings: dict[str, Any] = {
        "host": host, "port": port, "root_path": root_path,
        "server_header": False, "access_log": False, "log_level": "warning", "log_config": None,
        "timeout_graceful_shutdown": 3,
    }  # fmt: skip
    if trusted:
        settings["forwarded_allow_ips"] = ["127.0.0.1", "::1", *trusted]
    if certfile is not None:
        settings |= {"ssl_certfile": str(certfile), "ssl_keyfile": keyfile and str(keyfile)}
    server = uvicorn.Server(uvicorn.Config(site, **settings))
    try:
        socket = server.config.bind_socket()
    except SystemExit:
        raise Stop(TAKEN.format(host, port, "--port"), Exit.UNAVAILABLE) from None
    port = socket.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    say(f"dashboard on {'https' if certfile else 'http'}://{shown}:{port}{root_path}/")
    server.run(sockets=[socket])


@contextlib.contextmanager
def _metrics(app: Acked, host: str, port: int | None, token: str | None) -> Generator[None]:
    """The metrics beside it, on a port of their own."""
    if port is None:
        yield
        return
    import uvicorn  # noqa: PLC0415 - only this command needs it

    from acked.dashboard import Metrics  # noqa: PLC0415 - as above

    config = uvicorn.Config(
        Metrics(app, token=token), host=host, port=port, server_header=False, access_log=False,
        log_level="warning", log_config=None,
    )  # fmt: skip
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise Stop(TAKEN.format(host, port, "--metrics-port"), Exit.UNAVAILABLE) from None
    server = uvicorn.Server(config)
    # In another thread than the main one it leaves the signals to the dashboard.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(5)
